package store

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// How commits are cut: a keystroke must not wait behind a bulk transfer, so a
// commit is short while there are small groups, or were a moment ago. Groups of
// SubmitBulk never count as small.
const (
	smallGroup   = 4 << 10
	shortCommit  = 128 << 10
	longCommit   = 1 << 20
	smallMemory  = 50 * time.Millisecond
	bulkPatience = 16 // commits without bulk before the oldest go first
)

// group is what must be stored together.
type group struct {
	prepared []Prepared
	size     int
	headroom bool
	mayPass  bool // before bulk, if it is small
	seq      uint64
	done     func([]events.Record, error)

	// for Append
	answered chan struct{}
	records  []events.Record
	err      error
}

func newGroup(ctx context.Context, prepared []Prepared, mayPass bool) *group {
	g := &group{prepared: prepared, headroom: MayUseHeadroom(ctx), mayPass: mayPass}
	for i := range prepared {
		g.size += prepared[i].Size()
	}
	return g
}

// queue holds groups that wait, in two lines: bulk holds large ones and every
// group that shares a stream with one that waits there, so that each stream
// keeps its order although small ones are taken first. Guarded by the writer's
// mutex.
type queue struct {
	small, bulk []*group
	bytes       int
	seq         uint64
	held        map[uuid.UUID]int // groups in bulk that touch a stream
	lastSmall   time.Time
	passed      int // commits in a row that took no bulk although some waited
}

func (q *queue) init() { q.held = map[uuid.UUID]int{} }

// push queues a group.
func (q *queue) push(g *group, now time.Time) {
	q.seq++
	g.seq = q.seq
	q.bytes += g.size
	small := g.mayPass && g.size <= smallGroup+headerGuess
	if small {
		q.lastSmall = now
	}
	if small && !slices.ContainsFunc(g.prepared, func(p Prepared) bool { return q.held[p.header.Stream] > 0 }) {
		q.small = append(q.small, g)
		return
	}
	q.bulk = append(q.bulk, g)
	for i := range g.prepared {
		q.held[g.prepared[i].header.Stream]++
	}
}

// take removes the groups of the next commit: small ones first, then bulk. At
// least one is taken if any waits.
func (q *queue) take(now time.Time) []*group {
	limit := longCommit
	if len(q.small) > 0 || now.Sub(q.lastSmall) < smallMemory {
		limit = shortCommit
	}
	if q.passed >= bulkPatience {
		q.passed = 0
		return q.takeOldest(longCommit)
	}
	c := cut{limit: limit}
	for len(q.small) > 0 && c.add(q.small[0]) {
		q.small = q.small[1:]
	}
	bulk := len(q.bulk)
	for len(q.small) == 0 && len(q.bulk) > 0 && c.add(q.bulk[0]) {
		q.release(q.bulk[0])
		q.bulk = q.bulk[1:]
	}
	if bulk > 0 && len(q.bulk) == bulk {
		q.passed++
	} else {
		q.passed = 0
	}
	q.bytes -= c.size
	return c.groups
}

// takeOldest takes groups in the order in which they came.
func (q *queue) takeOldest(limit int) []*group {
	c := cut{limit: limit}
	for len(q.small)+len(q.bulk) > 0 {
		if len(q.bulk) == 0 || len(q.small) > 0 && q.small[0].seq < q.bulk[0].seq {
			if !c.add(q.small[0]) {
				break
			}
			q.small = q.small[1:]
			continue
		}
		if !c.add(q.bulk[0]) {
			break
		}
		q.release(q.bulk[0])
		q.bulk = q.bulk[1:]
	}
	q.bytes -= c.size
	return c.groups
}

// cut is a commit that is being put together.
type cut struct {
	limit, size, records int
	groups               []*group
}

// add takes a group unless it goes over the limit; the first always fits.
func (c *cut) add(g *group) bool {
	if len(c.groups) > 0 && (c.size+g.size > c.limit || c.records+len(g.prepared) > MaxCommitEntries) {
		return false
	}
	c.groups = append(c.groups, g)
	c.size += g.size
	c.records += len(g.prepared)
	return true
}

// release forgets that a group holds its streams in bulk.
func (q *queue) release(g *group) {
	for i := range g.prepared {
		s := g.prepared[i].header.Stream
		if q.held[s]--; q.held[s] == 0 {
			delete(q.held, s)
		}
	}
}

// remove takes out a group that waits, and reports whether it did.
func (q *queue) remove(g *group) bool {
	if i := slices.Index(q.small, g); i >= 0 {
		q.small = slices.Delete(q.small, i, i+1)
	} else if i := slices.Index(q.bulk, g); i >= 0 {
		q.bulk = slices.Delete(q.bulk, i, i+1)
		q.release(g)
	} else {
		return false
	}
	q.bytes -= g.size
	return true
}

// removePlain takes out all groups that may not use the head-room.
func (q *queue) removePlain() []*group {
	var out []*group
	for _, g := range slices.Concat(q.small, q.bulk) {
		if !g.headroom {
			q.remove(g)
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b *group) int { return int(a.seq) - int(b.seq) })
	return out
}

// drain takes out everything, the oldest first.
func (q *queue) drain() []*group {
	var out []*group
	for len(q.small)+len(q.bulk) > 0 {
		out = append(out, q.takeOldest(longCommit)...)
	}
	return out
}
