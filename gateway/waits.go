package gateway

import (
	"slices"
	"sync"

	"github.com/holdfast-pam/holdfast/events"
)

// waits counts connections of known users that have not logged in yet: somebody has proven a key and is asked for
// more. They have left the [door], so they hold up no stranger; a user who has too many makes room for themselves.
type waits struct {
	mu  sync.Mutex
	all []*wait // in the order of arrival
}

type wait struct {
	user events.UserID
	cut  func() // ends the connection
}

const (
	maxWaits     = 1024
	maxUserWaits = 32
)

// enter takes a place for a user; leave gives it back, once or more often. Where there are too many, cut is called of
// the user's oldest, or of the oldest of whoever has most.
func (w *waits) enter(user events.UserID, cut func()) (leave func()) {
	p := &wait{user, cut}
	if gone := w.take(p); gone != nil {
		gone.cut()
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.free(p)
	}
}

// take seats p and gives the place that was freed for it, nil for none.
func (w *waits) take(p *wait) (gone *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[events.UserID]int{}
	for _, other := range w.all {
		counts[other.user]++
	}
	switch {
	case counts[p.user] >= maxUserWaits:
		gone = w.all[slices.IndexFunc(w.all, func(other *wait) bool { return other.user == p.user })]
	case len(w.all) >= maxWaits:
		gone = w.all[0]
		for _, other := range w.all {
			if counts[other.user] > counts[gone.user] {
				gone = other
			}
		}
	}
	if gone != nil {
		w.free(gone)
	}
	w.all = append(w.all, p)
	return gone
}

// free is called with mu held.
func (w *waits) free(p *wait) {
	if i := slices.Index(w.all, p); i >= 0 {
		w.all = slices.Delete(w.all, i, i+1)
	}
}

func (w *waits) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}
