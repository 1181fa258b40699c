package console

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-pam/holdfast/events"
)

// attacks are values that some program somewhere takes for more than text.
func attacks(outside string) []string {
	secret, created := filepath.Join(outside, "secret"), filepath.Join(outside, "created")
	return []string{
		secret, "@" + secret, "file://" + secret, "<" + secret, "$(<" + secret + ")", "../../../../../.." + secret,
		"$(touch " + created + ")", "`touch " + created + "`", ";touch " + created, "|touch " + created, "&&touch " + created,
		">" + created, created, "/etc/passwd", "~/.ssh/id_ed25519", "/dev/stdin", "/proc/self/environ", "|/bin/sh", "$HOME", "%s%n",
		"127.0.0.1:1", "http://127.0.0.1:1/", "-", "--", "--help", "", "'", "\\", "a\nb", "a\x00b", "\x1b[2J", "\xff",
		strings.Repeat("A", 4096), "root+web1", "last", "opal", "web1",
	}
}

// No value of any flag or argument of any verb makes the site read, write, run
// or dial what it names. Each verb meets every sixth value, all of them with
// HOLDFAST_TEST_FULL.
func TestArgumentsAreData(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	w.record(w.operator, "hello\n")
	w.scanned = nil
	outside := t.TempDir()
	const canary = "canary-7f3a"
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	before := files(t, w.site.Dir(), outside, ".")
	var lines []string
	for i, attack := range attacks(outside) {
		lines = append(lines, attack)
		n := i
		walk(Nouns(), func(path string, cmd *cobra.Command) {
			if n++; n%6 == 0 || os.Getenv("HOLDFAST_TEST_FULL") != "" {
				lines = append(lines, attackLines(path, cmd, attack)...)
			}
		})
	}
	for i, words := range lines {
		r := w.run(w.admin, words, "")
		if strings.Contains(r.out+r.err, canary) || strings.Contains(r.out+r.err, "root:x:0") {
			t.Fatalf("%q shows the content of a file: %s%s", words, r.out, r.err)
		}
		if strings.HasPrefix(words, "session play") {
			r.out = "" // it draws, through a filter of its own
		}
		if strings.HasPrefix(r.out, "age-encryption.org/") {
			r.out = "" // encrypted, and never for a terminal
		}
		if !harmless(r.out + r.err) {
			t.Fatalf("%q (line %d) writes what a terminal obeys: %q", words, i, r.out+r.err)
		}
	}
	if len(w.scanned) > 0 {
		t.Errorf("addresses were dialled: %q", w.scanned)
	}
	if after := files(t, w.site.Dir(), outside, "."); !slices.Equal(after, before) {
		t.Errorf("files were made or removed:\nbefore %q\nafter  %q", before, after)
	}
	t.Logf("%d lines", len(lines))
}

// attackLines puts a value into every argument, and into every flag that takes one.
func attackLines(path string, cmd *cobra.Command, attack string) []string {
	arguments, _ := arity(cmd.Use)
	verb := strings.Fields(path)
	args := slices.Repeat([]string{attack}, arguments)
	harmless := slices.Repeat([]string{"x+y"}, arguments)
	lines := []string{shellquote.Join(append(slices.Clone(verb), args...)...), path + " " + attack}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "follow" || f.Name == "scan" {
			return // without end, or meant to dial
		}
		value := "--" + f.Name + "=" + attack
		lines = append(lines, shellquote.Join(append(append(slices.Clone(verb), harmless...), value)...))
	})
	return lines
}

