package console

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/kballard/go-shellquote"
	"pgregory.net/rapid"
)

func TestSplitLine(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{"", []string{}},
		{"   ", []string{}},
		{"user ls", []string{"user", "ls"}},
		{"  user   ls  ", []string{"user", "ls"}},
		{`user add 'a b' --key "x y"`, []string{"user", "add", "a b", "--key", "x y"}},
		{`a\ b ''`, []string{"a b", ""}},
		{"a;b | c && d", []string{"a;b", "|", "c", "&&", "d"}},
		{"$(cmd) `cmd` $HOME ~ * ?", []string{"$(cmd)", "`cmd`", "$HOME", "~", "*", "?"}},
		{"# no comment", []string{"#", "no", "comment"}},
		{"> /etc/passwd", []string{">", "/etc/passwd"}},
	} {
		got, err := splitLine(c.line)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("splitLine(%q) = %q, %v; want %q", c.line, got, err, c.want)
		}
	}
	for _, line := range []string{
		`"open`, `'open`, `end\`, "nul\x00", "new\nline", "tab\t", "esc\x1b[2J", "del\x7f", "c1\u009b", "bad\xff",
		strings.Repeat("x", maxLine+1),
	} {
		if words, err := splitLine(line); AsFaultOrNil(err) == nil || AsFault(err).Exit != Usage {
			t.Errorf("splitLine(%.20q) = %q, %v; want a usage error", line, words, err)
		}
	}
}

// AsFaultOrNil is AsFault for an error that may be nil.
func AsFaultOrNil(err error) *Fault {
	if err == nil {
		return nil
	}
	return AsFault(err)
}

// What the thin client quotes, the console splits into the same words, or
// refuses.
func TestQuotedWordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.String(), 0, 6).Draw(t, "words")
		got, err := splitLine(shellquote.Join(words...))
		control := slices.ContainsFunc(words, func(w string) bool { return strings.ContainsFunc(w, unicode.IsControl) })
		switch {
		case control && err == nil:
			t.Fatalf("%q was accepted", words)
		case !control && (err != nil || !slices.Equal(got, words)):
			t.Fatalf("%q came back as %q, %v", words, got, err)
		}
	})
}

func FuzzSplitLine(f *testing.F) {
	f.Add(`user add "a b" --key 'c'\ d`)
	f.Add("\\")
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitLine(line)
		if err != nil {
			var fault *Fault
			if !errors.As(err, &fault) || fault.Exit != Usage {
				t.Fatalf("error %v is no usage error", err)
			}
			return
		}
		if strings.ContainsFunc(strings.Join(words, ""), unicode.IsControl) {
			t.Fatalf("%q has control characters", words)
		}
	})
}
