package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway/mux"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay/screen"
)

// running is a session whose packets a test writes into the log.
type running struct {
	*world
	id      events.SessionID
	key     *seal.DataKey
	in, out uint64 // packets written
}

// start begins a session of the operator with a terminal of 40 by 5. It needs
// furnish.
func (w *world) start() *running {
	w.Helper()
	started, err := w.site.Commands().StartSession(w.Context(), w.operator.actor(), commands.StartSession{
		User: w.operator.ID, Fingerprint: w.operator.Fingerprint, Account: "root", Target: "web1", Login: "root+web1", Source: w.operator.Source, Client: "SSH-2.0-x",
	})
	if err != nil {
		w.Fatal(err)
	}
	return &running{world: w, id: started.Session}
}

// shell makes the session's key and opens a shell.
func (r *running) shell() *running {
	r.Helper()
	var err error
	if r.key, err = r.site.Sealer().NewKey(r.Context(), r.id.UUID); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(r.key.Release)
	r.send(events.In, sshwire.ChannelOpen{Type: "session", Sender: 7, Window: 1 << 20, MaxPacket: 1 << 15})
	r.send(events.Out, sshwire.ChannelOpenConfirmation{Recipient: 7, Sender: 9, Window: 1 << 20, MaxPacket: 1 << 15})
	r.send(events.In, sshwire.ChannelRequest{Recipient: 9, Type: "pty-req",
		Payload: sshwire.PtyRequest{Term: "xterm", Columns: 40, Rows: 5}.Append(nil)})
	return r
}

func (r *running) send(d events.Direction, m interface{ Append([]byte) []byte }) {
	r.Helper()
	n := &r.in
	if d == events.Out {
		n = &r.out
	}
	r.append(r.id, r.key, d, *n, [][]byte{m.Append(nil)})
	*n++
}

func (r *running) prints(text string) {
	r.Helper()
	r.send(events.Out, sshwire.ChannelData{Recipient: 7, Data: []byte(text)})
}

func (r *running) end() {
	r.Helper()
	_, err := r.site.Commands().Do(r.Context(), events.SiteActor(r.site.ID()), commands.EndSession{Session: r.id, Reason: events.EndedByClient, Complete: true})
	if err != nil {
		r.Fatal(err)
	}
}

// watcher is a person who runs session watch.
type watcher struct {
	t       *testing.T
	keys    chan string
	resized chan mux.Size
	errors  bytes.Buffer
	done    chan Exit

	mu      sync.Mutex // write waits while a test holds it: the terminal is stuck
	written bytes.Buffer
}

func (v *watcher) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.written.Write(p)
}

// watch starts to run a line; a size of 0 is none.
func (w *world) watch(p Person, line string, cols, rows int) *watcher {
	v := &watcher{t: w.T, keys: make(chan string, 4), resized: make(chan mux.Size, 1), done: make(chan Exit, 1)}
	r := &Request{Person: p, Line: line, Stdin: &typing{keys: v.keys}, Stdout: v, Stderr: &v.errors}
	if cols > 0 {
		r.Terminal = &Terminal{Kind: "xterm", Size: Size{cols, rows}, Resized: v.resized}
	}
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	go func() {
		defer cancel()
		v.done <- w.console.Run(ctx, r)
		close(v.keys)
	}()
	return v
}

func (v *watcher) got() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.written.String()
}

// sees waits until what was written holds text, a second at most.
func (v *watcher) sees(text string) {
	v.t.Helper()
	for deadline := time.Now().Add(time.Second); !strings.Contains(v.got(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			v.t.Fatalf("%q was not seen within a second; seen is %q", text, v.got())
		}
	}
}

func (v *watcher) ends(want Exit) {
	v.t.Helper()
	select {
	case exit := <-v.done:
		if exit != want {
			v.t.Errorf("exit %d, want %d: %s", exit, want, v.errors.String())
		}
	case <-time.After(10 * time.Second):
		v.t.Fatal("the watching did not end")
	}
}

// Several people watch one session, each in their own form, from before its
// first packet until its end.
func TestWatch(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	other := w.start().shell()
	s := w.start()
	line := "session watch " + s.id.String()
	early := w.watch(w.admin, line, 60, 10)
	waitForReads(w, 1)
	s.shell().prints("\x1b[31mbefore\x1b[m\r\n")
	early.sees("before")
	plain, lines := w.watch(w.auditor, line, 0, 0), w.watch(w.auditor, line+" --json", 0, 0)
	waitForReads(w, 3)
	late := w.watch(w.auditor, line, 20, 2)
	late.sees("before")
	time.Sleep(100 * time.Millisecond) // those without a screen show only what comes after they caught up
	other.prints("of somebody else")
	s.send(events.In, sshwire.ChannelData{Recipient: 9, Data: []byte("typed")})
	for i := range 40 {
		s.prints(fmt.Sprintf("during %d\x1b]52;c;ZXZpbA==\x07", i))
		other.prints("of somebody else")
	}
	for _, v := range []*watcher{early, plain, lines, late} {
		if v != lines {
			v.sees("during 39")
		}
		if strings.Contains(v.got(), "somebody else") || v != lines && strings.Contains(v.got(), "52;c") {
			t.Errorf("seen is %q", v.got())
		}
	}
	s.end()
	for _, v := range []*watcher{early, plain, lines, late} {
		v.ends(Done)
	}
	if !strings.Contains(early.errors.String(), "has ended") || !strings.HasSuffix(early.got(), "\x1b[?1049l") {
		t.Errorf("the end is %q, %s", early.got(), early.errors.String())
	}
	if got := plain.got(); strings.Contains(got, "before") || strings.Contains(got, "\x1b") || !strings.HasPrefix(got, "during 0during 1") {
		t.Errorf("without a terminal: %q", got)
	}
	checkPieces(t, lines.got())
	other.end()
}

