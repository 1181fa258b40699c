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

// TestAppendPackets compares with the codec that all other events use, byte by
// byte.
func TestAppendPackets(t *testing.T) {
	numbers := []uint64{0, 23, 24, 255, 256, 1<<16 - 1, 1 << 16, 1<<32 - 1, 1 << 32, 1<<64 - 1} // where the encoding changes
	number := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom(numbers))
	size := rapid.OneOf(rapid.IntRange(0, 300), rapid.SampledFrom([]int{23, 24, 255, 256, 1<<16 - 1, 1 << 16, 70000}))
	rapid.Check(t, func(t *rapid.T) {
		e := SessionPackets{
			Direction: rapid.SampledFrom([]Direction{In, Out}).Draw(t, "direction"),
			First:     number.Draw(t, "first"), Count: number.Draw(t, "count"), At: number.Draw(t, "at"),
		}
		sealed := bytes.Repeat([]byte{0xa5}, size.Draw(t, "size"))
		before := []byte("before")
		got, err := AppendPackets(bytes.Clone(before), e, len(sealed), func(dst []byte) ([]byte, error) { return append(dst, sealed...), nil })
		if err != nil {
			t.Fatal(err)
		}
		e.Sealed = sealed
		want, err := EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, append(before, want...)) {
			t.Fatalf("%+v: got % x", e, got[:min(len(got), 100)])
		}
	})
	if _, err := AppendPackets(nil, SessionPackets{}, 3, func(dst []byte) ([]byte, error) { return append(dst, 1), nil }); err == nil {
		t.Error("sealed bytes of another length than announced are taken")
	}
	lost := errors.New("lost")
	if _, err := AppendPackets(nil, SessionPackets{}, 3, func([]byte) ([]byte, error) { return nil, lost }); !errors.Is(err, lost) {
		t.Errorf("%v, want the error of seal", err)
	}
}
