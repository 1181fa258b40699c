package events

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// HLC is a hybrid logical clock (Kulkarni et al. 2014): 48 bits of
// milliseconds since 1970 and a 16-bit counter. It sorts events without
// breaking causality and decides nothing else.
type HLC uint64

// MaxAhead is how far a received HLC may run ahead of the local wall clock
// before the log that carries it is held (rule R16).
const MaxAhead = 24 * time.Hour

// ErrClockAhead says that a received HLC is further ahead than [MaxAhead].
var ErrClockAhead = errors.New("hybrid clock is too far ahead of this site's clock")

// Millis is the wall-clock part, in milliseconds since 1970 UTC.
func (h HLC) Millis() int64 { return int64(h >> 16) }

// Ticker issues HLC values that only grow. Its zero value needs Now set; it is
// safe for concurrent use.
type Ticker struct {
	Now  func() time.Time
	mu   sync.Mutex
	last HLC
}

// Next returns a value greater than every value issued or observed before.
// When the wall clock stands still or goes back, the counter goes on.
func (t *Ticker) Next() HLC {
	t.mu.Lock()
	defer t.mu.Unlock()
	wall := HLC(uint64(t.Now().UnixMilli()) << 16)
	t.last = max(t.last+1, wall)
	return t.last
}

// Observe takes note of a value from elsewhere, so that later ones are
// greater. A value more than [MaxAhead] ahead of the wall clock is refused.
func (t *Ticker) Observe(h HLC) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ahead := h.Millis() - t.Now().UnixMilli(); ahead > MaxAhead.Milliseconds() {
		return fmt.Errorf("%w: %d s ahead", ErrClockAhead, ahead/1000)
	}
	t.last = max(t.last, h)
	return nil
}

// Resume takes up where the site's own log ends, so that later values are
// greater. Whatever it says is right: a site whose wall clock was set back a
// day still goes on.
func (t *Ticker) Resume(h HLC) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = max(t.last, h)
}
