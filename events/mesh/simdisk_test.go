package mesh_test

import (
	"bytes"
	"iter"
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// simDisk is what a site has stored. What is not durable yet may be lost, torn
// or kept by a crash.
type simDisk struct {
	logs    map[events.Origin]*simLog
	writing map[events.Kind]events.Origin // the site's own logs of the newest epoch
	forks   map[events.Origin]mesh.Fork
	marker  int // of the machine that the disk was last used on
}

type simLog struct {
	key     mesh.Key
	entries []events.Entry
	durable int
	heads   []simHead // of logs written elsewhere; one counts when it covers no more than is durable
}

type simHead struct {
	size int
	note []byte
}

func newSimDisk(marker int) *simDisk {
	return &simDisk{logs: map[events.Origin]*simLog{}, writing: map[events.Kind]events.Origin{}, forks: map[events.Origin]mesh.Fork{}, marker: marker}
}

// copy is a backup, or a clone: what is durable.
func (d *simDisk) copy() *simDisk {
	out := newSimDisk(d.marker)
	maps.Copy(out.writing, d.writing)
	maps.Copy(out.forks, d.forks)
	for o, l := range d.logs {
		out.logs[o] = &simLog{
			key: l.key, entries: slices.Clip(l.entries[:l.durable]), durable: l.durable,
			heads: slices.Clone(l.covered()),
		}
	}
	return out
}

func (d *simDisk) origins() []events.Origin {
	return slices.SortedFunc(maps.Keys(d.logs), events.Origin.Compare)
}

// covered are the heads over what is durable.
func (l *simLog) covered() []simHead {
	n := len(l.heads)
	for n > 0 && l.heads[n-1].size > l.durable {
		n--
	}
	return l.heads[:n]
}

// verified is the size that heads cover, with the newest of them.
func (l *simLog) verified() (int, []byte) {
	if h := l.covered(); len(h) > 0 {
		return h[len(h)-1].size, h[len(h)-1].note
	}
	return 0, nil
}

func (l *simLog) tree(size int) evidence.Tree {
	var t evidence.Tree
	for _, e := range l.entries[:size] {
		t.Append(evidence.LeafHash(e.Header))
	}
	return t
}

func (l *simLog) leaves(size int) iter.Seq2[events.Hash, error] {
	return func(yield func(events.Hash, error) bool) {
		for _, e := range l.entries[:size] {
			if !yield(evidence.LeafHash(e.Header), nil) {
				return
			}
		}
	}
}

// branch proves the roots at some sizes against a head at size.
func (l *simLog) branch(size int, head []byte, sizes []uint64) (mesh.Branch, error) {
	hashes, err := evidence.ReadHashes(l.leaves(size))
	if err != nil {
		return mesh.Branch{}, err
	}
	return mesh.MakeBranch(hashes, head, sizes)
}

// read gives the records to push, as the core asks for them.
func (l *simLog) read(r mesh.Read) mesh.ReadDone {
	out := mesh.ReadDone{Link: r.Link, Origin: r.Origin, From: r.From}
	end, size := int(r.From), 0
	for end < int(r.To) && (end == int(r.From) || size < r.Bytes) {
		size += len(l.entries[end].Header) + len(l.entries[end].Payload)
		end++
	}
	if !r.Own {
		i := slices.IndexFunc(l.covered(), func(h simHead) bool { return h.size > int(r.From) })
		for i+1 < len(l.covered()) && l.heads[i+1].size <= end {
			i++
		}
		end, out.Head = l.heads[i].size, l.heads[i].note
	}
	for _, e := range l.entries[r.From:end] {
		if !r.Payloads {
			e.Payload = nil
		}
		out.Entries = append(out.Entries, e)
	}
	if r.Own {
		t := l.tree(end)
		out.Root = t.Root()
	}
	return out
}

// samePrefix reports whether two copies of a log agree as far as both reach.
func samePrefix(a, b *simLog) bool {
	n := min(a.durable, b.durable)
	for i := range n {
		if !bytes.Equal(a.entries[i].Header, b.entries[i].Header) {
			return false
		}
	}
	return true
}
