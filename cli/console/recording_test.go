package console

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

func TestExport(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	binary := []string{"caf\xc3", "\xa9\r\n\x00\x1b[31mred\xff"}
	id := w.record(w.operator, binary...).String()
	out := strings.Join(binary, "")
	for _, c := range []struct{ options, want string }{
		{"", out}, {"--format raw", out}, {"--direction out", out}, {"--direction in", "typed"}, {"--direction err", "oops"}, {"--channel 0", out},
	} {
		if r := w.run(w.auditor, "session export "+id+" "+c.options, ""); r.exit != Done || r.out != c.want {
			t.Errorf("%s: exit %d, %q, want %q: %s", c.options, r.exit, r.out, c.want, r.err)
		}
	}
	for _, format := range []string{"cast", "cast2", "text", "json"} {
		r := w.run(w.auditor, "session export "+id+" --format "+format, "")
		if r.exit != Done || !harmless(r.out) && format == "json" || r.out == "" {
			t.Errorf("%s: exit %d\n%q%s", format, r.exit, r.out, r.err)
		}
		if first, _, _ := strings.Cut(r.out, "\n"); format != "text" && !json.Valid([]byte(first)) {
			t.Errorf("%s begins with %q", format, first)
		}
	}
	if n := len(w.audited("session.read")); n != 10 {
		t.Errorf("%d readings are on record, want 10", n)
	}
	if r := w.run(w.auditor, "session show "+id[:30]+" --json", ""); r.exit != Done || !strings.Contains(r.out, `"reads":10`) {
		t.Errorf("exit %d\n%s%s", r.exit, r.out, r.err)
	}
}

// typing is a person at a terminal.
type typing struct {
	keys chan string
	left string
}

func (p *typing) Read(b []byte) (int, error) {
	if p.left == "" {
		keys, ok := <-p.keys
		if !ok {
			return 0, io.EOF
		}
		p.left = keys
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

// onTerminal runs a line with a terminal, on which keys are typed.
func (w *world) onTerminal(line string, keys ...string) result {
	w.Helper()
	person := &typing{keys: make(chan string, len(keys)+1)}
	for _, k := range keys {
		person.keys <- k
	}
	defer close(person.keys)
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	exit := w.console.Run(ctx, &Request{
		Person: w.admin, Line: line, Stdin: person, Stdout: &out, Stderr: &err, Terminal: &Terminal{Kind: "xterm", Size: Size{80, 24}},
	})
	if ctx.Err() != nil {
		w.Fatalf("%s did not end", line)
	}
	return result{out.String(), err.String(), exit}
}

func TestTerminal(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	w.record(w.operator, "one\ntwo\x1b]52;c;ZXZpbA==\x07\n")
	if r := w.onTerminal("version"); r.exit != Done || strings.Count(r.out, "\n") != strings.Count(r.out, "\r\n") {
		t.Errorf("exit %d, %q", r.exit, r.out)
	}
	if r := w.onTerminal("nope"); r.exit != Usage || !strings.HasSuffix(r.err, "\r\n") {
		t.Errorf("exit %d, %q", r.exit, r.err)
	}
	r := w.onTerminal("session play last")
	if r.exit != Done || !strings.HasPrefix(r.out, "one\r\ntwo\r\n") || strings.Contains(r.out, "52;c") || strings.Contains(r.out, "\r\r") {
		t.Errorf("play: exit %d, %q", r.exit, r.out)
	}
	if r := w.onTerminal("session export last"); r.exit != Usage || r.out != "" {
		t.Errorf("raw bytes on a terminal: exit %d, %q", r.exit, r.out)
	}
	if r := w.onTerminal("user add kim --key -", keyText("kim")+"\r", "\x04"); r.exit != Done {
		t.Errorf("a typed key: exit %d, %s", r.exit, r.err)
	}
	if r := w.onTerminal("user add lee --key -", "half\x03"); r.exit != Failed || !strings.Contains(r.err, "interrupted") {
		t.Errorf("Ctrl-C: exit %d, %s", r.exit, r.err)
	}
	if r := w.onTerminal("user add lee --key -", strings.Repeat("x", maxInput+10)); r.exit != Usage {
		t.Errorf("too much was typed: exit %d, %s", r.exit, r.err)
	}
	if r := w.onTerminal("audit tail -f -n 0", "ignored", "\x03"); r.exit != Done || r.err != "" {
		t.Errorf("Ctrl-C while following: exit %d, %s", r.exit, r.err)
	}
}

// What happens while somebody follows the audit comes once each, in order.
func TestFollow(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	done := make(chan Exit, 1)
	go func() {
		var stderr bytes.Buffer
		done <- w.console.Run(ctx, &Request{
			Person: w.auditor, Line: "audit tail -f -n 1 --type user --json", Stdin: strings.NewReader(""), Stdout: write, Stderr: &stderr,
		})
		_ = write.Close()
	}()
	lines := json.NewDecoder(read)
	next := func() string {
		var a struct{ Item struct{ Type string } }
		if err := lines.Decode(&a); err != nil {
			t.Fatal(err)
		}
		return a.Item.Type
	}
	if got := next(); got != "user.key_added" {
		t.Errorf("the newest event is %s", got)
	}
	w.must("user add kim --key '"+keyText("kim")+"'", "target add web1 --addr web1:22 --scan", "user disable kim")
	for _, want := range []string{"user.added", "user.key_added", "user.disabled"} {
		if got := next(); got != want {
			t.Errorf("following gave %s, want %s", got, want)
		}
	}
	cancel()
	if exit := <-done; exit != Done {
		t.Errorf("exit %d at the end", exit)
	}
}

func TestSessionNames(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	if r := w.run(w.admin, "session show last", ""); r.exit != NotFound {
		t.Errorf("no session yet: exit %d", r.exit)
	}
	first, second := w.record(w.operator, "1").String(), w.record(w.operator, "2").String()
	common := 0
	for first[common] == second[common] {
		common++
	}
	for ref, want := range map[string]Exit{
		first: Done, second[:common+1]: Done, strings.ToUpper(second[:common+1]): Done, first[:common]: Conflict, "last": Done,
		"ffffff": NotFound, "012": Usage, "zzzzzzz": Usage, "": Usage, events.SessionID{}.String(): NotFound,
	} {
		if r := w.run(w.admin, "session show '"+ref+"'", ""); r.exit != want {
			t.Errorf("session show %q: exit %d, want %d: %s", ref, r.exit, want, r.err)
		}
	}
	if r := w.run(w.admin, "session export last", ""); r.out != "2" {
		t.Errorf("last is not the newest: %q", r.out)
	}
	if r := w.run(w.admin, "session ls --limit 1 --json", ""); !strings.Contains(r.out, `"next":"`) || strings.Contains(r.out, first) {
		t.Errorf("a list that is cut does not say how to go on: %s", r.out)
	}
}
