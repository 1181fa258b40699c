package targettest

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy is a way to a target that can be cut. A cut counts the bytes of all
// connections since it was set.
type Proxy struct {
	Addr string

	mu sync.Mutex
	// guarded by mu
	toTarget, toClient int // bytes that may still pass; negative for no end
	passed             [2]int
	silent             bool // after a cut the connection stays open, and nothing passes any more
	ended              int  // connections that a cut has ended
	open               map[net.Conn]bool
	wg                 sync.WaitGroup
}

// NewProxy starts a proxy before a target; the end of the test ends it.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), toTarget: -1, toClient: -1, open: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.track(client, upstream)
			p.wg.Go(func() { p.copy(upstream, client, 0) })
			p.wg.Go(func() { p.copy(client, upstream, 1) })
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		p.Drop()
		p.wg.Wait()
	})
	return p
}

func (p *Proxy) track(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = true
	}
}

// Cut lets so many bytes more pass to the target and to the client, -1 for all,
// and then ends the connection or, if silent, lets it hang.
func (p *Proxy) Cut(toTarget, toClient int, silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toTarget, p.toClient, p.silent, p.passed = toTarget, toClient, silent, [2]int{}
}

// Passed counts the bytes since the last Cut: to the target, to the client.
func (p *Proxy) Passed() (toTarget, toClient int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed[0], p.passed[1]
}

// Ended counts the connections that cuts have ended.
func (p *Proxy) Ended() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// Drop ends all connections.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close() // its copiers see it
	}
	clear(p.open)
}

// copy passes bytes one way: 0 to the target, 1 to the client.
func (p *Proxy) copy(to, from net.Conn, way int) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		allowed, silent := p.allow(n, way)
		_, werr := to.Write(buf[:allowed])
		switch {
		case allowed < n && silent:
			continue // swallows the rest until somebody gives up
		case allowed < n || werr != nil:
			_, _ = to.Close(), from.Close()
			return
		case errors.Is(err, io.EOF):
			if c, ok := to.(*net.TCPConn); ok {
				_ = c.CloseWrite()
			}
			return
		case err != nil:
			_ = to.Close()
			return
		}
	}
}

func (p *Proxy) allow(n, way int) (allowed int, silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, left := n, &p.toTarget
	if way == 1 {
		left = &p.toClient
	}
	if *left >= 0 {
		n = min(n, *left)
		*left -= n
	}
	p.passed[way] += n
	if n < asked && !p.silent {
		p.ended++
	}
	return n, p.silent
}
