package console

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

// Where something happened is a site. People are told its name, and only where
// there is more than one.

// severalSites reports whether the site knows of others.
func (c *call) severalSites() (several bool) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) { several = len(s.MeshSites()) > 1 })
	return several
}

// nameOfSite is the name of a site, its id where none is known.
func (c *call) nameOfSite(id events.SiteID) (name string) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) { name = siteName(s, id) })
	return name
}

// siteNamed finds the site that an argument names, by name or id; the zero id
// where there is no argument.
func (c *call) siteNamed(ref string) (id events.SiteID, err error) {
	own := c.cfg.Site
	if ref == "" || ref == own.Name() || ref == own.ID().String() {
		if ref != "" {
			id = own.ID()
		}
		return id, nil
	}
	var named []events.SiteID
	own.Commands().View(func(s *aggregate.State) {
		for _, m := range s.MeshSites() {
			if m.Name == ref || m.Site.String() == ref {
				named = append(named, m.Site)
			}
		}
	})
	switch len(named) {
	case 0:
		if given, bad := uuid.Parse(ref); bad == nil { // that of a site which nobody knows any more
			return events.SiteID{UUID: given}, nil
		}
		return id, &Fault{Exit: NotFound, Message: fmt.Sprintf("no site %q", ref), Hint: "see mesh status"}
	case 1:
		return named[0], nil
	}
	return id, &Fault{Exit: Conflict, Message: "several sites are named " + ref, Hint: "name it by its id; see mesh status"}
}

// whereSession adds the site to the columns of sessions.
func (c *call) whereSession(columns []column[projections.Session]) []column[projections.Session] {
	if !c.severalSites() {
		return columns
	}
	where := column[projections.Session]{"site", func(s projections.Session) string { return s.Site }}
	return slices.Insert(slices.Clone(columns), 3, where) // after what it was on
}

// nameSites fills in the names of the sites at which sessions ran.
func (c *call) nameSites(all []projections.Session) {
	for i := range all {
		all[i].Site = c.nameOfSite(all[i].SiteID)
	}
}

// whereEvent adds the site to the columns of events, before the last one.
func (c *call) whereEvent(columns []column[projections.Event]) []column[projections.Event] {
	if !c.severalSites() {
		return columns
	}
	where := column[projections.Event]{"site", func(e projections.Event) string { return e.Site }}
	return slices.Insert(slices.Clone(columns), len(columns)-1, where)
}

// findEvent finds one event, with the name of its site.
func (c *call) findEvent(p *projections.Projections, ctx context.Context, ref string) (projections.Event, error) {
	e, err := p.Event(ctx, ref)
	e.Site = c.nameOfSite(e.Origin.Site)
	return e, err
}
