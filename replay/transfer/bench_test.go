package transfer

import (
	"crypto/sha256"
	"strings"
	"testing"
)

const benchBytes = 64 << 20

// conversation moves benchBytes in requests of 32 KiB, 64 at a time, in channel packets of at most 32 KiB.
func conversation(up bool) (all []said) {
	const block = 32 << 10
	k := hello()
	k.open("f", map[bool]int{true: creating, false: openRead}[up], "handle")
	data := strings.Repeat("x", block)
	for i := 0; i < benchBytes/block; i += 64 {
		var ids []uint32
		for j := range 64 {
			offset := uint64(i+j) * block
			if up {
				ids = append(ids, k.ask(fxpWrite, "handle", offset, data))
			} else {
				ids = append(ids, k.ask(fxpRead, "handle", offset, block))
			}
		}
		for _, id := range ids {
			if up {
				k.status(id, 0)
			} else {
				k.answer(packet(fxpData, id, data))
			}
		}
	}
	if !up {
		k.do(statusEOF, fxpRead, "handle", uint64(benchBytes), block)
	}
	k.close("handle")
	for _, s := range k.all {
		for rest := s.bytes; len(rest) > 0; {
			n := min(len(rest), block)
			all = append(all, said{s.target, rest[:n]})
			rest = rest[n:]
		}
	}
	return all
}

func BenchmarkDecode(b *testing.B) {
	for _, way := range []struct {
		name string
		up   bool
	}{{"upload", true}, {"download", false}} {
		b.Run(way.name, func(b *testing.B) {
			all := conversation(way.up)
			b.SetBytes(benchBytes)
			b.ReportAllocs()
			for b.Loop() {
				whole := false
				d := NewDecoder(overSFTP, 0, func(o Operation) { whole = whole || o.Complete })
				for _, s := range all {
					if s.target {
						d.FromTarget(0, s.bytes)
					} else {
						d.FromClient(0, s.bytes)
					}
				}
				if d.End(0); !whole {
					b.Fatal("not whole")
				}
			}
		})
	}
	b.Run("hashing alone", func(b *testing.B) {
		data := make([]byte, 32<<10)
		b.SetBytes(benchBytes)
		for b.Loop() {
			h := sha256.New()
			for range benchBytes / len(data) {
				h.Write(data)
			}
		}
	})
}

func BenchmarkGuard(b *testing.B) {
	all := conversation(true)
	b.SetBytes(benchBytes)
	b.ReportAllocs()
	for b.Loop() {
		g := asked(onlyUp, "subsystem", "sftp")
		for _, s := range all {
			if !s.target && g.FromClient(s.bytes).End {
				b.Fatal("refused")
			}
		}
	}
}
