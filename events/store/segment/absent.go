package segment

import (
	"context"
	"encoding/binary"
	"iter"
)

// Absent yields, from a position on, those whose payload is not held here. It reads
// no payloads.
func (l *Log) Absent(ctx context.Context, from uint64) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		v, err := l.current()
		if err != nil {
			yield(0, err)
			return
		}
		for f, err := range l.frames(ctx, v, max(from, 1), false) {
			if err != nil {
				yield(0, err)
				return
			}
			for i := range f.entries {
				row := f.body[i*tableEntrySize:]
				if p := f.first + uint64(i); p >= from && binary.LittleEndian.Uint32(row[8:]) == absent && !yield(p, nil) {
					return
				}
			}
		}
	}
}
