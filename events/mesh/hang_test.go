package mesh

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// hanging is a way to a port on which, while it hangs, connections are made and
// nothing gets through, then or later: as through a network that drops packets,
// when its mending is never noticed by who waits to send again.
type hanging struct {
	net.Listener
	work sync.WaitGroup
	mu   sync.Mutex // guards what follows
	hang bool
	all  []net.Conn
}

func newHanging(t testing.TB, to string) *hanging {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hanging{Listener: l}
	h.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.carry(c, to)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		h.mu.Lock()
		for _, c := range h.all {
			_ = c.Close()
		}
		h.mu.Unlock()
		h.work.Wait()
	})
	return h
}

func (h *hanging) carry(a net.Conn, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, a)
	if h.hang {
		return
	}
	b, err := net.Dial("tcp", to)
	if err != nil {
		_ = a.Close()
		return
	}
	h.all = append(h.all, b)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		h.work.Go(func() { h.copy(way[1], way[0]) })
	}
}

// copy copies until the way hangs once, and then for ever nothing.
func (h *hanging) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		h.mu.Lock()
		hang := h.hang
		h.mu.Unlock()
		if hang {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			_ = to.Close()
			return
		}
	}
}

func (h *hanging) set(hang bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hang = hang
}

// A link on which nothing arrives any more, and attempts at another one that
// hang, hold nobody up once the network carries new connections.
func TestLinksThatHang(t *testing.T) {
	a, b := newStation(t, 1), newStation(t, 2)
	la := a.listen()
	way := newHanging(t, a.addr)
	ap, bp := a.peer(), b.peer()
	a.start(la, ap, bp) // b can't be dialled
	ap.Addrs = []string{way.Addr().String()}
	b.start(nil, ap, bp)
	a.write(a.ctl, 1, 10)
	b.has(a)
	for _, cut := range []time.Duration{200 * time.Millisecond, 1500 * time.Millisecond} {
		way.set(true)
		a.write(a.ctl, 1, 10)
		b.write(b.rec, 1, 10)
		time.Sleep(cut)
		way.set(false)
		began := time.Now()
		b.has(a)
		a.has(b)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s after a cut of %s", took, cut)
		} else {
			t.Logf("%s after a cut of %s", took, cut)
		}
	}
}
