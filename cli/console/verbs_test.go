package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/events"
)

// transcript runs lines and gives what a person sees.
func (w *world) transcript(p Person, lines ...string) string {
	w.Helper()
	var b strings.Builder
	for _, line := range lines {
		r := w.run(p, line, "")
		fmt.Fprintf(&b, "$ %s\n%s%s", line, r.out, r.err)
		if r.exit != Done {
			fmt.Fprintf(&b, "[exit %d]\n", r.exit)
		}
	}
	return plain(b.String())
}

func TestWhatPeopleSee(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	w.record(w.operator, "hello\n")
	golden(t, "admin", w.transcript(w.admin,
		"whoami", "version", "user ls", "user show opal", "target ls", "target show web1", "account ls", "account show root+web1",
		"grant ls", "credential ls", "credential show root+web1", "session ls", "session show last", "audit tail -n 3", "audit show 5"))
	golden(t, "json", w.transcript(w.admin,
		"whoami --json", "version --json", "user ls --json", "user show opal --json", "target ls --json", "account ls --json",
		"grant ls --json", "credential ls --json", "session ls --json", "session show last --json", "audit tail -n 2 --json", "audit show 5 --json"))
	golden(t, "operator", w.transcript(w.operator,
		"whoami", "target ls", "target show web1", "target show db1", "account ls", "account show postgres+db1", "grant ls",
		"session ls", "session show last", "session ls --user ada", "user ls", "audit tail --json"))
	golden(t, "errors", w.transcript(w.admin,
		"frobnicate", "user", "user frobnicate", "user lst", "user show", "user show nobody", "user show nobody --json", "user add", "user add eve",
		"user add ada --key '"+keyText("x")+"'", "user add eve --key nonsense", "user add eve --key '"+keyText("x")+"' --role king",
		"target add x", "target add x --addr x:1", "target add x --addr x:1 --host-key a --scan", "account add root+web1", "account add root",
		"account add root+web1 --password-stdin", "grant add opal root+web1", "grant add opal root+db1", "grant add opal postgres+db1 --expires yesterday",
		"grant rm opal", "session show abc", "session show abcdefabcdef", "session kill last", "session export last --format exe",
		"session export last --format text --direction in", "session export last --channel 5", "session play last --speed 0",
		"user ls --limit 0", "user ls --nope", "user ls extra", "user disable opal two words", "audit show nope", "'open", "__complete user", "user disable ada"))
}

func TestWhatAGrantAllowsIsShown(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	golden(t, "terms", w.transcript(w.admin,
		"grant add opal root+web1 --allow agent --idle 15m", "grant rm opal root+web1",
		"grant add opal root+web1 --allow dynamic,agent --to 10.0.0.0/8:5432,localhost:*,/run/app/*.sock --max-time 8h --idle 15m --max-sessions 4", "grant ls",
		"grant add opal postgres+db1 --allow remote --listen localhost:8000-8999 --json", "target limit web1 --max-sessions 10", "target show web1 --json",
		"user limit opal --max-sessions 2", "user show opal", "user limit opal", "user show opal",
		"grant add ada root+web1 --allow x11", "grant add ada root+web1 --allow local", "grant add ada root+web1 --to *:*", "grant add ada root+web1 --allow local --to web1",
		"grant add ada root+web1 --idle 500ms", "grant add ada root+web1 --idle soon", "grant add ada root+web1 --max-time 4000w", "grant add ada root+web1 --max-sessions -1",
		"grant add opal root+web1", "target limit nowhere --max-sessions 1"))
	id := w.audited("grant.added")[1].Header.Stream.String()
	golden(t, "terms_one", w.transcript(w.operator, "grant show "+id, "target limit web1", "user limit opal"))
}

func TestHelp(t *testing.T) {
	w := newWorld(t)
	lines := []string{"", "help", "--help", "help user add", "user add --help", "help nope"}
	for _, cmd := range Nouns() {
		lines = append(lines, cmd.Name()+" --help")
	}
	golden(t, "help", w.transcript(w.operator, lines...))
	var missing []string
	walk(Nouns(), func(path string, cmd *cobra.Command) {
		if r := w.run(w.operator, path+" --help", ""); r.exit != Done || !strings.Contains(r.out, cmd.Short) {
			missing = append(missing, path)
		} else {
			for line := range strings.Lines(r.out) {
				if strings.Count(line, "(default") > 1 {
					t.Errorf("%s --help gives two defaults: %s", path, line)
				}
			}
		}
	})
	if len(missing) > 0 {
		t.Errorf("no help for %v", missing)
	}
}