// files lists what is below some directories, but for what a site's own logs
// and views add as they grow.
func files(t *testing.T, dirs ...string) []string {
	t.Helper()
	all := map[string]bool{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !strings.Contains(path, "/log/") && !strings.Contains(path, "/views/") {
				all[path] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// The sources of this package have no way to files, programs or addresses.
func TestNoWayOut(t *testing.T) {
	forbidden := []string{"os", "os/exec", "os/user", "net", "net/http", "syscall", "unsafe", "plugin", "io/fs", "io/ioutil", "path/filepath",
		"embed", "golang.org/x/sys", "html/template", "text/template"}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range file.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			for _, f := range forbidden {
				if path == f || strings.HasPrefix(path, f+"/") {
					t.Errorf("%s imports %s", name, path)
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Dial", "DialContext", "OpenFile", "ReadFile", "WriteFile", "MarkFlagFilename", "CheckErr"}, call.Sel.Name) {
				t.Errorf("%s uses %s", name, call.Sel.Name)
			}
			return true
		})
	}
}

// Every verb states a right, and each role gets through exactly where the
// table says; each denial is an event that its error names.
func TestRights(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	people := map[events.Role]Person{events.Admin: w.admin, events.Auditor: w.auditor, events.Operator: w.operator}
	want := map[right][]events.Role{
		own:    {events.Admin, events.Auditor, events.Operator},
		read:   {events.Admin, events.Auditor},
		change: {events.Admin},
		judged: {events.Admin}, // of an account that does not exist
	}
	walk(Nouns(), func(path string, cmd *cobra.Command) {
		needed := right(cmd.Annotations[rightNeeded])
		if want[needed] == nil {
			t.Errorf("%s states no right", path)
		}
		if path == "projection rebuild" {
			return
		}
		arguments, _ := arity(cmd.Use)
		line := path + strings.Repeat(" x+y", arguments)
		for role, p := range people {
			r := w.run(p, line+" --json", "")
			if allowed := slices.Contains(want[needed], role); allowed == (r.exit == Denied) {
				t.Errorf("%s by %s: exit %d, allowed is %t: %s", line, role, r.exit, allowed, r.err)
			}
			if r.exit == Denied {
				w.mustBeDenied(line, r)
			}
		}
	})
	if allows("", own) || allows("king", own) || allows(events.Operator, "") {
		t.Error("a role or right that does not exist is allowed")
	}
}

// mustBeDenied checks the answer of a denial made with --json.
func (w *world) mustBeDenied(line string, r result) {
	w.Helper()
	denials := w.audited("access.denied")
	last := denials[len(denials)-1]
	e, err := last.Event()
	if err != nil {
		w.Fatal(err)
	}
	denied := e.(events.AccessDenied)
	if r.out != "" || !strings.Contains(r.err, fmt.Sprintf("%q", last.Header.ID)) {
		w.Errorf("%s: the denial does not name its event %s: %s%s", line, last.Header.ID, r.out, r.err)
	}
	if denied.Reason != events.NotAllowedVerb || denied.User.IsZero() || denied.Source != "192.0.2.1:4242" {
		w.Errorf("%s: the denial is recorded as %+v", line, denied)
	}
}

// An operator reads what is theirs and nothing of others.
func TestOwnSessions(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	w.must("grant add ada root+web1")
	theirs := w.record(w.admin, "secret of ada\n").String()
	mine := w.record(w.operator, "my own\n").String()
	for _, c := range []struct {
		line string
		want Exit
		out  string
	}{
		{"session export " + mine, Done, "my own\n"},
		{"session export last", Done, "my own\n"},
		{"session show " + theirs, Denied, ""},
		{"session export " + theirs, Denied, ""},
		{"session play " + theirs, Denied, ""},
		{"session show " + theirs[:35], NotFound, ""},
		{"session ls --user " + w.admin.ID.String(), Denied, ""},
	} {
		r := w.run(w.operator, c.line+" --json", "")
		if r.exit != c.want || r.out != c.out {
			t.Errorf("%s: exit %d, want %d\n%s%s", c.line, r.exit, c.want, r.out, r.err)
		}
		if c.want == Denied {
			w.mustBeDenied(c.line, r)
		}
	}
	if r := w.run(w.operator, "session ls", ""); strings.Contains(r.out, theirs) || !strings.Contains(r.out, mine) {
		t.Errorf("an operator's sessions are\n%s", r.out)
	}
	if r := w.run(w.auditor, "session export "+theirs, ""); r.exit != Done || r.out != "secret of ada\n" {
		t.Errorf("an auditor got %d\n%s%s", r.exit, r.out, r.err)
	}
}

// A reader that goes away, in help and in errors too, ends the call and not
// the site.
func TestBrokenStreams(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{"", "help", "help nope", "user ls", "user --help", "user", "nope", "whoami --json", "user show nobody", "session play last", "projection rebuild"} {
		w.console.Run(t.Context(), &Request{Person: w.admin, Line: line, Stdin: strings.NewReader(""), Stdout: &failing{}, Stderr: &failing{}})
	}
}

// A mistake in a verb ends the call with an error and leaves the site alone.
func TestPanic(t *testing.T) {
	w := newWorld(t)
	w.console.cfg.Verify = nil
	r := w.run(w.admin, "log verify", "")
	if r.exit != Failed || !strings.Contains(r.err, "error: ") {
		t.Errorf("exit %d\n%s%s", r.exit, r.out, r.err)
	}
}
