package events

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPacketBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		packets := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 40), 0, 20).Draw(t, "packets")
		first := rapid.Uint64Range(0, 1<<50).Draw(t, "first")
		start := time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "start")) * time.Microsecond
		var block []byte
		times := make([]time.Duration, len(packets))
		prev := start
		for i, p := range packets {
			times[i] = prev + time.Duration(rapid.Int64Range(-5, 1<<30).Draw(t, "step"))*time.Microsecond
			block = AppendPacket(block, prev, times[i], p)
			times[i] = max(prev, times[i])
			prev = times[i]
		}
		e := SessionPackets{First: first, Count: uint64(len(packets)), At: uint64(start.Microseconds())}
		got, err := e.Packets(block)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range got {
			if p.Number != first+uint64(i) || p.At != times[i] || !bytes.Equal(p.Bytes, packets[i]) {
				t.Fatalf("packet %d: got %d at %v % x, want %d at %v % x", i, p.Number, p.At, p.Bytes, first+uint64(i), times[i], packets[i])
			}
		}
		e.Count++
		if _, err := e.Packets(block); !errors.Is(err, ErrBadBlock) {
			t.Fatalf("wrong count: %v, want ErrBadBlock", err)
		}
	})
}

func FuzzPackets(f *testing.F) {
	f.Add(uint64(1), AppendPacket(nil, 0, time.Second, []byte("x")))
	f.Fuzz(func(t *testing.T, count uint64, block []byte) {
		e := SessionPackets{Count: count}
		packets, err := e.Packets(block)
		if err == nil && uint64(len(packets)) != count {
			t.Errorf("%d packets where %d are declared", len(packets), count)
		}
	})
}
