package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Exit
	}{
		{errors.New("anything"), Failed},
		{&Fault{Exit: Waiting}, Waiting},
		{&commands.Refusal{Code: commands.NotFound}, NotFound},
		{&commands.Refusal{Code: commands.Denied}, Denied},
		{&commands.Refusal{Code: commands.Conflict}, Conflict},
		{&commands.Refusal{Code: commands.Invalid}, Usage},
		{&commands.Refusal{Code: commands.Unavailable}, Unavailable},
		{&projections.NotFoundError{Noun: "user", Ref: "x"}, NotFound},
		{&projections.ConflictError{Noun: "user", Name: "x"}, Conflict},
		{&projections.FailedError{Err: errors.New("x")}, Unavailable},
		{&projections.FailedError{Err: &store.DamageError{}}, Damaged},
		{projections.ErrRebuilding, Conflict},
		{replay.ErrNoChannel, NotFound},
		{replay.ErrRecordOrder, Damaged},
		{&replay.IncompleteError{}, Partly},
		{vault.ErrBadSecret, Usage},
		{&store.DamageError{}, Damaged},
		{store.ErrFull, Unavailable},
		{store.ErrClosed, Unavailable},
		{context.DeadlineExceeded, Unavailable},
	} {
		for _, err := range []error{c.err, fmt.Errorf("around it: %w", c.err)} {
			f := AsFault(err)
			if f.Exit != c.want {
				t.Errorf("%T %v: exit %d, want %d", c.err, err, f.Exit, c.want)
			}
		}
	}
	if Exit(99).String() != "failed" || Exit(-1).String() != "failed" {
		t.Error("a code without a name has no name to show")
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		in   string
		sign int
		want string // empty for a usage error
	}{
		{"2026-02-01T00:00:00Z", 1, "2026-02-01T00:00:00Z"},
		{"2026-02-01T00:00:00+02:00", 1, "2026-01-31T22:00:00Z"},
		{"8h", 1, "2026-01-31T20:00:00Z"},
		{"8h", -1, "2026-01-31T04:00:00Z"},
		{"30d", 1, "2026-03-02T12:00:00Z"},
		{"2w", -1, "2026-01-17T12:00:00Z"},
		{"1h30m", 1, "2026-01-31T13:30:00Z"},
		{"-8h", 1, ""}, {"d", 1, ""}, {"99999999999d", 1, ""}, {"200000d", 1, ""}, {"tomorrow", 1, ""}, {"8", 1, ""},
		{"1.5d", 1, ""}, {"2026-02-01", 1, ""}, {"2026-02-30T00:00:00Z", 1, ""},
	} {
		got, err := pointInTime(c.in, now, c.sign)
		switch {
		case c.want == "" && (err == nil || AsFault(err).Exit != Usage):
			t.Errorf("pointInTime(%q) = %s, %v; want a usage error", c.in, got, err)
		case c.want != "" && (err != nil || stamp(got) != c.want || got.Location() != time.UTC):
			t.Errorf("pointInTime(%q) = %s, %v; want %s", c.in, got, err, c.want)
		}
	}
	if got, err := pointInTime("", now, 1); err != nil || !got.IsZero() {
		t.Errorf("no time gives %s, %v", got, err)
	}
}

func TestTrimNewline(t *testing.T) {
	for in, want := range map[string]string{
		"pw": "pw", "pw\n": "pw", "pw\r\n": "pw", "pw\n\n": "pw\n", " pw ": " pw ", "pw\r": "pw\r", "\n": "",
	} {
		if got := string(trimNewline([]byte(in))); got != want {
			t.Errorf("trimNewline(%q) = %q, want %q", in, got, want)
		}
	}
}

// Joined errors are one message: nothing in it looks like an escape.
func TestJoinedErrorsStandOnOneLine(t *testing.T) {
	err := fmt.Errorf("open the site: %w", errors.Join(errors.New("first"), fmt.Errorf("these failed:\n\n  %w\n", errors.New("second"))))
	for asJSON, want := range map[bool]string{
		false: "error: open the site: first; these failed: second\n", true: `"message":"open the site: first; these failed: second"`,
	} {
		var b strings.Builder
		WriteFault(&b, AsFault(err), asJSON)
		if !strings.Contains(b.String(), want) {
			t.Errorf("got %q, want %q", b.String(), want)
		}
	}
}
