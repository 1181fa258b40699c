package mesh_test

import (
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// Peers that say to hold a log and give nothing of it take no turn from the one that
// does, however many they are.
func TestSilentSourcesDoNotHideTheGoodOne(t *testing.T) {
	const silent, good = 12, mesh.LinkID(13)
	id := func(n int) events.SiteID { return events.SiteID{UUID: aggregatetest.ID("site", n)} }
	core := mesh.New(mesh.Config{Self: id(0), Mesh: id(0), Crypto: simKeys{}.crypto(nil)})
	members := mesh.Members{Sites: []mesh.Member{{Site: id(0)}}}
	for n := range 20 {
		members.Sites = append(members.Sites, mesh.Member{Site: id(n + 1), Identity: []byte{byte(n + 1)}})
	}
	gone := events.Origin{Site: id(19), Epoch: 1, Kind: events.Ctl} // that wrote it
	now, asked := time.Hour, map[mesh.LinkID]int{}
	step := func(in mesh.Input) {
		for _, out := range core.Step(in, now) {
			if s, ok := out.(mesh.Send); ok {
				if m, ok := s.Message.(mesh.Subscribe); ok && !m.Stop {
					asked[s.Link]++
				}
			}
		}
	}
	step(members)
	for link := mesh.LinkID(1); link <= silent+1; link++ {
		site := id(int(link))
		step(mesh.LinkUp{Link: link, Site: site})
		step(mesh.Received{Link: link, Message: mesh.Hello{Level: 1, Site: site, Mesh: id(0), Windows: [2]uint64{1 << 20, 1 << 20}}})
		step(mesh.Received{Link: link, Message: simKey([]byte{19}, gone, 1)})
	}
	for end := now + 3*time.Minute; now < end && asked[good] == 0; now += 500 * time.Millisecond {
		for link := mesh.LinkID(1); link <= silent+1; link++ {
			step(mesh.Received{Link: link, Message: mesh.Have{Logs: []mesh.Holding{{Origin: gone, Size: 5, Root: events.Hash{1}}}}})
		}
		step(mesh.Tick{})
	}
	if asked[good] == 0 {
		t.Errorf("who has it was never asked; the others %v", asked)
	}
	t.Logf("asked after %s: %v", now-time.Hour, asked)
}
