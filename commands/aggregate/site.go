package aggregate

import (
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// Site is one running holdfast with its own logs and keys.
type Site struct {
	ID      events.SiteID
	Name    string
	HostKey string // authorized_keys form
	CA      string // its own, which vouches for its targets' names; authorized_keys form, empty before it was made
	Created *Mark

	runs    heads[run]
	mesh    heads[string] // where its mesh port is reached, as it said itself as a member
	full    map[events.Kind]*heads[bool]
	sealing heads[sealingKeys]
	hostCAs []Authority // after the first
	userCAs []Authority
}

type run struct {
	on     bool
	listen string
}

// Running reports whether the site started without stopping in order since: it
// runs, or it was lost.
func (t *Site) Running() bool { return len(t.runs) > 0 && t.runs.newest().value.on }

// Listen is the address of the SSH gateway at the last start.
func (t *Site) Listen() string {
	if len(t.runs) == 0 {
		return ""
	}
	return t.runs.newest().value.listen
}

// Log is the log in which the site decides, as far as is known.
func (t *Site) Log() events.Origin {
	if len(t.runs) == 0 {
		return t.Created.Origin
	}
	return t.runs.newest().at.Origin
}

// Full reports whether a log of the site has said that it takes no records.
func (t *Site) Full(log events.Kind) bool {
	h := t.full[log]
	return h != nil && h.newest().value
}

var _ = fold(func(s *State, at *Mark, e events.SiteCreated) bool {
	id := events.SiteID{UUID: at.Stream}
	if s.sites[id] != nil {
		return false
	}
	t := &Site{ID: id, Name: e.Name, HostKey: e.HostKey, Created: at, full: map[events.Kind]*heads[bool]{}}
	t.sealing.put(at, sealingKeys{current: e.SealingKey})
	s.sites[id] = t
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SiteStarted) bool {
	// What it said before it knew of its admission is of a time when it was alone: where
	// it was seen then is better.
	if t := s.sites[events.SiteID{UUID: at.Stream}]; t != nil && IsMeshAddr(e.Mesh) && len(s.knownAdmissions(at)) > 0 {
		t.mesh.put(at, e.Mesh)
	}
	return s.putRun(at, run{on: true, listen: e.Listen})
})

var _ = fold(func(s *State, at *Mark, _ events.SiteStopped) bool {
	return s.putRun(at, run{})
})

func (s *State) putRun(at *Mark, r run) bool {
	t := s.sites[events.SiteID{UUID: at.Stream}]
	if t != nil {
		t.runs.put(at, r)
	}
	return t != nil
}

var _ = fold(func(s *State, at *Mark, e events.StorageFull) bool {
	return s.putFull(at, e.Log, true)
})

var _ = fold(func(s *State, at *Mark, e events.StorageRecovered) bool {
	return s.putFull(at, e.Log, false)
})

func (s *State) putFull(at *Mark, log events.Kind, full bool) bool {
	t := s.sites[events.SiteID{UUID: at.Stream}]
	if t == nil {
		return false
	}
	if t.full[log] == nil {
		t.full[log] = &heads[bool]{}
	}
	t.full[log].put(at, full)
	return true
}

// Site finds a site by id.
func (s *State) Site(id events.SiteID) (*Site, bool) {
	t, ok := s.sites[id]
	return t, ok
}

// IsSiteKey reports whether a key, in authorized_keys form, is the host key or
// the authority of a site.
func (s *State) IsSiteKey(key string) bool {
	for _, t := range s.sites {
		if key == t.HostKey || slices.ContainsFunc(append(t.HostCAs(), t.UserCAs()...), func(a Authority) bool { return a.Key == key }) {
			return true
		}
	}
	return false
}
