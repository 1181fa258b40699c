package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Wire is a way to a port of this machine that can be cut and mended: what is
// connected through it ends when it is cut, and nothing gets through until it is
// mended.
type Wire struct {
	Addr string // where the near end is

	near  net.Listener
	work  sync.WaitGroup
	mu    sync.Mutex // guards what follows
	to    string     // the far end; "" until Reach
	cut   bool
	conns map[net.Conn]struct{}
}

// NewWire lays a wire on loopback, whose far end is not there yet.
func NewWire() (*Wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("lay a wire: %w", err)
	}
	w := &Wire{Addr: l.Addr().String(), near: l, conns: map[net.Conn]struct{}{}}
	w.work.Go(w.accept)
	return w, nil
}

// Reach says where the far end is.
func (w *Wire) Reach(addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = addr
}

// Cut ends what is connected, and keeps everything from getting through.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for c := range w.conns {
		_ = c.Close() // whoever copies from it takes it out
	}
}

// Mend lets through again.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// Close takes the wire away.
func (w *Wire) Close() error {
	err := w.near.Close()
	w.Cut()
	w.work.Wait()
	return err
}

func (w *Wire) accept() {
	for {
		c, err := w.near.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			w.work.Go(func() { w.carry(c) })
		}
	}
}

// carry copies both ways until either end closes or the wire is cut.
func (w *Wire) carry(a net.Conn) {
	defer a.Close()
	to, ok := w.keep(a)
	if !ok {
		return
	}
	defer w.drop(a)
	b, err := net.Dial("tcp", to)
	if err != nil {
		return // as where nobody listens
	}
	defer b.Close()
	if _, ok := w.keep(b); !ok {
		return
	}
	defer w.drop(b)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // how it ends is the same for both
			_ = a.Close()
			_ = b.Close()
		})
	}
	both.Wait()
}

// keep notes a connection, unless the wire leads nowhere now.
func (w *Wire) keep(c net.Conn) (to string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut || w.to == "" {
		return "", false
	}
	w.conns[c] = struct{}{}
	return w.to, true
}

func (w *Wire) drop(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}
