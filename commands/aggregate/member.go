package aggregate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
)

// Members of a mesh are not trusted in everything. What a record may change is
// decided by what its own site knew when it wrote it, and by nothing that others
// may or may not have heard by then: so every site masks the same records. A
// masked record is kept, applied and waited for like any other, and changes
// nothing.

// admission is one time that a site was taken into the mesh.
type admission struct {
	at    *Mark
	areas []events.Area // in which its decisions count

	custodian bool
	past      map[events.Origin]uint64 // what its site had decided before
}

// Masked counts what one site wrote that has no effect.
type Masked struct {
	Site   events.SiteID
	Type   string // of the events
	Why    string
	Beyond bool // it went beyond what it was admitted for
	Count  uint64
	Last   *Mark
}

// maskKey is one sort of masked records.
type maskKey struct {
	site           events.SiteID
	eventType, why string
}

// Joined tells the state that a site, whose state it is, joined the mesh of a
// founder after having decided so much. It is told before anything is applied, so
// that identities of before are never taken for the mesh's.
func (s *State) Joined(self, founder events.SiteID, before events.Clock) {
	s.mesh.founder, s.self = founder, self
	s.joinedWith = fmt.Sprintf("mesh %s, without %s\n", founder, before)
	s.joined(before.Entries(), self)
}

// WhatCounts names what the state was told of records without effect, before
// anything was applied. It is "" where all have one but those that events mask.
func (s *State) WhatCounts() string { return s.joinedWith + s.holds.String() }

// joined notes up to where a site's decisions are from before it joined, as it is
// told first. Where others say something else, see pastsNow.
func (s *State) joined(before []events.ClockEntry, site events.SiteID) {
	if s.before[site] != nil {
		return
	}
	if s.before == nil {
		s.before = map[events.SiteID]map[events.Origin]uint64{}
	}
	s.before[site] = past(before, site)
}

// past is what a list says of a site's own logs; nobody has a say in another's past.
func past(before []events.ClockEntry, site events.SiteID) map[events.Origin]uint64 {
	own := map[events.Origin]uint64{}
	for _, e := range before {
		if e.Origin.Site == site {
			own[e.Origin] = e.Position
		}
	}
	return own
}

// isPast reports whether a record is from before its site joined the mesh.
func (s *State) isPast(h *events.Header) bool {
	if size, ruled := s.holds.Pasts[h.Origin()]; ruled {
		return h.Position <= size
	}
	return h.Position <= s.before[h.Site][h.Origin()]
}

// pastsNow lists the logs of which those who took their site in, not knowing of each
// other, or who told the site itself, say different things about its past: it is
// what all of them agree on. Records were let through by what was told first.
func (s *State) pastsNow() map[events.Origin]uint64 {
	var all map[events.Origin]uint64
	for site, admissions := range s.mesh.admissions {
		agreed := map[events.Origin]uint64(nil)
		for _, a := range admissions {
			if slices.ContainsFunc(admissions, func(b *admission) bool { return a.at.Knows(b.at) }) {
				continue // its past was told already
			}
			if agreed == nil {
				agreed = maps.Clone(a.past)
			}
			for o, size := range agreed {
				agreed[o] = min(size, a.past[o])
			}
		}
		for _, told := range []map[events.Origin]uint64{s.before[site], agreed} {
			for o := range told {
				if agreed[o] != s.before[site][o] {
					if all == nil {
						all = map[events.Origin]uint64{}
					}
					all[o] = agreed[o]
				}
			}
		}
	}
	return all
}

// The reasons for masking.
const (
	maskedBefore = "decided before its site joined the mesh"
	maskedEarly  = "its site did not know yet that it was admitted"
	maskedOther  = "it speaks for another site"
	maskedArea   = "its site was not admitted to decide on "
)

// MaskOf says why a record of a ctl log has no effect, "" if it may have one.
// Everything that it knew of must have been applied.
func (s *State) MaskOf(h *events.Header, clock events.Clock) string {
	if why := s.beyond(h, clock); why != "" {
		return why
	}
	if s.twinOf(h) {
		return maskedTwin
	}
	return ""
}

// beyond says why a record has no effect for who wrote it and when.
func (s *State) beyond(h *events.Header, clock events.Clock) string {
	if s.mesh.founder.IsZero() {
		return "" // a site alone
	}
	area, own := areaOf(h.Type)
	if own {
		if h.Stream != h.Site.UUID {
			return maskedOther
		}
		return ""
	}
	if area == "" || area == ofEverySite || h.Site == s.mesh.founder {
		return ""
	}
	m := &Mark{Origin: h.Origin(), Position: h.Position, Clock: clock}
	known := s.knownAdmissions(m)
	switch {
	case len(known) > 0:
		if !slices.Contains(areasOf(known), area) {
			return maskedArea + string(area)
		}
	case s.isPast(h):
		if area == events.AreaAccess || area == events.AreaMesh {
			return maskedBefore
		}
	case area != events.AreaSessions:
		return maskedEarly
	}
	return ""
}

