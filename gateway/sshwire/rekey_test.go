package sshwire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// eachPacket makes n bytes of numbered CHANNEL_DATA packets of many sizes.
func eachPacket(n int, do func([]byte) error) error {
	data := make([]byte, 32768)
	for i := 0; n > 0; i++ {
		size := min(n, 1+(i*7919)%len(data))
		binary.BigEndian.PutUint32(data, uint32(i))
		if err := do(ChannelData{uint32(i), data[:size]}.Append(nil)); err != nil {
			return err
		}
		n -= size
	}
	return nil
}

// stream sends n bytes and CHANNEL_EOF, and returns the digest of what it sent.
func stream(c *Conn, n int) ([]byte, error) {
	h := sha256.New()
	err := eachPacket(n, func(p []byte) error {
		h.Write(p)
		return c.WritePacket(p)
	})
	if err == nil {
		err = c.WritePacket(ChannelEOF{0}.Append(nil))
	}
	if err == nil {
		err = c.Flush()
	}
	return h.Sum(nil), err
}

// drain reads until the connection ends, as the owner of a Conn must for key exchanges to finish. It checks the
// packets' numbers and reports the digest of each stream when its CHANNEL_EOF comes.
func drain(c *Conn, report func([]byte, error)) {
	h, next := sha256.New(), uint32(0)
	for {
		p, err := c.ReadPacket()
		if err != nil {
			report(nil, err)
			return
		}
		if p[0] == MsgChannelEOF {
			report(h.Sum(nil), nil)
			h.Reset()
			next = 0
			continue
		}
		if m := must(ParseChannelData(p)); m.Recipient != next {
			report(nil, fmt.Errorf("packet %d came where %d was due", m.Recipient, next))
			return
		}
		next++
		h.Write(p)
	}
}

type outcome struct {
	sum []byte
	err error
}

// bothWays streams n bytes in each direction at once while disturb runs, and closes the connection.
func bothWays(t *testing.T, a, b *Conn, n int, disturb func(stop <-chan struct{})) {
	t.Helper()
	var running sync.WaitGroup
	sent, got := make(chan outcome, 8), make(chan outcome, 8)
	stop := make(chan struct{})
	running.Go(func() { disturb(stop) })
	for _, c := range []*Conn{a, b} {
		running.Go(func() { s, err := stream(c, n); sent <- outcome{s, err} })
		running.Go(func() { drain(c, func(s []byte, err error) { got <- outcome{s, err} }) })
	}
	defer func() { a.Close(); b.Close(); running.Wait() }()
	defer close(stop)
	late := time.After(30 * time.Second)
	for range 2 {
		for _, ch := range []chan outcome{sent, got} {
			select {
			case o := <-ch:
				if o.err != nil {
					t.Fatal(o.err)
				}
				if want := streamDigest(n); !bytes.Equal(o.sum, want) {
					t.Fatal("what came is not what was sent")
				}
			case <-late:
				t.Fatal("hangs")
			}
		}
	}
}

// streamDigest is what stream's packets amount to; they depend on n alone.
func streamDigest(n int) []byte {
	h := sha256.New()
	eachPacket(n, func(p []byte) error { h.Write(p); return nil })
	return h.Sum(nil)
}

func TestRekeyUnderLoadBothWays(t *testing.T) {
	size := 12 << 20 // each way, three times
	if full {
		size = 64 << 20
	}
	for _, p := range protections([]string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"}) {
		if !full && p.cipher != "aes128-gcm@openssh.com" && p.cipher != "chacha20-poly1305@openssh.com" && p.cipher != "aes128-ctr" {
			continue
		}
		t.Run(p.cipher+p.mac, func(t *testing.T) {
			client, server := testClient(), testServer()
			p.kex = "curve25519-sha256"
			client.Config, server.Config = p.config(), p.config()
			client.RekeyBytes, server.RekeyPackets = 900<<10, 40
			a, b := pair(t, client, server)
			bothWays(t, a, b, size, func(stop <-chan struct{}) {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
						if errors.Join(a.Rekey(), b.Rekey()) != nil {
							return // closed under us, which bothWays judges
						}
					}
				}
			})
			if a.kex.rounds < 20 {
				t.Errorf("only %d key exchanges", a.kex.rounds)
			}
		})
	}
}

