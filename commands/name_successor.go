package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// NameSuccessor names the site that takes this one's scheduled work over by itself
// when nothing is heard of this one (rule R13). A site names its own, and nobody
// else does it for it: it is who has to stop before the other one starts.
type NameSuccessor struct {
	Successor   string // name or id; empty for nobody any more
	Yield, Take time.Duration
	Reason      string
}

var _ = register[NameSuccessor]("NameSuccessor", byAdmin|headroom)

// Decide refuses times by which both sites could work at once, and a successor
// that could not open the secrets that it would have to change.
func (c NameSuccessor) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	self, e := env.Log.Site, events.SuccessorNamed{Reason: c.Reason}
	now, named := s.Successor(self)
	if c.Successor == "" {
		if !named {
			return nil, conflict("", "this site has no successor")
		}
	} else {
		if err := checkLease(c.Yield, c.Take); err != nil {
			return nil, err
		}
		to, err := FindMember(s, c.Successor)
		if err != nil {
			return nil, err
		}
		if to.Site == self {
			return nil, invalid("", "a site can't be its own successor")
		}
		if err := mayHold(s, to.Site); err != nil {
			return nil, err
		}
		e.Successor, e.Yield, e.Take = to.Site, uint64(c.Yield.Milliseconds()), uint64(c.Take.Milliseconds()) //nolint:gosec // checked above
		if named && now.Successor == e.Successor && now.Yield == c.Yield && now.Take == c.Take {
			return nil, conflict("", "site %s is the successor already, by the same times", quoted(to.Name))
		}
	}
	d := newDecision(by, env)
	d.add(self.UUID, e)
	return d.done()
}

func checkLease(yield, take time.Duration) error {
	switch least := aggregate.LeastTake(yield).Round(time.Millisecond) + time.Millisecond; {
	case yield < aggregate.LeastYield || yield > aggregate.MostTake || yield%time.Millisecond != 0:
		return invalid("", "a site can stop after %s at least and %s at most, in whole milliseconds", aggregate.LeastYield, aggregate.MostTake)
	case take < least:
		return invalid("of two clocks that run differently the slow one has to have stopped first",
			"a successor of a site that stops after %s can take over after %s at the earliest", yield, least)
	case take > aggregate.MostTake || take%time.Millisecond != 0:
		return invalid("", "a successor can take over after %s at most, in whole milliseconds", aggregate.MostTake)
	}
	return nil
}

// EndSuccessions says that this site goes by no naming any more in whose place
// another one came.
type EndSuccessions struct{}

var _ = register[EndSuccessions]("EndSuccessions", bySite|headroom)

// Decide says it once of each.
func (EndSuccessions) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	for _, n := range s.Replaced(events.SiteID{UUID: by.ID}) {
		d.because(n.At.ID, by.ID, events.SuccessionEnded{Of: n.Of, By: n.At.ID})
	}
	return d.done()
}

// Succeed takes over the scheduled work of a site that named this one its
// successor and of which nothing was heard for long enough. Whether it was so long
// is the business of who gives the command.
type Succeed struct {
	Of      events.SiteID
	Written uint64 // records of its ctl logs that were applied when it was found silent
	Silent  time.Duration
}

var _ = register[Succeed]("Succeed", bySite|headroom)

// Decide refuses where the site was heard after all, and what nobody named this
// site for. Where there is nothing to take it decides nothing.
func (c Succeed) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	self := env.Log.Site
	n, named := s.Successor(c.Of)
	if !named || n.Successor != self {
		return nil, conflict("", "site %s has not named this one its successor", c.Of)
	}
	if err := mayHold(s, self); err != nil {
		return nil, err
	}
	if s.FencedSince(n) && !s.Fenced(self) {
		return nil, conflict("name it again", "this site was fenced after it was named the successor of %s, which may not know that this was taken back", c.Of)
	}
	for _, h := range s.Heirs(c.Of) {
		if h.Successor != self { // it may have taken over, and not be heard
			return nil, conflict("", "site %s, which was the successor before, has not said that it knows of this one", h.Successor)
		}
	}
	if after := s.TakesAfter(self, c.Of); c.Silent < after {
		return nil, conflict("", "site %s was silent for %s, and its work is taken over after %s", c.Of, c.Silent, after)
	}
	if s.Written(c.Of) != c.Written {
		return nil, conflict("", "something was heard of site %s just now", c.Of)
	}
	d := newDecision(by, env)
	take := func(of events.SiteID, targets []events.TargetID) {
		d.because(n.At.ID, of.UUID, events.DutiesTaken{
			Term: s.NextTerm(of), From: c.Of, Targets: targets, Scheduled: true, Lease: n.At.ID,
			Reason: "nothing was heard of it for " + c.Silent.Round(time.Millisecond).String(),
		})
	}
	if !s.Left(c.Of) && s.Takable(self, c.Of) {
		take(c.Of, nil)
	}
	whole := map[events.SiteID]bool{}
	for _, held := range s.HeldBy(c.Of) {
		now, moved := s.RotationHolder(held.Site, events.TargetID{})
		switch {
		case len(held.Targets) > 0:
			take(held.Site, held.Targets)
		case moved && now.Holder == c.Of && !whole[held.Site]:
			whole[held.Site] = true
			take(held.Site, nil)
		}
	}
	return d.done()
}
