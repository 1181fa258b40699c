package mesh

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// left is a station as the others know it after it has left: with where its logs end.
func (s *station) left(ends ...events.ClockEntry) Peer {
	p := s.peer()
	p.Gone, p.Closed, p.Ends = true, true, ends
	return p
}

// A member that has not heard that a site left takes from whoever has its disk what
// comes after its last word. Those who know ask nobody for that, and get all before it;
// and once the member knows, it gives it to nobody. A log that is not named ended
// before its first record.
func TestNothingIsSpreadBeyondALastWord(t *testing.T) {
	b, c := newStation(t, 2), newStation(t, 3)
	knows, closed, asks := newStation(t, 1), newStation(t, 4), newStation(t, 5)
	all := []*station{knows, b, c, closed, asks}
	lb, lc := b.listen(), c.listen()
	peers := func(left Peer) (out []Peer) {
		for _, s := range all {
			if s != b {
				out = append(out, s.peer())
			}
		}
		return append(out, left)
	}
	b.start(lb, peers(b.peer())...)
	c.start(lc, peers(b.peer())...)
	b.write(b.ctl, 5, 10)
	b.write(b.rec, 5, 10)
	c.has(b)
	var ends []events.ClockEntry
	for _, h := range b.logs() {
		size, _ := h.Log().Size()
		ends = append(ends, events.ClockEntry{Origin: h.Log().Origin(), Position: size})
	}
	b.write(b.ctl, 10, 10)
	b.write(b.rec, 10, 10)
	c.has(b)
	b.stop()

	knows.start(nil, peers(b.left(ends...))...)
	closed.start(nil, peers(b.left(ends[1]))...)
	for _, e := range ends {
		knows.waitFor("what it wrote before it left", func() bool { return knows.sizeOf(e.Origin) >= e.Position })
	}
	closed.waitFor("the recordings of before it left", func() bool { return closed.sizeOf(ends[1].Origin) >= ends[1].Position })
	c.node.SetPeers(peers(b.left(ends...)))
	c.write(c.ctl, 1, 10)
	asks.start(nil, peers(b.peer())...)
	for _, e := range ends {
		asks.waitFor("what it wrote before it left", func() bool { return asks.sizeOf(e.Origin) >= e.Position })
	}
	time.Sleep(500 * time.Millisecond) // of which one would be enough to ask for more
	for _, s := range []*station{knows, closed, asks} {
		s.has(c)
		for i, e := range ends {
			want := e.Position
			if s == closed && i == 0 {
				want = 0
			}
			if got := s.sizeOf(e.Origin); got != want {
				t.Errorf("site %d holds %d records of log %s, want %d", s.id.UUID[15], got, e.Origin, want)
			}
		}
	}
}

func (s *station) logs() []*store.History { return []*store.History{s.ctl, s.rec} }

// A member pushes records that nobody asked for, from beyond where their site has left.
// They are not stored.
func TestAttackRecordsBeyondALastWord(t *testing.T) {
	s := newSiege(t)
	s.r.write(s.r.ctl, 5, 10)
	left := s.r.left()
	left.Gone = false // it stands for one that gives on another's log
	s.a.node.SetPeers([]Peer{s.a.peer(), s.b.peer(), left})
	key, batch := s.r.madeUpLog()
	s.r.link(s.a)
	defer s.r.close()
	s.r.say(CtlLane, s.hello(), key, batch)
	s.a.waitFor("the records", func() bool {
		return s.a.sizeOf(batch.Origin) > 0 || strings.Contains(s.log.String(), "beyond where its site has left")
	})
	s.b.write(s.b.ctl, 1, 10)
	s.a.has(s.b)
	if n := s.a.sizeOf(batch.Origin); n > 0 {
		t.Errorf("%d of its records are stored", n)
	}
}
