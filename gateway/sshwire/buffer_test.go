package sshwire

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// A connection over a descriptor holds no receive buffer while it waits, whatever came before, and loses nothing by it.
func TestAWaitingReceiverHoldsNoBuffer(t *testing.T) {
	near, far := tcpPair(t)
	defer far.Close()
	c := newConn(near, must(Config{}.withDefaults()), true)
	defer c.Close()
	c.in.maxPayload = 1 << 20
	s := &sender{}
	s.use(plain{})
	wait := func() {
		t.Helper()
		if err := near.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.in.next(); err == nil || !err.(net.Error).Timeout() {
			t.Fatalf("waiting ends with %v", err)
		}
		if err := near.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	wait()
	for _, n := range []int{10, 3000, 900_000, 100, 200_000, 1} {
		want := bytes.Repeat([]byte{MsgIgnore}, n)
		s.seal(want, 0)
		go func(b []byte) { _, _ = far.Write(b) }(bytes.Clone(*s.pending)) // it is read back below
		*s.pending = (*s.pending)[:0]
		got, err := c.in.next()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("packet of %d bytes came as %d, %v", n, len(got), err)
		}
	}
	wait()
	if c.in.buf != nil {
		t.Errorf("a waiting receiver holds %d bytes", len(c.in.buf))
	}
	far.Close()
	if _, err := c.in.next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestBufferClasses(t *testing.T) {
	for n, want := range map[int]int{
		1: smallBuffer, smallBuffer: smallBuffer, smallBuffer + 1: 2 * smallBuffer,
		largeBuffer: largeBuffer, largeBuffer + 1: largeBuffer + 1,
	} {
		b := takeBuffer(n)
		if len(*b) != want {
			t.Errorf("a buffer for %d bytes has %d, want %d", n, len(*b), want)
		}
		giveBuffer(b)
	}
	giveBuffer(nil)
}
