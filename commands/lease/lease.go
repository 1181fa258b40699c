// Package lease holds both sides of the leases under which scheduled work is done
// where a site has named a successor (rule R13): the site works only for a while
// after its successor has answered it, and the successor takes over only after it
// has heard nothing for longer than that. So the two never work at once, whatever
// becomes of the network between them.
//
// Everything here is a function of what it is told. Times are on a monotonic clock
// of the process that began at some moment, and never cross to another process but
// as an echo. Start with [Owner] and [Successor].
package lease

import (
	"math"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Ask is what a site asks its successor to answer.
type Ask struct {
	Run uint64        // of the process that asks, so that no answer outlives it
	At  time.Duration // on its clock
}

// Grant answers an [Ask]. What its site has taken over by then is in Log up to
// Size, so it counts for who has applied that.
type Grant struct {
	Ask
	Log  events.Origin
	Size uint64
}

// Forever is the rest of a lease that never ends.
const Forever = time.Duration(math.MaxInt64)

// maxPending bounds the grants of one successor that wait for its log.
const maxPending = 16

// Owner is the side of the site that works under leases. Its clock must go on
// while the machine sleeps. Not safe for concurrent use.
type Owner struct {
	run     uint64
	since   map[events.SiteID]time.Duration // from when the newest lease of a successor runs
	pending map[events.SiteID][]Grant       // in the order in which they came
}

// NewOwner is the owner in a process that bears a number no other one had. It has
// no lease: what an earlier process had is not known to run any more.
func NewOwner(run uint64) *Owner {
	return &Owner{run: run, since: map[events.SiteID]time.Duration{}, pending: map[events.SiteID][]Grant{}}
}

// Ask is what to ask now.
func (o *Owner) Ask(now time.Duration) Ask { return Ask{Run: o.run, At: now} }

// Granted takes a grant of a successor. One that waits for the log behind many
// others is dropped: the next ones do as well.
func (o *Owner) Granted(by events.SiteID, g Grant, now time.Duration) {
	if g.Run != o.run || g.At > now || len(o.pending[by]) >= maxPending {
		return
	}
	o.pending[by] = append(o.pending[by], g)
}

// HeardSince notes that a successor is known to have heard of the site at or after
// a moment, and that all it decided until then was applied here.
func (o *Owner) HeardSince(by events.SiteID, at time.Duration) {
	if was, ok := o.since[by]; !ok || at > was {
		o.since[by] = at
	}
}

// Left is how long scheduled work may go on from now without another answer: as
// long as no one of the successors may take over. applied tells up to where a log
// was applied here.
func (o *Owner) Left(now time.Duration, heirs []aggregate.Succession, applied func(events.Origin) uint64) time.Duration {
	left := Forever
	for _, h := range heirs {
		o.settle(h, now, applied)
		since, ok := o.since[h.Successor]
		if !ok {
			return 0
		}
		left = min(left, since+h.Yield-now)
	}
	return max(left, 0)
}

// settle counts the grants whose log was applied far enough. Those that would give
// nothing any more are dropped: of a log that its site has lost it never will be.
func (o *Owner) settle(h aggregate.Succession, now time.Duration, applied func(events.Origin) uint64) {
	var rest []Grant
	for _, g := range o.pending[h.Successor] {
		switch {
		case g.At+h.Yield <= now:
		case applied(g.Log) >= g.Size:
			o.HeardSince(h.Successor, g.At)
		default:
			rest = append(rest, g)
		}
	}
	o.pending[h.Successor] = rest
}

// Successor is the side of who takes over. Its clock may stand still while the
// machine sleeps. Not safe for concurrent use.
type Successor struct {
	period time.Duration
	heard  map[events.SiteID]time.Duration
	looked time.Duration
}

// NewSuccessor is the successor in a process that looks at least once in a period.
func NewSuccessor(period time.Duration) *Successor {
	return &Successor{period: period, heard: map[events.SiteID]time.Duration{}}
}

// Heard notes a word of a site.
func (s *Successor) Heard(of events.SiteID, now time.Duration) { s.heard[of] = max(s.heard[of], now) }

// Look is to be called before Silent, once in a period. A process that stood still
// for longer may have had words waiting for it, so it begins to listen anew.
func (s *Successor) Look(now time.Duration) {
	if now > s.looked+10*s.period {
		for of := range s.heard {
			s.heard[of] = now
		}
	}
	s.looked = now
}

// Silent is for how long nothing was heard of a site. That of which nothing was
// heard in this process is silent from now on.
func (s *Successor) Silent(of events.SiteID, now time.Duration) time.Duration {
	at, ok := s.heard[of]
	if !ok {
		s.heard[of], at = now, now
	}
	return now - at
}
