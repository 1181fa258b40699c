package lease

import (
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Moment is now, on both clocks of a process.
type Moment struct {
	Awake time.Duration // a clock that may stand still while the machine sleeps
	All   time.Duration // one that does not
}

// Keeper keeps the leases of one site, those that it works under and those that it
// grants. What it is told of the state must be the newest that was applied. Not
// safe for concurrent use.
type Keeper struct {
	self  events.SiteID
	owner *Owner
	heir  *Successor

	asked   map[events.SiteID]Ask           // to be answered
	direct  map[events.SiteID]time.Duration // when a site last asked, Awake
	written map[events.SiteID]uint64        // records of a site that were applied
	noted   map[events.SiteID]uint64        // likewise when it was last told that they were
	asking  map[events.SiteID]time.Duration // when a successor was last asked, All
	told    time.Duration                   // when this site last said that it is there, All
	sizes   []sample                        // of the log that this site writes
}

// sample is how long the site's log was at a moment: what came later is known to
// nobody before.
type sample struct {
	size uint64
	at   time.Duration
}

const (
	// parts is how often a site asks, and says that it is there, in a lease.
	parts = 4
	// askEvery is the longest time between two questions.
	askEvery = 2 * time.Second
	// maxSamples bounds what is remembered of the growth of the log.
	maxSamples = 256
)

// NewKeeper is the keeper of a process that bears a number no other one had, and
// looks once in a period.
func NewKeeper(self events.SiteID, run uint64, period time.Duration) *Keeper {
	return &Keeper{
		self: self, owner: NewOwner(run), heir: NewSuccessor(period),
		asked: map[events.SiteID]Ask{}, direct: map[events.SiteID]time.Duration{}, written: map[events.SiteID]uint64{},
		noted: map[events.SiteID]uint64{}, asking: map[events.SiteID]time.Duration{},
	}
}

// Asked takes a site's question.
func (k *Keeper) Asked(from events.SiteID, a Ask, now Moment) {
	k.asked[from], k.direct[from] = a, now.Awake
	k.heir.Heard(from, now.Awake)
}

// Granted takes a successor's answer.
func (k *Keeper) Granted(by events.SiteID, g Grant, now Moment) { k.owner.Granted(by, g, now.All) }

// Left is how long this site may go on with scheduled work from now.
func (k *Keeper) Left(s *aggregate.State, now Moment) time.Duration {
	return k.owner.Left(now.All, s.Heirs(k.self), s.At)
}

// Look tells what this site has to decide now: to take over, above all. Only when
// that is done, questions are answered; see Answers.
func (k *Keeper) Look(s *aggregate.State, now Moment) (due []commands.Command) {
	k.heir.Look(now.Awake)
	if len(s.Replaced(k.self)) > 0 {
		due = append(due, commands.EndSuccessions{})
	}
	for _, n := range s.SuccessorOf(k.self) {
		if written := s.Written(n.Of); written != k.written[n.Of] {
			k.written[n.Of] = written
			k.heir.Heard(n.Of, now.Awake)
		}
		if silent := k.heir.Silent(n.Of, now.Awake); silent >= s.TakesAfter(k.self, n.Of) {
			due = append(due, commands.Succeed{Of: n.Of, Written: k.written[n.Of], Silent: silent})
		}
	}
	return due
}

// Questions lists whom to ask now.
func (k *Keeper) Questions(s *aggregate.State, now Moment) (to []events.SiteID, ask Ask) {
	for _, h := range s.Heirs(k.self) {
		if at, ok := k.asking[h.Successor]; !ok || now.All >= at+min(h.Yield/parts, askEvery) {
			k.asking[h.Successor] = now.All
			to = append(to, h.Successor)
		}
	}
	return to, k.owner.Ask(now.All)
}

// Answers gives what is to be answered to whom, by how much of this site's log is
// durable: all that it has taken over is in there.
func (k *Keeper) Answers(s *aggregate.State, log events.Origin, size uint64) map[events.SiteID]Grant {
	all := map[events.SiteID]Grant{}
	for of, a := range k.asked {
		if slices.ContainsFunc(s.Heirs(of), func(h aggregate.Succession) bool { return h.Successor == k.self }) {
			all[of] = Grant{Ask: a, Log: log, Size: size}
		}
	}
	clear(k.asked)
	return all
}

// ByOthers renews leases by what successors wrote, which may have come by way of
// other sites, and reports whether this site has to write that it is there: where
// it hears a successor, or one that it is the successor of, in no other way. The
// log that it writes has size records, as found after now.
func (k *Keeper) ByOthers(s *aggregate.State, log events.Origin, size uint64, now Moment) (note bool) {
	if n := len(k.sizes); n == 0 || k.sizes[n-1].size != size {
		k.sizes = append(k.sizes, sample{size, now.All})
		k.sizes = k.sizes[max(0, len(k.sizes)-maxSamples):]
	}
	every := Forever
	for _, h := range s.Heirs(k.self) {
		if s.Heard(h.Successor, h.At.Origin) >= h.At.Position {
			if at, ok := k.before(s.Heard(h.Successor, log)); ok {
				k.owner.HeardSince(h.Successor, at)
			}
		}
		if since, ok := k.owner.since[h.Successor]; !ok || now.All > since+h.Yield/parts {
			note, every = true, min(every, h.Yield/parts)
		}
	}
	for _, n := range s.SuccessorOf(k.self) {
		at, ok := k.direct[n.Of]
		if w := s.Written(n.Of); (!ok || now.Awake > at+n.Yield/parts) && w != k.noted[n.Of] {
			note, every = true, min(every, n.Yield/parts)
		}
	}
	if !note || k.told > 0 && now.All < k.told+every {
		return false
	}
	k.told = now.All
	for _, n := range s.SuccessorOf(k.self) {
		k.noted[n.Of] = s.Written(n.Of)
	}
	return true
}

// before is a moment at which a position of the site's log was not written yet.
func (k *Keeper) before(position uint64) (at time.Duration, ok bool) {
	for _, s := range slices.Backward(k.sizes) {
		if s.size < position {
			return s.at, true
		}
	}
	return 0, false
}

// Silent is for how long a site was not heard whose successor this one is.
func (k *Keeper) Silent(of events.SiteID, now Moment) time.Duration {
	return k.heir.Silent(of, now.Awake)
}