// walk visits every verb of a tree with its path.
func walk(cmds []*cobra.Command, visit func(path string, cmd *cobra.Command)) {
	for _, cmd := range cmds {
		if !cmd.HasSubCommands() {
			path := cmd.Name()
			for p := cmd.Parent(); p != nil; p = p.Parent() {
				path = p.Name() + " " + path
			}
			visit(path, cmd)
		}
		walk(cmd.Commands(), visit)
	}
}

// TestChanges follows everything that an administrator sets up and takes away.
func TestChanges(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	if len(w.scanned) != 1 || w.scanned[0] != "192.0.2.7:2222" {
		t.Errorf("scanned %q", w.scanned)
	}
	for _, step := range []struct{ line, stdin, kind, field, want string }{
		{"user add bob --key - --json", keyText("bob") + " bob@desk\n", "user", "name", "bob"},
		{"user add eve --role auditor --json --key '" + keyText("eve") + "'", "", "user", "role", "auditor"},
		{"user key add eve --key - --json", keyText("eve2"), "user", "name", "eve"},
		{"user key rm eve " + ssh.FingerprintSHA256(publicKey("eve")) + " --json", "", "user", "name", "eve"},
		{"user disable eve --reason gone --json", "", "user", "state", "disabled"},
		{"target add sw1 --addr '[2001:db8::1]:22' --host-key - --json", keyText("a") + "\n" + keyText("b") + "\n", "target", "addr", "[2001:db8::1]:22"},
		{"target pin sw1 --scan --json", "", "target", "scanned", "true"},
		{"target allow sw1 --algorithm ssh-rsa --json", "", "target", "algorithms", "[ssh-rsa]"},
		{"target allow sw1 --json", "", "target", "algorithms", "[]"},
		{"account add admin+sw1 --password-stdin --json", "secret", "account", "name", "admin"},
		{"grant add bob admin+sw1 --expires 8h --json", "", "grant", "state", "active"},
		{"grant rm bob admin+sw1 --json", "", "grant", "state", "removed"},
		{"account rm admin+sw1 --json", "", "account", "state", "removed"},
		{"target rm sw1 --json", "", "target", "state", "removed"},
		{"user-ca add corp --key - --json", keyText("corp"), "user-ca", "state", "trusted"},
		{"user-ca revoke corp --key - --json", keyText("bob"), "user-ca", "name", "corp"},
		{"user-ca rm corp --reason replaced --json", "", "user-ca", "reason", "replaced"},
	} {
		r := w.run(w.admin, step.line, step.stdin)
		var a struct {
			Kind, APIVersion string
			Item             map[string]any
		}
		if err := json.Unmarshal([]byte(r.out), &a); err != nil || r.exit != Done {
			t.Fatalf("%s: exit %d, %v\n%s%s", step.line, r.exit, err, r.out, r.err)
		}
		if got := fmt.Sprint(a.Item[step.field]); a.Kind != step.kind || a.APIVersion != APIVersion || got != step.want {
			t.Errorf("%s gave %s %s=%s, want %s %s", step.line, a.Kind, step.field, got, step.kind, step.want)
		}
	}
	w.must("grant add bob root+web1 --expires 2999-01-01T00:00:00Z")
	grants := w.audited("grant.added")
	w.must("grant rm " + grants[len(grants)-1].Header.Stream.String())
	if n := len(w.audited("grant.removed")); n != 2 {
		t.Errorf("%d grants were removed, want 2", n)
	}
}

// What can't be added is not dialled, and what is dialled is on record before,
// whatever comes of it.
func TestAScanIsOnRecord(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	w.scanned = nil
	for line, want := range map[string]Exit{
		"target add '!!' --addr 10.0.0.7:5432 --scan": Usage, "target add web1 --addr 10.0.0.8:22 --scan": Conflict,
		"target add web9 --addr 'not an address' --scan": Usage, "target pin nowhere --scan": NotFound,
	} {
		if r := w.run(w.admin, line, ""); r.exit != want || len(w.scanned) > 0 {
			t.Errorf("%s: exit %d, want %d; dialled %q\n%s", line, r.exit, want, w.scanned, r.err)
		}
	}
	if r := w.run(w.operator, "target add web9 --addr 10.0.0.9:22 --scan", ""); r.exit != Denied || len(w.scanned) > 0 {
		t.Errorf("an operator: exit %d, dialled %q", r.exit, w.scanned)
	}
	before := len(w.audited("target.scan_requested"))
	scan := w.console.cfg.Scan
	w.console.cfg.Scan = func(ctx context.Context, addr string) ([]ssh.PublicKey, error) {
		if n := len(w.audited("target.scan_requested")); n != before+1 {
			t.Errorf("%s is dialled with %d scans on record, want %d", addr, n, before+1)
		}
		return nil, errors.New("no route to host")
	}
	for _, line := range []string{"target add web9 --addr 10.0.0.9:22 --scan", "target pin web1 --scan"} {
		r := w.run(w.admin, line, "")
		all := w.audited("target.scan_requested")
		if before = len(all); r.exit != Unavailable || !strings.Contains(r.err, "no route to host") {
			t.Errorf("%s: exit %d\n%s", line, r.exit, r.err)
		}
	}
	w.console.cfg.Scan = scan
	w.must("target add web9 --addr 10.0.0.9:22 --scan")
	scans, added := w.audited("target.scan_requested"), w.audited("target.added")
	if got, want := added[len(added)-1].Header.Stream, scans[len(scans)-1].Header.Stream; got != want {
		t.Errorf("the target is %s, its scan is about %s", got, want)
	}
}

