package mesh

import (
	"context"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// reportQueue holds what is to be told to Handle. It grows with what goes wrong
// between sites, not with what they send: who sends data keys, or what is about them,
// faster than it is taken in waits with all of its link.
type reportQueue struct {
	mu    sync.Mutex
	all   []Output
	bytes map[events.SiteID]int // of data keys in all, and being handled
	wake  chan struct{}         // capacity 1
	taken chan struct{}         // closed and renewed when Handle has taken something
}

// maxReportBytes bounds what one site sent of data keys and waits to be taken in: more
// than a site with a hundred thousand credentials has.
const maxReportBytes = 32 << 20

func (q *reportQueue) add(o Output) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, o)
	if site, n := reportBytes(o); n > 0 {
		if q.bytes == nil {
			q.bytes = map[events.SiteID]int{}
		}
		q.bytes[site] += n
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// room waits until a message of a link may be queued, or the link has ended.
func (q *reportQueue) room(ctx context.Context, l *lanePair, m Message) {
	size := 0
	switch m := m.(type) {
	case Wraps:
		_, size = reportBytes(GotWraps{Wraps: m})
	case Kept:
		_, size = reportBytes(GotKept{Kept: m})
	default:
		return
	}
	for {
		q.mu.Lock()
		waiting, taken := q.bytes[l.site], q.taken
		q.mu.Unlock()
		if waiting == 0 || waiting+size <= maxReportBytes {
			return
		}
		select {
		case <-taken:
		case <-l.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// reportBytes is what takes room in the queue, of what a site may send much of; and
// some more, since an empty message takes some too.
func reportBytes(o Output) (from events.SiteID, n int) {
	const each = 256
	switch o := o.(type) {
	case GotWraps:
		for _, b := range slices.Concat(o.Keys, o.Want) {
			n += len(b)
		}
		return o.Site, n + each + len(o.After)*64
	case GotKept:
		return o.Site, len(o.Keys)*len(uuid.UUID{}) + each
	}
	return from, 0
}

func (q *reportQueue) take() []Output {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}

// handled says that Handle is done with something.
func (q *reportQueue) handled(o Output) {
	site, n := reportBytes(o)
	if n == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes[site] -= n; q.bytes[site] <= 0 {
		delete(q.bytes, site)
	}
	close(q.taken)
	q.taken = make(chan struct{})
}

func (n *Node) report() {
	for {
		select {
		case <-n.reports.wake:
		case <-n.ctx.Done():
			return
		}
		for _, o := range n.reports.take() {
			if _, again := reportBytes(o); again > 0 && n.ctx.Err() != nil {
				continue // it comes again with the next link
			}
			if n.cfg.Handle != nil {
				n.cfg.Handle(o)
			}
			n.reports.handled(o)
		}
	}
}