// knownAdmissions lists the admissions of a record's site that it knew of and
// that no other one of them replaces.
func (s *State) knownAdmissions(m *Mark) []*admission {
	var known []*admission
	for _, a := range s.mesh.admissions[m.Origin.Site] {
		if m.Knows(a.at) {
			known = append(known, a)
		}
	}
	return slices.DeleteFunc(slices.Clone(known), func(a *admission) bool {
		return slices.ContainsFunc(known, func(b *admission) bool { return b.at.Knows(a.at) })
	})
}

// areasOf lists what all of the admissions allow.
func areasOf(all []*admission) []events.Area {
	areas := events.Areas()
	for _, a := range all {
		areas = both(areas, a.areas)
	}
	return areas
}

// DecidesOn lists the areas in which a site's decisions count from now on; all
// of them where there is no mesh.
func (s *State) DecidesOn(site events.SiteID) []events.Area {
	if s.mesh.founder.IsZero() || site == s.mesh.founder {
		return events.Areas()
	}
	all := s.mesh.admissions[site]
	if len(all) == 0 {
		return nil
	}
	return areasOf(slices.DeleteFunc(slices.Clone(all), func(a *admission) bool {
		return slices.ContainsFunc(all, func(b *admission) bool { return b.at.Knows(a.at) })
	}))
}

// admittedFor gives the areas of an admission: what its role and scopes allow,
// and nothing that who admits may not decide itself.
func (s *State) admittedFor(at *Mark, e events.SiteAdmitted) []events.Area {
	areas := e.Role.Areas()
	if len(e.Scopes) > 0 {
		areas = both(areas, e.Scopes)
	}
	if at.Origin.Site != s.mesh.founder {
		areas = both(areas, areasOf(s.knownAdmissions(at)))
	}
	return areas
}

// stranger reports whether a site has not been admitted to the mesh yet as far
// as is known here: what it wrote has to wait until it is.
func (s *State) stranger(site events.SiteID) bool {
	return !s.mesh.founder.IsZero() && site != s.mesh.founder && site != s.self && len(s.mesh.admissions[site]) == 0
}

// areaOf gives the area of an event type, and whether it is instead one that
// each site writes of itself. Types of newer versions have neither.
func areaOf(eventType string) (area events.Area, own bool) {
	if area, ok := exceptions[eventType]; ok {
		return area, false
	}
	noun, _, _ := strings.Cut(eventType, ".")
	return areas[noun], ownNouns[noun]
}

// areas are the areas of event types by the noun before their dot.
var areas = map[string]events.Area{
	"user": events.AreaAccess, "group": events.AreaAccess, "role": events.AreaAccess, "grant": events.AreaAccess,
	"request": events.AreaAccess, "approval": events.AreaAccess, "policy": events.AreaAccess, "factor": events.AreaAccess,
	"glass": events.AreaAccess, "duty": events.AreaAccess,
	"target": events.AreaTargets, "account": events.AreaTargets,
	"credential": events.AreaSecrets, "secret": events.AreaSecrets, "rotation": events.AreaSecrets,
	"session": events.AreaSessions, "access": events.AreaSessions, "fork": events.AreaSessions,
	"recording": events.AreaMesh, "erasure": events.AreaSecrets,
}

// ownNouns begin the types that a site writes of itself: their stream is the site.
var ownNouns = map[string]bool{"site": true, "log": true, "sync": true, "ca": true, "mesh": true, "projection": true}

// ofEverySite is for types that count whatever their site was admitted to decide on.
const ofEverySite events.Area = "of every site"

// exceptions are event types that belong elsewhere than others of their noun.
var exceptions = map[string]events.Area{
	"site.invited": events.AreaMesh, "site.invitation_withdrawn": events.AreaMesh, "site.admitted": events.AreaMesh,
	"ca.trusted": events.AreaAccess, "ca.distrusted": events.AreaAccess, "ca.certificate_revoked": events.AreaAccess,
	"site.fenced": events.AreaMesh, "site.closed": events.AreaMesh, "site.reinstated": events.AreaMesh, "fork.settled": events.AreaMesh,
	"duty.yielded":            events.AreaSessions, // gives up what is another's already
	"erasure.done":            ofEverySite,         // each has keys to destroy
	"ca.certificate_issued":   events.AreaSessions,
	"target.host_key_refused": events.AreaSessions,
	// What a site sees in its sessions; see reported.
	"secret.rejected": events.AreaSessions, "secret.unanswered": events.AreaSessions,
}

// decides reports whether a record's site may decide in an area. It is for folds
// whose type is not masked as a whole.
func (s *State) decides(at *Mark, area events.Area) bool {
	if s.mesh.founder.IsZero() || at.Origin.Site == s.mesh.founder {
		return true
	}
	known := s.knownAdmissions(at)
	return len(known) > 0 && slices.Contains(areasOf(known), area)
}

// reported reports whether a site may say what a target made of a secret: it
// decides on secrets, or it was in a session of its own.
func (s *State) reported(at *Mark, session events.SessionID) bool {
	if s.decides(at, events.AreaSecrets) {
		return true
	}
	return slices.ContainsFunc(s.sessions[session], func(n *Session) bool { return n.isOf(at) && n.Credential.UUID == at.Stream })
}