// Secrets are taken as they are but for one line end, and never come back.
func TestSecretInput(t *testing.T) {
	w := newWorld(t)
	w.must("target add web1 --addr web1:22 --host-key '" + keyText("web1") + "'")
	const encrypted = "-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n-----END OPENSSH PRIVATE KEY-----\n"
	for i, c := range []struct {
		flag, stdin string
		want        Exit
	}{
		{"--password-stdin", "correct horse\n", Done},
		{"--password-stdin", "correct horse\r\n", Done},
		{"--password-stdin", " spaces kept ", Done},
		{"--password-stdin", "two\nlines\n", Usage},
		{"--password-stdin", "", Usage},
		{"--password-stdin", "\n", Usage},
		{"--password-stdin", strings.Repeat("x", maxInput+1), Usage},
		{"--password-stdin --private-key-stdin", "x", Usage},
		{"--private-key-stdin", "no key", Usage},
		{"--private-key-stdin", encrypted, Usage},
	} {
		r := w.run(w.admin, fmt.Sprintf("account add user%d+web1 %s", i, c.flag), c.stdin)
		if r.exit != c.want {
			t.Errorf("%s with %.20q: exit %d, want %d: %s", c.flag, c.stdin, r.exit, c.want, r.err)
		}
		if secret := strings.TrimSpace(c.stdin); len(secret) > 3 && strings.Contains(r.out+r.err, secret) {
			t.Errorf("%s repeats what was read from standard input: %s%s", c.flag, r.out, r.err)
		}
	}
}

func TestLogVerifySaysWhatIsDamaged(t *testing.T) {
	w := newWorld(t)
	reports, err := w.site.VerifyLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.damage = reports
	if r := w.run(w.auditor, "log verify", ""); r.exit != Done || !strings.Contains(r.out, "ok") {
		t.Errorf("exit %d\n%s%s", r.exit, r.out, r.err)
	}
	reports[0].Epochs[0].Problems = []error{fmt.Errorf("position 3 is \x1b[31mnot what was written")}
	r := w.run(w.auditor, "log verify", "")
	if r.exit != Damaged || !strings.Contains(r.out, `position 3 is \x1b[31mnot`) || !strings.Contains(r.err, "error: position 3") {
		t.Errorf("exit %d\n%s%s", r.exit, r.out, r.err)
	}
	if r := w.run(w.auditor, "log verify --json", ""); r.exit != Damaged || !strings.Contains(r.err, `"code":"integrity"`) {
		t.Errorf("exit %d\n%s%s", r.exit, r.out, r.err)
	}
}

func TestProjections(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	before := w.run(w.auditor, "projection digest --json", "")
	r := w.run(w.admin, "projection rebuild --json", "")
	if before.exit != Done || r.exit != Done || r.out != before.out || r.err != "" {
		t.Errorf("a rebuild gave %d\n%s%s, before was %d\n%s%s", r.exit, r.out, r.err, before.exit, before.out, before.err)
	}
	if r := w.run(w.admin, "projection rebuild", ""); r.exit != Done || !strings.Contains(r.err, "records") {
		t.Errorf("no progress on standard error: %q", r.err)
	}
	for _, line := range []string{"projection ls", "log stat", "status"} {
		if r := w.run(w.auditor, line, ""); r.exit != Done || r.out == "" {
			t.Errorf("%s: exit %d\n%s%s", line, r.exit, r.out, r.err)
		}
	}
}

// The caller's role counts as it is now, not as it was when they logged in.
func TestDisabledMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.must("user disable opal")
	r := w.run(w.operator, "whoami", "")
	if r.exit != Denied || r.out != "" || len(w.audited("access.denied")) != 1 {
		t.Errorf("a disabled user got %d\n%s%s", r.exit, r.out, r.err)
	}
	if r := w.run(Person{ID: events.UserID{}}, "whoami", ""); r.exit != Denied || r.out != "" {
		t.Errorf("nobody got %d\n%s%s", r.exit, r.out, r.err)
	}
}
