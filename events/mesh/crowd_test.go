package mesh

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// linkFrom makes a link from an address of this machine, over a way that takes a while.
func (r *rogue) linkFrom(addr string, to *station, delay time.Duration) error {
	cert, err := certificate(r.identity, r.id)
	if err != nil {
		return err
	}
	hello := make([]byte, preambleSize)
	binary.BigEndian.PutUint64(hello[1:], uint64(time.Now().UnixNano()))
	for lane := range r.conns {
		raw, err := from(addr).Dial("tcp", to.addr)
		if err != nil {
			return err
		}
		_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
		time.Sleep(delay)
		r.conns[lane] = tls.Client(raw, clientTLS(cert, linkProtocol, to.peer().Identity))
		if err := r.conns[lane].Handshake(); err != nil {
			return err
		}
		time.Sleep(delay)
		hello[0] = byte(lane)
		if _, err := r.conns[lane].Write(hello); err != nil {
			return err
		}
	}
	_, err = r.conns[CtlLane].Read(make([]byte, 1)) // what is said on a link
	return err
}

// Connections without end from a thousand addresses, more than are remembered: a member
// that had a link comes back each time, over a slow way, too.
func TestAttackACrowdOfManyAddresses(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	s := newSiege(t)
	const home = "127.0.200.1"
	if err := s.r.linkFrom(home, s.a, 0); err != nil {
		t.Fatal(err)
	}
	s.r.close()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var opened atomic.Int64
	for w := range 6 {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if c, err := from(fmt.Sprintf("127.0.%d.%d", w+1, 1+i%200)).DialContext(ctx, "tcp", s.a.addr); err == nil {
					opened.Add(1)
					work.Go(func() {
						_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
						_, _ = c.Read(make([]byte, 1))
						_ = c.Close()
					})
				}
				time.Sleep(3 * time.Millisecond)
			}
		})
	}
	defer work.Wait()
	defer s.a.stop() // who waits is let go
	defer cancel()
	time.Sleep(time.Second)
	for n := range 10 {
		if err := s.r.linkFrom(home, s.a, 50*time.Millisecond); err != nil {
			t.Errorf("link %d: %v", n, err)
		}
		s.r.close()
	}
	t.Logf("%d connections", opened.Load())
}
