package mesh

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// A member asks for proofs about a long log on all the links that it may have: one is
// made at a time, since each has the whole log read and its hashes in memory.
func TestAttackManyProofsAtOnce(t *testing.T) {
	s := newSiege(t)
	s.a.stop()
	s.a.mu.Lock()
	for _, log := range s.a.copies {
		_ = log.Close()
	}
	clear(s.a.copies)
	s.a.counted = new(atomic.Int32)
	s.a.mu.Unlock()
	if _, _, err := s.a.Copy(s.b.ctl.Log().Origin()); err != nil {
		t.Fatal(err)
	}
	s.a.start(s.a.listen(), s.a.peer(), s.b.peer(), s.r.peer())
	s.b.has(s.a)
	for range maxLinks {
		r := &rogue{station: s.r.station}
		r.link(s.a)
		defer r.close()
		r.say(CtlLane, s.hello())
		for range 20 {
			r.say(CtlLane, Prove{Origin: s.b.ctl.Log().Origin(), Sizes: []uint64{1}})
		}
	}
	s.a.waitFor("a proof", func() bool { return s.a.counted.Load() > 0 })
	time.Sleep(300 * time.Millisecond)
	if n := s.a.counted.Load(); n > 2 { // besides it something may be given to a peer
		t.Errorf("%d read the log at once", n)
	}
}

// A member that sends data keys, or asks for some, or says that it has some, faster than
// that can be taken in fills no memory.
func TestManyDataKeysFillNoMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	keys, after := make([][]byte, 60), make([]events.ClockEntry, MaxAfter)
	for i := range keys {
		keys[i] = make([]byte, 4000)
	}
	for i := range after {
		after[i] = events.ClockEntry{Origin: events.Origin{Site: newSiteID(1), Epoch: 1, Kind: events.Ctl}, Position: 1 << 40}
	}
	for name, m := range map[string]Message{
		"keys": Wraps{Keys: keys}, "wishes": Wraps{Want: keys}, "causes": Wraps{Keys: keys[:1], After: after},
		"keys that it has": Kept{Keys: make([]uuid.UUID, MaxWraps)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t)
			s.a.handle = func(o Output) {
				switch o.(type) {
				case GotWraps, GotKept:
					time.Sleep(5 * time.Millisecond) // a disk
				}
			}
			s.a.stop()
			s.a.start(s.a.listen(), s.a.peer(), s.b.peer(), s.r.peer())
			s.b.has(s.a)
			s.during(func() {
				s.r.link(s.a)
				defer s.r.close()
				s.r.say(CtlLane, s.hello())
				b, err := wireEnc.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				_ = s.r.conns[CtlLane].SetWriteDeadline(time.Now().Add(4 * time.Second))
				for WriteFrame(s.r.conns[CtlLane], append([]byte{m.kind()}, b...)) == nil {
				}
			})
			s.a.node.reports.mu.Lock()
			defer s.a.node.reports.mu.Unlock()
			if n := s.a.node.reports.bytes[s.r.id]; n > maxReportBytes+maxSmall {
				t.Errorf("%d bytes wait", n)
			}
		})
	}
}

// A member names as many logs as it may, and writes none of them: they take no files, and
// nobody waits for those to be made.
func TestAttackLogsThatAreNeverWritten(t *testing.T) {
	s := newSiege(t)
	key := s.r.ctl.Key(s.r.ctl.Log().Origin())
	s.during(func() {
		s.r.link(s.a)
		defer s.r.close()
		s.r.say(CtlLane, s.hello())
		for epoch := range uint32(maxLogs/2 + 1) { // two logs each
			for _, kind := range []events.Kind{events.Ctl, events.Rec} {
				s.r.say(CtlLane, Vouch(s.r.identity, events.Origin{Site: s.r.id, Epoch: epoch + 2, Kind: kind}, key))
			}
		}
		s.named(s.r.id.String(), "one log too many")
	})
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if n := len(s.a.copies); n > 2 {
		t.Errorf("there are copies of %d logs, want those of the other honest site", n)
	}
}
