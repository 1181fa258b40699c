package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
)

// work is what people do at one site, all the time and all at once: sessions
// that stay open, short ones, decisions, requests that are approved and used,
// rotations.
type work struct {
	s    *netSite
	m    *meshNet
	user string // of the targets
	stop chan struct{}
	once sync.Once // stop is closed
	wg   sync.WaitGroup
	hurt atomic.Bool // something else than the network is wrong with the site

	mu        sync.Mutex // guards what follows
	groups    []string   // acknowledged
	requests  []string   // made, approved and used
	rotations int
	sessions  int
	open      []*openSession
}

func (s *netSite) begin(m *meshNet) {
	s.work = &work{s: s, m: m, user: "root", stop: make(chan struct{})}
	if err := lab.WriteConfig(s.configured+".bob", lab.Host{Alias: "gw", Addr: s.proc.Addr, HostKey: s.proc.HostKey, Key: m.bob}); err != nil {
		m.t.Fatal(err)
	}
	for _, job := range []struct {
		every time.Duration
		once  func(n int) error
	}{
		{300 * time.Millisecond, s.work.decide}, {time.Second, s.work.ask}, {1500 * time.Millisecond, s.work.rotate}, {700 * time.Millisecond, s.work.visit},
	} {
		s.work.wg.Go(func() { s.work.run(job.every, job.once) })
	}
	s.work.again()
	m.t.Cleanup(s.work.end)
}

// run does one thing after another. It has to succeed, unless the site itself
// was hurt meanwhile.
func (w *work) run(every time.Duration, once func(n int) error) {
	for n := 1; ; n++ {
		hurt := w.hurt.Load()
		if err := once(n); err != nil && !hurt && !w.hurt.Load() {
			w.m.t.Errorf("at site %s: %v", w.s.name, err)
		}
		select {
		case <-time.After(every):
		case <-w.stop:
			return
		}
	}
}

// retried tells of an error that may pass, and reports whether there was none.
func (w *work) retried(what string, err error) bool {
	if err != nil {
		w.m.t.Logf("at site %s: %s: %v", w.s.name, what, err)
	}
	return err == nil
}

func (w *work) decide(n int) error {
	name := fmt.Sprintf("%s-%d", w.s.name, n)
	_, err := w.s.try("group add "+name, "")
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.groups = append(w.groups, name)
	}
	return err
}

// asBob is a command of bob's at the site.
func (w *work) asBob(args ...string) *exec.Cmd {
	return w.m.hub.command("ssh", append([]string{"-F", w.s.configured + ".bob"}, args...)...)
}

// ask makes a request, has it approved, and uses it.
func (w *work) ask(n int) error {
	out, err := output(w.asBob("gw", "request new "+w.user+"+all --reason work --for 1h --json"))
	if err != nil {
		return fmt.Errorf("request new: %w", err)
	}
	var made struct{ Item struct{ ID string } }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return fmt.Errorf("request new: %q: %w", out, err)
	}
	if _, err := w.s.try("request approve "+made.Item.ID, ""); err != nil {
		return err
	}
	if out, err := output(w.asBob("-l", w.user+"+all", "gw", "echo used")); err != nil || out != "used\n" {
		return fmt.Errorf("use request %s: %q: %w", made.Item.ID, out, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, made.Item.ID)
	return nil
}

func (w *work) rotate(int) error {
	_, err := w.s.try("rotate run "+w.user+"+"+w.s.name+" --wait", "")
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.rotations++
	}
	return err
}

// visit is a short session.
func (w *work) visit(n int) error {
	want := fmt.Sprintf("visit %d\n", n)
	out, err := output(w.m.hub.command("ssh", "-F", w.s.configured, "-l", w.user+"+all", "gw", "echo visit "+fmt.Sprint(n)))
	if err != nil || out != want {
		return fmt.Errorf("session %d: %q: %w", n, out, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions++
	return nil
}

func (w *work) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("%d groups, %d requests, %d rotations, %d sessions", len(w.groups), len(w.requests), w.rotations, w.sessions)
}

// openSession is one in which somebody types a line now and then, and reads it
// back.
type openSession struct {
	w     *work
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines atomic.Int64
	done  chan struct{}
	err   error // set before done is closed
}

// again opens sessions that stay, in the place of those that were lost with the
// site.
func (w *work) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kept []*openSession
	for _, o := range w.open {
		select {
		case <-o.done:
		default:
			kept = append(kept, o)
		}
	}
	for len(kept) < 2 {
		o := &openSession{w: w, done: make(chan struct{})}
		o.cmd = w.m.hub.command("ssh", "-F", w.s.configured, "-l", w.user+"+all", "gw", "cat")
		stdout, err := o.cmd.StdoutPipe()
		if err == nil {
			o.stdin, err = o.cmd.StdinPipe()
		}
		if err == nil {
			err = o.cmd.Start()
		}
		if err != nil {
			w.m.t.Fatal(err)
		}
		w.wg.Go(func() { o.type_(bufio.NewReader(stdout)) })
		kept = append(kept, o)
	}
	w.open = kept
}

func (o *openSession) type_(stdout *bufio.Reader) {
	defer close(o.done)
	for n := 0; o.err == nil; n++ {
		select {
		case <-o.w.stop:
			o.err = errors.Join(o.stdin.Close(), o.cmd.Wait())
			return
		case <-time.After(100 * time.Millisecond):
		}
		line := fmt.Sprintf("line %d of %d\n", n, o.cmd.Process.Pid)
		if _, err := io.WriteString(o.stdin, line); err != nil {
			o.err = err
			break
		}
		got, err := stdout.ReadString('\n')
		if err == nil && got != line {
			err = fmt.Errorf("typed %q, read %q", line, got)
		}
		o.err = err
		o.lines.Add(1)
	}
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

// alive wants every open session to go on.
func (w *work) alive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.open {
		before := o.lines.Load()
		deadline := time.Now().Add(20 * time.Second)
		for o.lines.Load() == before && time.Now().Before(deadline) {
			select {
			case <-o.done:
				w.m.t.Errorf("a session at %s was lost: %v", w.s.name, o.err)
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		if o.lines.Load() == before {
			w.m.t.Errorf("a session at %s stands still", w.s.name)
		}
	}
}

// end lets everybody finish what they do.
func (w *work) end() {
	w.once.Do(func() {
		close(w.stop)
		w.wg.Wait()
		for _, o := range w.open {
			if o.err != nil {
				w.m.t.Errorf("a session at %s ended with %v", w.s.name, o.err)
			}
		}
	})
}
