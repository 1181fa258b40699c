package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// FenceSite cuts a site off that is not to be trusted any more: what it wrote up to
// now counts, what it writes after that does not, and nobody speaks to it (rule R14).
type FenceSite struct {
	Site   string // name or id
	Reason string
}

var _ = register[FenceSite]("FenceSite", byAdmin|headroom)

// Decide cuts each log of the site at what has been applied of it here.
func (c FenceSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	of, err := otherMember(s, env, c.Site, c.Reason, "fencing a site", "do it at another site; mesh leave takes this one out of the mesh")
	if err != nil {
		return nil, err
	}
	if s.Fenced(of.Site) {
		return nil, conflict("mesh reconcile takes it back", "site %s is fenced already", quoted(of.Name))
	}
	var logs []events.ClockEntry
	for _, e := range s.Clock().Entries() {
		if e.Origin.Site == of.Site {
			logs = append(logs, e)
		}
	}
	d := newDecision(by, env)
	d.add(of.Site.UUID, events.SiteFenced{Logs: logs, Reason: c.Reason})
	return d.done()
}

// ReconcileSite settles what came of a site's forks, and takes back its fences.
type ReconcileSite struct {
	Site   string // name or id
	Reason string
}

var _ = register[ReconcileSite]("ReconcileSite", byAdmin|headroom)

// Decide refuses a site of which there is nothing to settle.
func (c ReconcileSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	of, err := FindMember(s, c.Site)
	if err != nil {
		return nil, err
	}
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	if c.Reason == "" {
		return nil, invalid("say why with --reason", "settling what a site did needs a reason")
	}
	d := newDecision(by, env)
	for _, f := range s.Forks() {
		if f.Log.Site == of.Site && !s.Settled(f) {
			d.because(f.At.ID, of.Site.UUID, events.ForkSettled{Log: f.Log, Size: f.Size, Reason: c.Reason})
		}
	}
	if fences := s.FencesOf(of.Site); len(fences) > 0 {
		d.because(fences[0].At.ID, of.Site.UUID, events.SiteReinstated{Reason: c.Reason})
	}
	if len(d.drafts) == 0 {
		return nil, conflict("see `mesh status`", "site %s has no fork that waits to be settled, and is not fenced", quoted(of.Name))
	}
	return d.done()
}
