package commands

import (
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// LeaveMesh is this site's last word in the mesh.
type LeaveMesh struct {
	Reason string
	Logs   []events.ClockEntry // where its logs of recordings end
}

var _ = register[LeaveMesh]("LeaveMesh", byAdmin|headroom)

// Decide refuses a site that still carries something out for the others.
func (c LeaveMesh) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	if c.Reason == "" {
		return nil, invalid("say why with --reason", "leaving the mesh needs a reason")
	}
	self := env.Log.Site
	if _, member := s.MeshSite(self); !member || s.Left(self) {
		return nil, conflict("", "this site is in no mesh")
	}
	if d, moved := s.Holder(self, events.TargetID{}); !moved || d.Holder == self || len(s.HeldBy(self)) > 0 {
		return nil, conflict("mesh drain --to SITE gives it away", "this site carries out work of the mesh")
	}
	if err := RefuseRunning(s, self); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(self.UUID, events.SiteLeft{Reason: c.Reason, Logs: c.Logs})
	return d.done()
}

// RefuseRunning refuses to let a site leave at which sessions run: the others would
// never hear how they end.
func RefuseRunning(s *aggregate.State, self events.SiteID) error {
	n := s.CountSessions(self, func(n *aggregate.Session) bool { return n.Started.Origin.Site == self })
	if n == 0 {
		return nil
	}
	return conflict("wait until they have ended, or session kill them: session ls --live", "this site still runs %s, and the others would never hear how it goes on", sessions(uint32(n)))
}

// CloseSites ends the logs of sites that have left at what has been applied of them
// here (rule R18).
type CloseSites struct{}

var _ = register[CloseSites]("CloseSites", bySite|headroom)

// Decide does nothing where all are closed, or where this site may not say so.
func (c CloseSites) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	for _, site := range Closable(s, env.Log) {
		ends, _ := s.Ends(site)
		logs := slices.DeleteFunc(ends, func(e events.ClockEntry) bool { return e.Origin.Kind == events.Ctl })
		for _, e := range s.Clock().Entries() {
			if e.Origin.Site != site {
				continue
			}
			if size, held := s.HoldOf(e.Origin); held {
				e.Position = min(e.Position, size)
			}
			if e.Position > 0 {
				logs = append(logs, e)
			}
		}
		d.add(site.UUID, events.SiteClosed{Logs: logs})
	}
	return d.done()
}

// Closable lists the sites that have left and that the site of a log may close, and
// nobody has.
func Closable(s *aggregate.State, log events.Origin) (all []events.SiteID) {
	if _, held := s.HoldOf(log); held || s.Left(log.Site) || !slices.Contains(s.DecidesOn(log.Site), events.AreaMesh) {
		return nil
	}
	for _, m := range s.MeshSites() {
		if m.Site != log.Site && s.Left(m.Site) && !s.Closed(m.Site) {
			all = append(all, m.Site)
		}
	}
	return all
}
