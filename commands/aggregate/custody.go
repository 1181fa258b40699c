package aggregate

import (
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Custodian reports whether a site of the mesh is entrusted with data keys now.
func (s *State) Custodian(site events.SiteID) bool {
	m, member := s.MeshSite(site)
	return member && m.Custodian && !s.Fenced(site) && !s.Left(site)
}

// parting is a site that may open what is sealed from now on no more: it was
// fenced, has left, or was taken in again as no custodian.
type parting struct {
	site      events.SiteID
	custodian bool    // it was one, or might have made one; any other site opens only what it has sealed itself
	by        []*Mark // every event that took its custody
}

// partings lists such sites by id.
func (s *State) partings() (all []parting) {
	for _, m := range s.MeshSites() {
		p := parting{site: m.Site}
		for _, a := range s.mesh.admissions[m.Site] {
			p.custodian = p.custodian || a.custodian
		}
		if s.Left(m.Site) {
			p.by = append(p.by, s.leavings(m.Site)...)
		}
		for _, f := range s.FencesOf(m.Site) {
			p.by = append(p.by, f.At)
			p.custodian = p.custodian || m.Role == events.Steward // what it admitted after the cut is no member
		}
		if p.custodian && !m.Custodian {
			for _, h := range s.mesh.members[m.Site] {
				if !h.value.Custodian {
					p.by = append(p.by, h.at)
				}
			}
		}
		if len(p.by) > 0 {
			all = append(all, p)
		}
	}
	return all
}

// parts are the types of events that may change who has custody.
func parts(eventType string) bool {
	return claims[eventType] || eventType == "site.admitted" || eventType == "site.left" || eventType == "site.closed"
}

// Partings are the places of the events that took custody from sites, the newest
// last.
func (s *State) Partings() []events.ClockEntry {
	var marks []*Mark
	for _, p := range s.parted {
		marks = append(marks, p.by...)
	}
	slices.SortFunc(marks, (*Mark).Compare)
	var all []events.ClockEntry
	for _, m := range marks {
		all = append(all, events.ClockEntry{Origin: m.Origin, Position: m.Position})
	}
	return all
}

// Covers reports whether everything up to some places in logs was applied: of a log
// that was written twice, up to where its branches part.
func (s *State) Covers(places []events.ClockEntry) bool {
	return !slices.ContainsFunc(places, func(e events.ClockEntry) bool {
		if size, forked := s.ForkOf(e.Origin); forked {
			e.Position = min(e.Position, size)
		}
		return s.At(e.Origin) < e.Position
	})
}

// Exposed is the event since which a site can open what a data key of a
// credential seals, that must not: a custodian that was fenced or has left, where
// anything was sealed under the key by a site that did not know of it yet. Such a
// key seals nothing any more, and the versions under it are to be replaced. So is one
// under which something was sealed that came to light beyond where a log counts. nil
// for none.
func (s *State) Exposed(c *Credential, key uuid.UUID) (since *Mark) {
	since = c.revived[key]
	if len(s.parted) == 0 {
		return since
	}
	var uses []*Mark
	if key == c.ID.UUID {
		uses = append(uses, c.Added)
	}
	for _, v := range c.versions {
		if v.Staged != nil && v.Key == key {
			uses = append(uses, v.Staged)
		}
	}
	for _, p := range s.parted {
		if !p.custodian && !slices.ContainsFunc(uses, func(u *Mark) bool { return u.Origin.Site == p.site }) {
			continue
		}
		for _, m := range p.by {
			if slices.ContainsFunc(uses, func(u *Mark) bool { return !u.Knows(m) }) && (since == nil || m.Compare(since) < 0) {
				since = m
			}
		}
	}
	return since
}

// SealedUnder lists the credentials that have a version sealed under a data key,
// or had it first.
func (s *State) SealedUnder(key uuid.UUID) (all []*Credential) {
	if c := s.credentials[events.CredentialID{UUID: key}]; c != nil {
		all = append(all, c)
	}
	for _, id := range s.dataKeys[key] {
		all = append(all, s.credentials[id])
	}
	return all
}
