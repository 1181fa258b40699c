package transfer

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/localsshd"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay"
)

// middle stands between a real client and a real sshd as the gateway does: it passes on channels, records what passes
// in one order, and holds each channel to a gate, delivering refusals as the package comment says.
type middle struct {
	t        *testing.T
	port     string
	hostKey  ssh.Signer
	gate     Gate
	target   *localsshd.Server
	listener net.Listener
	work     sync.WaitGroup

	mu       sync.Mutex
	start    time.Time
	items    []replay.Item
	numbers  [2]uint64
	channels uint32
	refusals []Refusal
}

// newMiddle starts one with a target of its own; without an sshd it skips the test.
func newMiddle(t *testing.T, gate Gate) *middle {
	t.Helper()
	target, err := localsshd.Start(context.Background(), t.TempDir())
	if errors.Is(err, localsshd.ErrNotInstalled) && os.Getenv("HOLDFAST_REQUIRE_OPENSSH") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Stop() })
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &middle{t: t, gate: gate, target: target, start: time.Now()}
	if m.hostKey, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	if m.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	_, m.port, _ = net.SplitHostPort(m.listener.Addr().String())
	m.work.Go(m.accept)
	t.Cleanup(func() {
		m.listener.Close()
		m.work.Wait()
	})
	return m
}

func (m *middle) accept() {
	for {
		c, err := m.listener.Accept()
		if err != nil {
			return
		}
		m.work.Go(func() { m.serve(c) })
	}
}

func (m *middle) serve(c net.Conn) {
	defer c.Close()
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(m.hostKey)
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	defer conn.Close()
	key, err := ssh.ParsePrivateKey(m.target.PrivateKey)
	if err != nil {
		m.t.Error(err)
		return
	}
	target, err := ssh.Dial("tcp", m.target.Addr, &ssh.ClientConfig{
		User: m.target.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		m.t.Error(err)
		return
	}
	defer target.Close()
	m.work.Go(func() { ssh.DiscardRequests(requests) })
	var open sync.WaitGroup
	for ask := range channels {
		open.Go(func() {
			if !m.channel(ask, target) {
				conn.Close()
			}
		})
	}
	open.Wait()
}

// record notes a packet that passes.
func (m *middle) record(i int, packet []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = append(m.items, replay.Item{
		Direction: [2]events.Direction{events.In, events.Out}[i],
		Packet:    events.Packet{Number: m.numbers[i], At: time.Since(m.start), Bytes: packet},
	})
	m.numbers[i]++
}

func (m *middle) refuse(r *Refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !r.Told {
		m.refusals = append(m.refusals, *r)
	}
}

// leg is one channel in the middle.
type leg struct {
	*middle
	id     uint32
	client ssh.Channel
	target ssh.Channel

	asked chan struct{} // closed when a program was asked for: clients send on without waiting for the answer
	begin sync.Once

	order sync.Mutex // of what is judged and recorded
	guard *Guard
}

// channel is false if the client does not close its side although everything is over.
func (m *middle) channel(ask ssh.NewChannel, target *ssh.Client) bool {
	far, answers, err := target.OpenChannel(ask.ChannelType(), nil)
	if err != nil {
		ask.Reject(ssh.Prohibited, err.Error())
		return true
	}
	near, requests, err := ask.Accept()
	if err != nil {
		return true
	}
	m.mu.Lock()
	l := &leg{middle: m, id: m.channels, client: near, target: far, guard: NewGuard(m.gate), asked: make(chan struct{})}
	m.channels++
	m.mu.Unlock()
	m.record(0, sshwire.ChannelOpen{Type: "session", Sender: l.id}.Append(nil))
	m.record(1, sshwire.ChannelOpenConfirmation{Recipient: l.id, Sender: l.id}.Append(nil))
	gone := make(chan struct{})
	m.work.Go(func() {
		defer close(gone)
		l.requests(requests)
	})
	m.work.Go(l.up)
	m.work.Go(func() { io.Copy(near.Stderr(), far.Stderr()) })
	l.down(answers)
	near.Close()
	m.record(0, sshwire.ChannelClose{Recipient: l.id}.Append(nil))
	m.record(1, sshwire.ChannelClose{Recipient: l.id}.Append(nil))
	select {
	case <-gone:
		return true
	case <-time.After(time.Second):
		return false
	}
}

func (l *leg) requests(requests <-chan *ssh.Request) {
	defer l.target.Close() // the client has closed its side
	defer l.begin.Do(func() { close(l.asked) })
	for r := range requests {
		var command struct{ Text string }
		_ = ssh.Unmarshal(r.Payload, &command) // a shell has none
		l.order.Lock()
		refusal := l.guard.Request(r.Type, command.Text)
		l.order.Unlock()
		if refusal != nil {
			l.refuse(refusal)
			r.Reply(false, nil)
			continue
		}
		l.record(0, sshwire.ChannelRequest{Recipient: l.id, Type: r.Type, WantReply: r.WantReply, Payload: r.Payload}.Append(nil))
		if starts(r.Type) {
			l.begin.Do(func() { close(l.asked) })
		}
		ok, _ := l.target.SendRequest(r.Type, r.WantReply, r.Payload)
		if starts(r.Type) {
			l.order.Lock()
			l.guard.Answered(ok)
			l.order.Unlock()
		}
		if !r.WantReply {
			continue
		}
		if ok {
			l.record(1, sshwire.ChannelSuccess{Recipient: l.id}.Append(nil))
		} else {
			l.record(1, sshwire.ChannelFailure{Recipient: l.id}.Append(nil))
		}
		r.Reply(ok, nil)
	}
}

// up carries stdin. After a refusal the target is told that there is no more, and what the client sends is dropped.
func (l *leg) up() {
	<-l.asked
	buf := make([]byte, 32<<10)
	for {
		n, err := l.client.Read(buf)
		if n > 0 && !l.pass(buf[:n]) {
			l.target.CloseWrite()
			io.Copy(io.Discard, l.client)
			return
		}
		if err != nil {
			l.target.CloseWrite()
			return
		}
	}
}

func (l *leg) pass(data []byte) bool {
	l.order.Lock()
	var v Verdict
	if !l.gate.Open() {
		v = l.guard.FromClient(data)
	}
	l.order.Unlock()
	for i := range v.Refusals {
		l.refuse(&v.Refusals[i])
	}
	if v.End {
		return false
	}
	l.record(0, sshwire.ChannelData{Recipient: l.id, Data: data}.Append(nil))
	changed, err := events.ApplyEdits(data, v.Edits)
	if err == nil {
		_, err = l.target.Write(changed)
	}
	return err == nil
}

// down carries stdout and the exit status.
func (l *leg) down(answers <-chan *ssh.Request) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 32<<10)
		for {
			n, err := l.target.Read(buf)
			if n > 0 {
				l.order.Lock()
				var v Verdict
				if !l.gate.Open() {
					v = l.guard.FromTarget(buf[:n])
				}
				for i := range v.Refusals {
					l.refuse(&v.Refusals[i])
				}
				if v.End {
					l.target.CloseWrite()
				}
				l.order.Unlock()
				l.record(1, sshwire.ChannelData{Recipient: l.id, Data: buf[:n]}.Append(nil))
				changed, _ := events.ApplyEdits(buf[:n], v.Edits)
				l.client.Write(changed)
			}
			if err != nil {
				return
			}
		}
	}()
	for r := range answers {
		if r.Type == "exit-status" {
			<-done
		}
		ok, _ := l.client.SendRequest(r.Type, r.WantReply, r.Payload)
		if r.WantReply {
			r.Reply(ok, nil)
		}
	}
	<-done
}