func TestRekeySimultaneous(t *testing.T) {
	for range 10 {
		a, b := pair(t, testClient(), testServer())
		if err := errors.Join(a.Rekey(), b.Rekey()); err != nil { // neither has read the other's KEXINIT
			t.Fatal(err)
		}
		bothWays(t, a, b, 100_000, func(<-chan struct{}) {})
		if a.kex.rounds != 2 || b.kex.rounds != 2 {
			t.Fatalf("%d and %d key exchanges", a.kex.rounds, b.kex.rounds)
		}
	}
}

// When all buffers are full both ways and both sides begin a key exchange, the readers must get through: no write may
// stand in their way.
func TestRekeyWithFullBuffersDoesNotDeadlock(t *testing.T) {
	a, b := pair(t, testClient(), testServer())
	const n = 24 << 20
	var running sync.WaitGroup
	sent, got := make(chan error, 2), make(chan error, 8)
	for _, c := range []*Conn{a, b} {
		running.Go(func() { _, err := stream(c, n); sent <- err })
	}
	time.Sleep(150 * time.Millisecond) // nobody reads: the writers are stuck in the network
	if err := errors.Join(a.Rekey(), b.Rekey()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Conn{a, b} {
		running.Go(func() { drain(c, func(_ []byte, err error) { got <- err }) })
	}
	defer func() { a.Close(); b.Close(); running.Wait() }()
	late := time.After(20 * time.Second)
	for _, ch := range []chan error{sent, sent, got, got} {
		select {
		case err := <-ch:
			if err != nil {
				t.Fatal(err)
			}
		case <-late:
			t.Fatal("deadlock")
		}
	}
}

func TestOnRekeyAlternatesAndEndsFalse(t *testing.T) {
	var mu sync.Mutex
	var told []bool
	client := testClient()
	client.RekeyBytes = 200 << 10
	client.OnRekey = func(started bool) {
		mu.Lock()
		told = append(told, started)
		mu.Unlock()
	}
	a, b := pair(t, client, testServer())
	go drain(b, func([]byte, error) {})
	done := make(chan struct{})
	go drain(a, func(_ []byte, err error) {
		if err != nil {
			close(done)
		}
	})
	if _, err := stream(a, 4<<20); err != nil {
		t.Fatal(err)
	}
	// One that is cut off must be taken back too.
	if err := a.Rekey(); err != nil {
		t.Fatal(err)
	}
	b.Close()
	<-done
	mu.Lock()
	defer mu.Unlock()
	if len(told) < 10 || len(told)%2 != 0 {
		t.Fatalf("told %d times", len(told))
	}
	for i, started := range told {
		if started != (i%2 == 0) {
			t.Fatalf("call %d said %v", i, started)
		}
	}
}

func TestRekeyByTime(t *testing.T) {
	client := testClient()
	client.RekeyInterval = 20 * time.Millisecond
	a, b := pair(t, client, testServer())
	go echoServer(b)
	go func() { time.Sleep(300 * time.Millisecond); b.Disconnect(ReasonByApplication, "enough") }()
	for {
		if _, err := a.ReadPacket(); err != nil {
			break
		}
	}
	if a.kex.rounds < 4 {
		t.Errorf("%d key exchanges in 300 ms", a.kex.rounds)
	}
}

// A writer that waits for a key exchange must be freed when the connection ends.
func TestCloseFreesWaitingWriter(t *testing.T) {
	a, _ := pair(t, testClient(), testServer())
	if err := a.Rekey(); err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() { got <- a.WritePacket(ChannelEOF{0}.Append(nil)) }()
	select {
	case err := <-got:
		t.Fatalf("written within a key exchange: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	a.Close()
	if err := <-got; err == nil {
		t.Fatal("written after the end")
	}
}
