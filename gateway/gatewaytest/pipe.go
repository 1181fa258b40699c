// Package gatewaytest holds what tests of the gateway's parts share: connections in memory, goroutine counts and SSH servers to play the target.
package gatewaytest

import (
	"io"
	"net"
	"sync"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Pipe makes two ends of a packet connection in memory. Each direction holds up to limit bytes that the other end has
// not read; then Flush waits, as it does for a network.
func Pipe(limit int) (a, b *End) {
	x, y := newLine(limit), newLine(limit)
	return &End{in: x, out: y}, &End{in: y, out: x}
}

// End is one end of a [Pipe]. It behaves as a *sshwire.Conn does after login.
type End struct {
	in, out *line
	writing sync.Mutex
	pending [][]byte // guarded by writing
	last    []byte   // packet that ReadPacket returned
}

// line is one direction.
type line struct {
	limit   int
	mu      sync.Mutex
	cond    *sync.Cond
	packets [][]byte
	bytes   int
	ended   error // what the reader gets after the last packet
	cut     error // what writers get
}

func newLine(limit int) *line {
	l := &line{limit: limit}
	l.cond = sync.NewCond(&l.mu)
	return l
}

// ReadPacket returns the next packet; it is overwritten by the next call, so that a caller who keeps it is found out.
func (e *End) ReadPacket() ([]byte, error) {
	for i := range e.last {
		e.last[i] = 0xee
	}
	l := e.in
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.packets) == 0 && l.ended == nil {
		l.cond.Wait()
	}
	if len(l.packets) == 0 {
		return nil, l.ended
	}
	p := l.packets[0]
	l.packets = l.packets[1:]
	l.bytes -= len(p)
	l.cond.Broadcast()
	e.last = p
	return p, nil
}

// ReadReady says that ReadPacket won't wait.
func (e *End) ReadReady() bool {
	e.in.mu.Lock()
	defer e.in.mu.Unlock()
	return len(e.in.packets) > 0 || e.in.ended != nil
}

// WritePacket keeps a copy until Flush.
func (e *End) WritePacket(p []byte) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	e.pending = append(e.pending, append([]byte(nil), p...))
	return nil
}

// Flush hands over what was written, waiting for room.
func (e *End) Flush() error {
	e.writing.Lock()
	defer e.writing.Unlock()
	l := e.out
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range e.pending {
		for l.bytes > l.limit && l.cut == nil {
			l.cond.Wait()
		}
		if l.cut != nil {
			return l.cut
		}
		l.packets = append(l.packets, p)
		l.bytes += len(p)
		l.cond.Broadcast()
	}
	e.pending = nil
	return nil
}

// TryWrite hands packets over if there is room for them now and nothing waits before them.
func (e *End) TryWrite(packets [][]byte) (took, sent bool) {
	if !e.writing.TryLock() {
		return false, false // a Flush waits
	}
	defer e.writing.Unlock()
	l := e.out
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(e.pending) > 0 || l.bytes > l.limit || l.cut != nil {
		return false, false
	}
	for _, p := range packets {
		l.packets = append(l.packets, append([]byte(nil), p...))
		l.bytes += len(p)
	}
	l.cond.Broadcast()
	return true, true
}

// Disconnect ends the connection; the other end reads a *sshwire.DisconnectError after the last packet.
func (e *End) Disconnect(reason uint32, text string) error {
	e.out.end(&sshwire.DisconnectError{Reason: reason, Text: text}, net.ErrClosed)
	return e.Close()
}

// Close ends both directions: our own calls fail at once, the other end reads io.EOF after the last packet.
func (e *End) Close() error {
	e.out.end(io.EOF, net.ErrClosed)
	e.in.mu.Lock()
	e.in.packets, e.in.bytes = nil, 0
	e.in.mu.Unlock()
	e.in.end(net.ErrClosed, net.ErrClosed)
	return nil
}

// end sets what both sides of the line get from now on; the first call stands.
func (l *line) end(ended, cut error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended, l.cut = ended, cut
	}
	l.cond.Broadcast()
}
