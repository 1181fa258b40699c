package commands

import (
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// TakeOver moves what a site that is gone began to the site that decides this
// (rule R13).
type TakeOver struct {
	Site    string   // name or id
	Targets []string // names or ids: only what is about these; none for all
	Reason  string
}

var _ = register[TakeOver]("TakeOver", byAdmin|headroom)

// Decide takes what the site carries out, whoever began it. It refuses a taker
// that could not open the secrets that it would have to change.
func (c TakeOver) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	from, err := otherMember(s, env, c.Site, c.Reason, "taking over", "name the site that is gone; mesh drain gives this site's own work away")
	if err != nil {
		return nil, err
	}
	targets, err := findTargets(s, c.Targets)
	if err != nil {
		return nil, err
	}
	if err := mayHold(s, env.Log.Site); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	take := func(of, holder events.SiteID, targets []events.TargetID, scheduled bool) {
		d.add(of.UUID, events.DutiesTaken{Term: s.NextTerm(of), From: holder, Targets: targets, Scheduled: scheduled, Reason: c.Reason})
	}
	if holder, lacks := s.Lacks(env.Log.Site, from.Site, targets); lacks {
		take(from.Site, holder, targets, false)
	}
	for _, held := range s.HeldBy(from.Site) {
		if !overlap(held.Targets, targets) {
			continue
		}
		of := held.Targets
		if len(of) == 0 {
			of = targets
		}
		take(held.Site, from.Site, of, held.Scheduled)
	}
	if len(d.drafts) == 0 {
		return nil, conflict("", "this site has taken over from %s already, and nothing new was heard of it", quoted(from.Name))
	}
	return d.done()
}

func overlap(a, b []events.TargetID) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(t events.TargetID) bool { return slices.Contains(b, t) })
}

// otherMember finds another site of the mesh, for what is done to it for a reason.
func otherMember(s *aggregate.State, env Env, site, reason, doing, hint string) (*aggregate.MeshSite, error) {
	if err := checkText("reason", reason); err != nil {
		return nil, err
	}
	if reason == "" {
		return nil, invalid("say why with --reason", "%s needs a reason", doing)
	}
	of, err := FindMember(s, site)
	if err == nil && of.Site == env.Log.Site {
		return nil, invalid(hint, "%s is this site itself", quoted(of.Name))
	}
	return of, err
}

// findTargets finds each of some targets once.
func findTargets(s *aggregate.State, refs []string) (ids []events.TargetID, err error) {
	for _, ref := range refs {
		t, err := findTarget(s, ref)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, t.ID) {
			ids = append(ids, t.ID)
		}
	}
	return ids, nil
}

// FindMember finds a site of the mesh by name or id. Of several that had a name it is
// the one that has not left.
func FindMember(s *aggregate.State, ref string) (*aggregate.MeshSite, error) {
	id, err := uuid.Parse(ref)
	var found []*aggregate.MeshSite
	for _, m := range s.MeshSites() {
		if err == nil && m.Site.UUID == id || err != nil && m.Name == ref {
			found = append(found, m)
		}
	}
	if here := slices.DeleteFunc(slices.Clone(found), func(m *aggregate.MeshSite) bool { return s.Left(m.Site) }); len(here) > 0 {
		found = here
	}
	switch len(found) {
	case 0:
		return nil, notFound("see `mesh status`", "no site %s is in the mesh", quoted(ref))
	case 1:
		return found[0], nil
	}
	return nil, conflict("name it by its id; see `mesh status`", "%d sites are named %s", len(found), quoted(ref))
}

// mayHold refuses a site that can't carry out what others began.
func mayHold(s *aggregate.State, site events.SiteID) error {
	m, member := s.MeshSite(site)
	switch {
	case !member:
		return conflict("", "site %s is in no mesh", site)
	case s.Left(site) || s.Fenced(site):
		return conflict("do it at, or name, another one: see `mesh status`", "site %s is no member of the mesh any more", quoted(m.Name))
	case m.Role == events.EdgeSite || !m.Custodian:
		return conflict("do it at, or name, a site that is: see `mesh status`",
			"site %s is no custodian of the mesh's secrets, so it can't carry out what needs them", quoted(m.Name))
	}
	return nil
}

// GiveDuties moves what this site carries out to another one: what Of began, or
// everything.
type GiveDuties struct {
	To     string // name or id
	Of     string // likewise; empty for everything, its own included
	Reason string
}

var _ = register[GiveDuties]("GiveDuties", byAdmin|headroom)

// Decide refuses while a rotation of this site is under way: two sites must not
// go on with one.
func (c GiveDuties) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	to, err := otherMember(s, env, c.To, c.Reason, "giving work to another site", "name another one; see `mesh status`")
	if err != nil {
		return nil, err
	}
	if err := mayHold(s, to.Site); err != nil {
		return nil, err
	}
	self := env.Log.Site
	log := events.Origin{Site: to.Site, Epoch: 1, Kind: events.Ctl}
	if t, ok := s.Site(to.Site); ok {
		log = t.Log()
	}
	if r := s.UnderWayAt(self); len(r) > 0 {
		return nil, conflict("try again when it has ended; see `rotate status`", "rotation %s of this site is under way", r[0].ID)
	}
	if r, moved := s.RotationHolder(self, events.TargetID{}); c.Of == "" && moved && r.Holder != self && r.Holder != to.Site {
		return nil, conflict("let that site hand it back, or take that site's work over where this one's is to go",
			"site %s carries out what is scheduled here", r.Holder)
	}
	var moves []aggregate.Duty
	whole, moved := s.Holder(self, events.TargetID{})
	if c.Of == "" && (!moved || whole.Holder == self) {
		moves = append(moves, aggregate.Duty{Site: self})
	}
	of := &aggregate.MeshSite{}
	if c.Of != "" {
		if of, err = FindMember(s, c.Of); err != nil {
			return nil, err
		}
	}
	for _, held := range s.HeldBy(self) {
		if c.Of == "" || held.Site == of.Site {
			moves = append(moves, held)
		}
	}
	d := newDecision(by, env)
	for _, m := range moves {
		d.add(m.Site.UUID, events.DutiesGiven{Term: s.NextTerm(m.Site), To: to.Site, Epoch: log.Epoch, Targets: m.Targets, Scheduled: m.Scheduled, Reason: c.Reason})
	}
	if len(d.drafts) == 0 {
		return nil, conflict("see `mesh history`", "this site carries out nothing that could be given")
	}
	return d.done()
}

// YieldDuties says that this site knows of duties that others took from it.
type YieldDuties struct{}

var _ = register[YieldDuties]("YieldDuties", bySite|headroom)

// Decide says it once of each.
func (YieldDuties) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	for _, m := range s.Lost(events.SiteID{UUID: by.ID}) {
		d.because(m.At.ID, m.Site.UUID, events.DutiesYielded{Term: m.Term, To: m.Holder, By: m.At.ID})
	}
	return d.done()
}
