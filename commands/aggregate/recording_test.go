package aggregate_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
)

// Every site comes to the same keepers; a site that leaves hands its share on and
// moves nothing else; one that keeps headers only is passed over.
func TestKeepersOfRecordings(t *testing.T) {
	m := newMembers(t)
	var peers []*peer
	for n := range 6 {
		p := newPeer(n + 1)
		m.join(p, events.PeerSite)
		peers = append(peers, p)
	}
	keepers := func() map[events.SiteID][]events.SiteID {
		all := map[events.SiteID][]events.SiteID{}
		for _, s := range m.agree().MeshSites() {
			all[s.Site] = m.founder.state.KeepersOf(s.Site)
		}
		return all
	}
	for site, at := range keepers() {
		if len(at) != 7 || at[0] != site {
			t.Errorf("all: %s is kept at %v", site, at)
		}
	}
	m.at(m.founder, m.founder.ID.UUID, events.RecordingCopiesSet{Copies: 3})
	before := keepers()
	for site, at := range before {
		if len(at) != 3 || at[0] != site {
			t.Errorf("three: %s is kept at %v", site, at)
		}
	}
	gone := peers[2]
	m.at(gone, gone.ID.UUID, events.SiteLeft{})
	for site, at := range keepers() {
		if len(at) != 3 || slices.Contains(at, gone.ID) {
			t.Errorf("one has left: %s is kept at %v", site, at)
		}
		for _, keeper := range before[site] {
			if keeper != gone.ID && !slices.Contains(at, keeper) {
				t.Errorf("%s was kept at %v, and is at %v", site, before[site], at)
			}
		}
	}
	headers := peers[4]
	m.at(headers, headers.ID.UUID, events.SiteKeeping{})
	for site, at := range keepers() {
		if len(at) != 3 || site != headers.ID && slices.Contains(at, headers.ID) {
			t.Errorf("one keeps headers: %s is kept at %v", site, at)
		}
	}
	m.at(headers, headers.ID.UUID, events.SiteKeeping{Recordings: true})
	if fmt.Sprint(m.agree().KeepersOf(headers.ID)) == "" || !m.founder.state.KeepsRecordings(headers.ID) {
		t.Error("it keeps recordings again")
	}
	m.at(peers[0], m.founder.ID.UUID, events.RecordingCopiesSet{Copies: 1})
	if n := m.agree().Copies(); n != 3 {
		t.Errorf("a site that is no steward has set %d copies", n)
	}
}

// Of numbers of copies that did not know of each other the greatest counts, and all
// of them are shown; the next one settles it.
func TestMostCopiesCount(t *testing.T) {
	m := newMembers(t)
	b := newPeer(1)
	m.join(b, events.Steward)
	for n, counts := range map[uint32]uint32{5: 5, 2: 3, 0: 0} {
		stream := m.founder.ID.UUID
		apart := []events.Record{
			m.founder.write(t, stream, events.SiteActor(m.founder.ID), events.RecordingCopiesSet{Copies: 3}),
			b.write(t, stream, events.SiteActor(b.ID), events.RecordingCopiesSet{Copies: n}),
		}
		m.founder.hear(t, apart[1:])
		b.hear(t, apart[:1])
		m.all = append(m.all, apart...)
		s := m.agree()
		if got := s.Copies(); got != counts {
			t.Errorf("3 and %d: %d", n, got)
		}
		if c := s.Conflicts(); len(c) != 1 || c[0].What != "copies of recordings" || len(c[0].Heads) != 2 {
			t.Errorf("3 and %d: conflicts %+v", n, c)
		}
		m.at(b, stream, events.RecordingCopiesSet{Copies: 4})
		if s := m.agree(); s.Copies() != 4 || len(s.Conflicts()) > 0 {
			t.Errorf("settled: %d, %+v", s.Copies(), s.Conflicts())
		}
	}
}