func waitForReads(w *world, n int) {
	w.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(w.audited("session.read")) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("%d readings are on record, want %d", len(w.audited("session.read")), n)
		}
	}
}

// checkPieces checks what --json gave in TestWatch.
func checkPieces(t *testing.T, text string) {
	t.Helper()
	streams := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(text)); dec.More(); {
		var a struct {
			Kind string
			Item piece
		}
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		if a.Kind != "session.data" || a.Item.Time.IsZero() || a.Item.Channel != 0 {
			t.Errorf("a piece is %+v", a)
		}
		streams[string(a.Item.Stream)] += string(a.Item.Data)
	}
	if streams["in"] != "typed" || !strings.HasPrefix(streams["out"], "during 0\x1b]52;c;ZXZpbA==\x07during 1") || strings.Contains(streams["out"], "before") {
		t.Errorf("with --json: %q", streams)
	}
}

// The event of the watching is durable before the first byte is shown; who may
// not watch sees nothing; what is over is played.
func TestWatchRefused(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	s := w.start().shell()
	s.prints("mine")
	line := "session watch " + s.id.String()
	r := w.run(w.operator, line+" --json", "")
	if r.exit != Denied {
		t.Errorf("an operator watches: exit %d, %s", r.exit, r.out)
	}
	w.mustBeDenied(line, r)
	s.end()
	r = w.run(w.admin, line, "")
	if r.exit != Conflict || r.out != "" || !strings.Contains(r.err, "has ended: client closed") || !strings.Contains(r.err, "session play "+s.id.String()) {
		t.Errorf("after the end: exit %d, %s%s", r.exit, r.out, r.err)
	}
	if n := len(w.audited("session.read")); n != 0 {
		t.Errorf("%d readings are on record, and nothing was read", n)
	}
	s = w.start().shell()
	s.prints("mine")
	v := w.watch(w.admin, "session watch "+s.id.String(), 40, 5)
	v.sees("mine")
	if reads := w.audited("session.read"); len(reads) != 1 || reads[0].Header.Stream != s.id.UUID || reads[0].Header.Actor != w.admin.actor() {
		t.Errorf("the readings on record are %+v", reads)
	}
	v.keys <- "xyz"
	v.keys <- "q"
	v.ends(Done)
	v = w.watch(w.admin, "session watch last", 40, 5)
	v.sees("mine")
	v.keys <- "\x03"
	v.ends(Done)
	if r := w.run(w.admin, "session watch last --channel x", ""); r.exit != Usage {
		t.Errorf("exit %d", r.exit)
	}
	s.end()
}

// A watcher whose terminal is stuck holds up nobody, and sees the present when
// it goes on.
func TestWatchStuck(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	s := w.start().shell()
	s.prints("before\r\n")
	line := "session watch " + s.id.String()
	stuck, other := w.watch(w.admin, line, 40, 5), w.watch(w.auditor, line, 40, 5)
	stuck.sees("before")
	other.sees("before")
	stuck.mu.Lock()
	for i := range 50 {
		s.prints(strings.Repeat(fmt.Sprintf("line %d\r\n", i), 1000))
	}
	other.sees("line 49")
	stuck.written.Reset()
	stuck.mu.Unlock()
	stuck.sees("line 49")
	if n := len(stuck.got()); n > 4000 {
		t.Errorf("it was given %d bytes of a screen of 40 by 5", n)
	}
	s.end()
	stuck.ends(Done)
	other.ends(Done)
}

// The picture follows the size of the watcher's terminal.
func TestWatchResize(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	s := w.start().shell()
	s.prints("top\r\n\r\n\r\n\r\nbottom")
	v := w.watch(w.admin, "session watch last", 40, 5)
	v.sees("bottom")
	v.mu.Lock()
	v.written.Reset()
	v.mu.Unlock()
	v.resized <- mux.Size{Columns: 10, Rows: 2}
	v.sees("bottom")
	terminal := screen.New(screen.Options{Cols: 10, Rows: 2})
	terminal.Write([]byte(v.got()))
	if got := terminal.Text(); got != "\nbottom\n" {
		t.Errorf("the small terminal shows %q", got)
	}
	s.end()
	v.ends(Done)
}