// mask notes a record that has no effect. Types that nobody knows are one sort for each
// noun: who makes them up must not make alarms by it, one for each.
func (s *State) mask(at *Mark, eventType, why string) {
	if !catalogued[eventType] {
		noun, _, _ := strings.Cut(eventType, ".")
		eventType = noun + ".*"
	}
	key := maskKey{at.Origin.Site, eventType, why}
	m := s.mesh.masks[key]
	if m == nil {
		if s.mesh.masks == nil {
			s.mesh.masks = map[maskKey]*Masked{}
		}
		m = &Masked{Site: key.site, Type: eventType, Why: why, Beyond: why == maskedOther || why == maskedTwin || strings.HasPrefix(why, maskedArea)}
		s.mesh.masks[key] = m
	}
	m.Count++
	m.Last = later(m.Last, at)
}

// Masked lists what was kept without effect, by site and type.
func (s *State) Masked() []*Masked {
	return slices.SortedFunc(maps.Values(s.mesh.masks), func(a, b *Masked) int {
		if c := slices.Compare(a.Site.UUID[:], b.Site.UUID[:]); c != 0 {
			return c
		}
		return strings.Compare(a.Type+" "+a.Why, b.Type+" "+b.Why)
	})
}

func (s *State) memberLines(add func(format string, args ...any)) {
	add("mesh of %s", s.mesh.founder)
	for id, all := range s.mesh.admissions {
		for _, a := range all {
			add("admitted %s %s for %v", id, show(a.at), a.areas)
		}
	}
	for key, n := range s.mesh.told {
		add("masked told by %s of %s %s %q %d", key.by, key.site, key.eventType, key.why, n)
	}
	for _, m := range s.mesh.masks {
		add("masked %s %s %q %d last %s", m.Site, m.Type, m.Why, m.Count, show(m.Last))
	}
}

// made finds the event that made the aggregate which a record is about. Sessions,
// grants and rotations are asked where they are found.
func (s *State) made(h *events.Header) *Mark {
	noun, _, _ := strings.Cut(h.Type, ".")
	id := h.Stream
	switch noun {
	case "user":
		if u := s.users[events.UserID{UUID: id}]; u != nil {
			return u.Added
		}
	case "target":
		if t := s.targets[events.TargetID{UUID: id}]; t != nil {
			return t.Added
		}
	case "account":
		if a := s.accounts[events.AccountID{UUID: id}]; a != nil {
			return a.Added
		}
	case "credential", "secret":
		if c := s.credentials[events.CredentialID{UUID: id}]; c != nil {
			return c.Added
		}
	case "group":
		if g := s.groups[events.GroupID{UUID: id}]; g != nil {
			return g.Added
		}
	case "request", "approval", "access":
		if all := s.requests[events.RequestID{UUID: id}]; len(all) > 0 && !all[0].alone() {
			return all[0].Made
		}
	case "policy":
		if p := s.policies[events.PolicyID{UUID: id}]; p != nil {
			return p.Added
		}
	case "factor":
		if f := s.factors[events.FactorID{UUID: id}]; f != nil {
			return f.Enrolled
		}
	case "ca":
		if a := s.cas[events.CAID{UUID: id}]; a != nil {
			return a.Added
		}
	case "glass":
		if p := s.proposals[id]; p != nil {
			return p.At
		}
	case "site":
		if v := s.mesh.invitations[events.InvitationID{UUID: id}]; v != nil {
			return v.Made
		}
	}
	return nil
}

// unknownTo reports whether a record is about an aggregate that its site did not
// know: no site that keeps to the rules writes such a thing, and whether the
// aggregate is here already is a matter of the order of arrival. What its own log
// makes later is not unknown: a target is scanned before it is added.
func (s *State) unknownTo(at *Mark, h *events.Header) bool {
	if m, ok := aggregateOf(h); ok && m.kind == "request" {
		return !makers[h.Type] && len(s.requests[events.RequestID{UUID: at.Stream}]) > 0 && len(s.asked(at)) == 0
	}
	made := s.made(h)
	return made != nil && made.Origin != at.Origin && !at.Knows(made)
}

var _ = fold(func(s *State, at *Mark, e events.MemberMasked) bool {
	if s.mesh.told == nil {
		s.mesh.told = map[toldKey]uint64{}
	}
	key := toldKey{at.Origin.Site, maskKey{e.Site, e.Type, e.Why}}
	s.mesh.told[key] = max(s.mesh.told[key], e.Count)
	return true
})

// toldKey is one sort of masked records as one site told of it.
type toldKey struct {
	by events.SiteID
	maskKey
}

// MaskedTold is how many masked records of a sort a site has raised the alarm
// about.
func (s *State) MaskedTold(by events.SiteID, m *Masked) uint64 {
	return s.mesh.told[toldKey{by, maskKey{m.Site, m.Type, m.Why}}]
}