// source is what passed so far.
func (m *middle) source() replay.Source {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	return func(yield func(replay.Item, error) bool) {
		for _, i := range items {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// operations waits until all channels are closed and gives what they did.
func (m *middle) operations() []Operation {
	m.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		open := 0
		for e, err := range replay.Events(m.source()) {
			if err != nil {
				m.t.Fatal(err)
			}
			if e.Kind == replay.KindOpen {
				open++
			}
			if e.Channel != nil && e.Channel.State == replay.Closed {
				open--
			}
		}
		if open == 0 {
			return collect(m.t, m.source())
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%d channels are still open", open)
		}
	}
}

func collect(t testing.TB, src replay.Source) []Operation {
	t.Helper()
	var all []Operation
	for o, err := range Operations(src) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

func (m *middle) refused() []Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Refusal(nil), m.refusals...)
}

// run runs a client and returns what it printed and its exit status. It is skipped where it isn't installed.
func (m *middle) run(stdin, name string, args ...string) (string, int) {
	m.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		m.t.Skipf("%s is not installed", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "HOME="+m.t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		m.t.Fatalf("%s hangs: %s", name, out)
	}
	if err != nil && cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// opts is what OpenSSH's clients need to talk to the middle.
func (m *middle) opts(more ...string) []string {
	return append([]string{
		"-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "Port=" + m.port,
	}, more...)
}

// file writes a file of n random bytes.
func file(t *testing.T, dir, name string, n int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, n)
	rand.Read(content)
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o640); err != nil {
		t.Fatal(err)
	}
	return path, content
}
