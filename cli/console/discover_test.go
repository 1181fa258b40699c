package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
)

// discover answers for every target: with an account that is known here, one
// that is not, and words that a terminal would obey.
func (w *world) discover(ctx context.Context, sought events.Record) (events.Record, error) {
	e, err := sought.Event()
	if err != nil {
		return events.Record{}, err
	}
	if w.silent {
		return events.Record{}, errors.New("no route to host")
	}
	records, err := w.site.Commands().Do(ctx, events.SiteActor(w.site.ID()), commands.RecordAccounts{
		Target: events.TargetID{UUID: sought.Header.Stream}, Via: e.(events.AccountsSought).Via, Sought: sought.Header.ID,
		Accounts: []events.FoundAccount{
			{Name: "root", ID: "0", Login: true, Rights: []string{"uid 0"}},
			{Name: "e\x1b[2Jve\n", ID: "1001", Login: true, Keys: []string{"SHA256:x"}, Rights: []string{strings.Repeat("\xffy", 9000)}},
			{Name: "daemon", ID: "2"},
		},
	})
	if err != nil {
		return events.Record{}, err
	}
	return records[0], nil
}

func TestDiscoveredAccounts(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	w.must("account add gone+web1 --password-stdin")
	if r := w.run(w.admin, "account discover web1 --last", ""); r.exit != NotFound {
		t.Errorf("before anybody asked: exit %d, %s", r.exit, r.err)
	}
	r := w.run(w.admin, "account discover web1 --via root+web1", "")
	if r.exit != Done || !harmless(r.out) {
		t.Fatalf("exit %d, %q %s", r.exit, r.out, r.err)
	}
	for account, state := range map[string]string{"root+web1": "known", "gone+web1": "orphaned", `ve`: "unknown"} {
		if !strings.Contains(r.out, account) || !strings.Contains(r.out, state) {
			t.Errorf("%s is not shown as %s:\n%s", account, state, r.out)
		}
	}
	if strings.Contains(r.out, "daemon") || !strings.Contains(w.run(w.admin, "account discover web1 --last --all", "").out, "daemon") {
		t.Errorf("an account that nobody can log in as:\n%s", r.out)
	}
	sought, found := w.audited("target.accounts_sought"), w.audited("target.accounts_found")
	if len(sought) != 1 || len(found) != 1 || found[0].Header.Parent != sought[0].Header.ID || len(found[0].Raw.Payload) > 4096 {
		t.Errorf("%d sought, %d found", len(sought), len(found))
	}
	for line, want := range map[string]Exit{
		"account discover web1": Usage, "account discover web1 --via postgres+db1": Usage, "account discover nowhere --via root+web1": NotFound,
		"account discover web1 --via nobody+web1": NotFound,
	} {
		if r := w.run(w.admin, line, ""); r.exit != want || len(w.audited("target.accounts_sought")) != 1 {
			t.Errorf("%s: exit %d, %s", line, r.exit, r.err)
		}
	}
	if r := w.run(w.operator, "account discover web1 --via root+web1", ""); r.exit != Denied {
		t.Errorf("an operator: exit %d", r.exit)
	}
	w.silent = true
	if r := w.run(w.admin, "account discover web1 --via root+web1 --json", ""); r.exit != Unavailable || !strings.Contains(r.err, fmt.Sprint(w.audited("target.accounts_sought")[1].Header.ID)) {
		t.Errorf("a target that is down: exit %d, %s", r.exit, r.err)
	}
}
