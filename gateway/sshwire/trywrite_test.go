package sshwire

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// TestTryWriteNeverWaits fills the network while nobody reads, and then reads all of it.
func TestTryWriteNeverWaits(t *testing.T) {
	a, b := pair(t, testClient(), testServer())
	packet := func(i int) []byte {
		return ChannelData{uint32(i), bytes.Repeat([]byte{byte(i)}, 16<<10)}.Append(nil)
	}
	n := 0
	for sent := true; sent; n++ {
		var took bool
		if took, sent = a.TryWrite([][]byte{packet(n)}); !took {
			t.Fatalf("packet %d was not taken", n)
		}
		if n > 10000 {
			t.Fatal("the network takes everything")
		}
	}
	if took, sent := a.TryWrite([][]byte{packet(n)}); took || sent {
		t.Error("a packet was taken that would overtake what is buffered")
	}
	flushed := make(chan error, 1)
	go func() { flushed <- a.Flush() }()
	for i := range n {
		p, err := b.ReadPacket()
		if err != nil || !bytes.Equal(p, packet(i)) {
			t.Fatalf("packet %d: %d bytes, %v", i, len(p), err)
		}
	}
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	if took, sent := a.TryWrite([][]byte{packet(n)}); !took || !sent {
		t.Error("nothing is taken once the network has room again")
	}
}

func TestTryWriteTakesNothing(t *testing.T) {
	good := ChannelData{1, []byte("x")}.Append(nil)
	tests := []struct {
		name    string
		prepare func(c *Conn)
		packets [][]byte
	}{
		{"during a key exchange", func(c *Conn) { _ = c.Rekey() }, [][]byte{good}},
		{"behind what is buffered", func(c *Conn) { _ = c.WritePacket(good) }, [][]byte{good}},
		{"after the end", func(c *Conn) { c.Close() }, [][]byte{good}},
		{"while another one writes", func(c *Conn) { c.writing.Lock(); time.AfterFunc(time.Second, c.writing.Unlock) }, [][]byte{good}},
		{"of another layer", func(*Conn) {}, [][]byte{good, {MsgIgnore}}},
		{"an empty packet", func(*Conn) {}, [][]byte{{}}},
		{"too long a packet", func(*Conn) {}, [][]byte{append([]byte{MsgChannelData}, make([]byte, DefaultMaxPacket)...)}},
		{"too many bytes", func(*Conn) {}, [][]byte{append([]byte{MsgChannelData}, make([]byte, outputLimit/4)...)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := pair(t, testClient(), testServer())
			tt.prepare(a)
			if took, sent := a.TryWrite(tt.packets); took || sent {
				t.Errorf("took %v, sent %v", took, sent)
			}
		})
	}
	t.Run("without a socket", func(t *testing.T) {
		x, y := net.Pipe()
		go io.Copy(io.Discard, y)
		c := newConn(x, Config{MaxPacket: DefaultMaxPacket}, true)
		if took, sent := c.TryWrite([][]byte{good}); took || sent {
			t.Errorf("took %v, sent %v", took, sent)
		}
		c.Close()
		y.Close()
	})
	a, _ := pair(t, testClient(), testServer())
	if took, sent := a.TryWrite(nil); !took || !sent {
		t.Errorf("no packets: took %v, sent %v", took, sent)
	}
}
