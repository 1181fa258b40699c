package aggregate

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// recordings is where recordings are to be kept.
type recordings struct {
	copies  heads[uint32]
	refuses map[events.SiteID]*Mark // sites that keep headers only, by when they said so
	keeps   map[events.SiteID]*Mark // sites that said since that they keep all
}

var _ = fold(func(s *State, at *Mark, e events.RecordingCopiesSet) bool {
	if at.Stream != s.mesh.founder.UUID {
		return false
	}
	s.recordings.copies.put(at, e.Copies)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SiteKeeping) bool {
	site := events.SiteID{UUID: at.Stream}
	said := &s.recordings.refuses
	if e.Recordings {
		said = &s.recordings.keeps
	}
	if *said == nil {
		*said = map[events.SiteID]*Mark{}
	}
	(*said)[site] = later((*said)[site], at)
	return true
})

// Copies is at how many sites each recording is kept; 0 for all. Of numbers that
// did not know of each other the greatest counts.
func (s *State) Copies() uint32 {
	most := uint32(0)
	for _, h := range s.recordings.copies {
		if h.value == 0 {
			return 0
		}
		most = max(most, h.value)
	}
	return most
}

// KeepsRecordings reports whether a site keeps recordings of others at all.
func (s *State) KeepsRecordings(site events.SiteID) bool {
	no, yes := s.recordings.refuses[site], s.recordings.keeps[site]
	return no == nil || yes != nil && yes.Compare(no) > 0
}

// KeepersOf lists the sites that keep the recordings of a site, itself first unless
// it has left or is fenced. Which those are follows from the members alone
// (rendezvous hashing: of a site that comes or goes only its own share moves).
func (s *State) KeepersOf(of events.SiteID) []events.SiteID {
	var keepers, others []events.SiteID
	for _, m := range s.MeshSites() {
		switch {
		case s.Left(m.Site) || s.Fenced(m.Site):
		case m.Site == of:
			keepers = append(keepers, m.Site)
		case s.KeepsRecordings(m.Site):
			others = append(others, m.Site)
		}
	}
	rank := func(site events.SiteID) []byte {
		h := sha256.Sum256(slices.Concat(of.UUID[:], site.UUID[:]))
		return h[:]
	}
	slices.SortFunc(others, func(a, b events.SiteID) int { return bytes.Compare(rank(a), rank(b)) })
	if n := int(s.Copies()); n > 0 {
		others = others[:min(len(others), max(0, n-len(keepers)))]
	}
	return append(keepers, others...)
}

func (s *State) recordingLines(add func(format string, args ...any)) {
	if len(s.recordings.copies) > 0 {
		add("recording copies %s", showHeads(s.recordings.copies))
	}
	for site := range s.recordings.refuses {
		add("keeping recordings %s %t", site, s.KeepsRecordings(site))
	}
}
