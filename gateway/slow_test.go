package gateway

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/localsshd"
	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// stuckHeap is how much memory a session may take when one side sends as fast as it can and the other takes nothing: a few
// times what may be under way, with the buffers of both connections and of the test's own client.
const stuckHeap = 12 << 20

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// exec opens a channel for a command, with a window that never ends, and gives the number that the target goes by.
func (s *site) exec(c *sshwire.Conn, command string) uint32 {
	s.t.Helper()
	must(s.t, c.WritePacket(sshwire.ChannelOpen{Type: "session", Sender: 1, Window: 1<<32 - 1, MaxPacket: 1 << 15}.Append(nil)))
	must(s.t, c.Flush())
	for {
		p, err := c.ReadPacket()
		must(s.t, err)
		if p[0] != sshwire.MsgChannelOpenConfirmation {
			continue
		}
		m, err := sshwire.ParseChannelOpenConfirmation(p)
		must(s.t, err)
		must(s.t, c.WritePacket(sshwire.ChannelRequest{Recipient: m.Sender, Type: "exec", Payload: sshwire.ExecRequest{Command: command}.Append(nil)}.Append(nil)))
		must(s.t, c.Flush())
		return m.Sender
	}
}

// stopReading is a client that lets the target write and takes nothing of it.
func (s *site) stopReading(d *localsshd.Server) {
	c := s.dial(d.User + "+web1")
	s.exec(c, "exec yes abcdefghijklmnopqrstuvwxyz")
}

// stopTarget is a client that sends what a stopped target doesn't take. It counts what it could send.
func (s *site) stopTarget(d *localsshd.Server) *atomic.Int64 {
	s.t.Helper()
	c := s.dial(d.User + "+web1")
	id := s.exec(c, "echo $PPID; sleep 0.2; kill -STOP $PPID; exec sleep 60")
	var output []byte
	for !bytes.HasSuffix(output, []byte("\n")) {
		p, err := c.ReadPacket()
		must(s.t, err)
		if m, err := sshwire.ParseChannelData(p); err == nil {
			output = append(output, m.Data...)
		}
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(output)))
	must(s.t, err)
	stopped := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && bytes.Contains(stat, []byte(") T "))
	}
	if runtime.GOOS == "linux" {
		waitFor(s.t, stopped)
	}
	s.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // it may have gone
	sent := &atomic.Int64{}
	packet := sshwire.ChannelData{Recipient: id, Data: make([]byte, 30<<10)}.Append(nil)
	go func() { // ends with the connection
		for c.WritePacket(packet) == nil && c.Flush() == nil {
			sent.Add(int64(len(packet)))
		}
	}()
	return sent
}

// settled waits until a count stays as it is.
func settled(t *testing.T, count func() int64) {
	t.Helper()
	for last, deadline := int64(-1), time.Now().Add(20*time.Second); ; {
		now := count()
		if now == last && now > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it goes on: %d", now)
		}
		last = now
		time.Sleep(300 * time.Millisecond)
	}
}

// Sides that take nothing cost a bounded amount of memory, hold up nobody else, and can be cut off at once.
func TestSlowConsumers(t *testing.T) {
	s := newSite(t, onDisk(t))
	d := s.sshd()
	if out, _, _ := run(t, s.ssh(d.User+"+web1", "echo warm")); out != "warm\n" {
		t.Fatalf("got %q", out)
	}
	each := 2
	if os.Getenv("HOLDFAST_TEST_FULL") == "1" {
		each = 10
	}
	before := heap()
	for range each {
		s.stopReading(d)
	}
	var sent []*atomic.Int64
	for range each {
		sent = append(sent, s.stopTarget(d))
	}
	settled(t, func() (n int64) {
		for _, l := range s.server.Live() {
			n += int64(l.Out.Received) + int64(l.In.Received)
		}
		for _, c := range sent {
			n += c.Load()
		}
		return n
	})
	took := heap() - before
	t.Logf("%d stuck sessions take %d KiB of memory each", 2*each, took/int64(2*each)>>10)
	if took > int64(2*each)*stuckHeap {
		t.Errorf("%d stuck sessions take %d bytes", 2*each, took)
	}
	live := s.server.Live()
	if len(live) != 2*each {
		t.Fatalf("%d sessions are live", len(live))
	}
	s.unaffected(d)
	for _, l := range live {
		s.cutOff(l.ID)
	}
}

// unaffected checks that somebody else's commands run as ever.
func (s *site) unaffected(d *localsshd.Server) {
	s.t.Helper()
	c := s.dial(d.User + "+web1")
	id := s.exec(c, "cat")
	var worst, sum time.Duration
	for n := range 50 {
		began := time.Now()
		text := fmt.Sprintf("line %d\n", n)
		must(s.t, c.WritePacket(sshwire.ChannelData{Recipient: id, Data: []byte(text)}.Append(nil)))
		must(s.t, c.Flush())
		for got := ""; got != text; {
			p, err := c.ReadPacket()
			must(s.t, err)
			if m, err := sshwire.ParseChannelData(p); err == nil {
				got += string(m.Data)
			}
		}
		worst, sum = max(worst, time.Since(began)), sum+time.Since(began)
	}
	s.t.Logf("50 echoes beside them took %s each, the slowest %s", sum/50, worst)
	if worst > 5*time.Second { // on a busy machine; behind a stuck session it would be for ever
		s.t.Errorf("an echo took %s", worst)
	}
	must(s.t, c.Disconnect(sshwire.ReasonByApplication, "done"))
}

// cutOff kills a session and checks that it ends within a second.
func (s *site) cutOff(id events.SessionID) {
	s.t.Helper()
	began := time.Now()
	s.asAdmin(commands.KillSession{Session: id, Reason: "stuck"})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for s.isLive(id) && ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
	}
	if took := time.Since(began); took > time.Second {
		s.t.Errorf("the kill took %s", took)
	}
}

func (s *site) isLive(id events.SessionID) bool {
	for _, l := range s.server.Live() {
		if l.ID == id {
			return true
		}
	}
	return false
}
