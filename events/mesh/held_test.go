package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"
)

// A member that starts is told what the others hold of its logs, proven by heads
// that it signed itself; a stranger is told nothing, and a member nothing of
// others.
func TestAskHeld(t *testing.T) {
	a, b := newStation(t, 1), newStation(t, 2)
	la, lb := a.listen(), b.listen()
	a.start(la, a.peer(), b.peer())
	b.start(lb, a.peer(), b.peer())
	a.write(a.ctl, 5, 10)
	b.has(a)
	a.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	size, root := a.ctl.Log().Size()
	b.waitFor("the heads of what it holds", func() bool { // its disk has it a moment before it may tell
		heads, err := AskHeld(ctx, b.peer().Member, b.addr, a.identity, a.id)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, h := range heads {
			if h.Origin.Site != a.id {
				t.Errorf("it is told of %s", h.Origin)
			}
			found = found || h.Origin == a.ctl.Log().Origin() && h.Size == size && h.Root == root
		}
		return found
	})
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if heads, err := AskHeld(ctx, b.peer().Member, b.addr, stranger, a.id); err == nil {
		t.Errorf("a stranger is told %v", heads)
	}
	if heads, err := AskHeld(ctx, b.peer().Member, lost(t), a.identity, a.id); err == nil {
		t.Errorf("nobody said %v", heads)
	}
}

// lost is an address where nobody listens.
func lost(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

// A peer that claims to hold more than there is can't prove it: what no head by the
// log's own key covers is left out.
func TestClaimsOfHeldLogsAreProven(t *testing.T) {
	a, b := newStation(t, 1), newStation(t, 2)
	lb := b.listen()
	cert, err := certificate(b.identity, b.id)
	if err != nil {
		t.Fatal(err)
	}
	good, err := b.ctl.Sign(b.ctl.Log().Origin(), 1, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	forged := Vouch(b.identity, a.ctl.Log().Origin(), b.ctl.Key(b.ctl.Log().Origin()))
	mine := Vouch(a.identity, a.ctl.Log().Origin(), a.ctl.Key(a.ctl.Log().Origin()))
	done := make(chan error, 1)
	go func() { done <- answerOnce(lb, cert, []HeldLog{{forged, good.Note}, {mine, good.Note}, {mine, nil}}) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	heads, err := AskHeld(ctx, b.peer().Member, b.addr, a.identity, a.id)
	if err != nil || len(heads) != 0 {
		t.Errorf("%v, %v", heads, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// answerOnce is a member that says what it likes to who asks first.
func answerOnce(l net.Listener, cert tls.Certificate, held []HeldLog) error {
	conn, err := tls.NewListener(l, serverTLS(cert, func(ed25519.PublicKey) bool { return true })).Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	return errors.Join(writeJoin(conn, held), l.Close())
}
