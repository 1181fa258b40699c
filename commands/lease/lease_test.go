package lease

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

var (
	successor = events.SiteID{UUID: uuid.UUID{2}}
	itsLog    = events.Origin{Site: successor, Epoch: 1, Kind: events.Ctl}
	heirs     = []aggregate.Succession{{Successor: successor, Yield: time.Minute}}
)

func upTo(size uint64) func(events.Origin) uint64 {
	return func(o events.Origin) uint64 {
		if o == itsLog {
			return size
		}
		return 0
	}
}

// A lease runs from the question, once what its answer is about was applied, and not
// for an answer to somebody else.
func TestLeaseOfAnOwner(t *testing.T) {
	o := NewOwner(7)
	left := func(now time.Duration, applied uint64) time.Duration {
		t.Helper()
		return o.Left(now, heirs, upTo(applied))
	}
	if got := o.Left(0, nil, upTo(0)); got != Forever {
		t.Errorf("without a successor %s are left", got)
	}
	if got := left(0, 9); got != 0 {
		t.Errorf("before any answer %s are left", got)
	}
	o.Granted(successor, Grant{Ask{8, time.Second}, itsLog, 0}, 5*time.Second)     // of another process
	o.Granted(successor, Grant{Ask{7, 6 * time.Second}, itsLog, 0}, 5*time.Second) // to what was not asked yet
	if got := left(5*time.Second, 9); got != 0 {
		t.Errorf("by answers to other questions %s are left", got)
	}
	o.Granted(successor, Grant{Ask{7, time.Second}, itsLog, 5}, 5*time.Second)
	if got := left(5*time.Second, 4); got != 0 {
		t.Errorf("before what it took over can be known %s are left", got)
	}
	if got := left(5*time.Second, 5); got != 56*time.Second {
		t.Errorf("%s are left, want what remains of a minute since the question", got)
	}
	if got := left(2*time.Minute, 5); got != 0 {
		t.Errorf("%s are left of what has ended", got)
	}
}

// Answers about a log that will never come, of a successor that lost it, or lies, do
// not keep those out that come later.
func TestAnswersThatNeverCount(t *testing.T) {
	o := NewOwner(7)
	for i := range 100 {
		o.Granted(successor, Grant{Ask{7, time.Duration(i)}, itsLog, 1 << 60}, time.Second)
	}
	if n := len(o.pending[successor]); n > maxPending {
		t.Errorf("%d answers wait", n)
	}
	now := 2 * time.Minute
	_ = o.Left(now, heirs, upTo(5))
	o.Granted(successor, Grant{Ask{7, now}, itsLog, 5}, now)
	if got := o.Left(now, heirs, upTo(5)); got != time.Minute {
		t.Errorf("%s are left", got)
	}
}

// A process that stood still begins to listen anew: words may wait for it.
func TestASuccessorThatStoodStill(t *testing.T) {
	s := NewSuccessor(time.Second)
	s.Look(time.Second)
	s.Heard(successor, time.Second)
	for now := 2 * time.Second; now <= 8*time.Second; now += time.Second {
		s.Look(now)
		if got := s.Silent(successor, now); got != now-time.Second {
			t.Errorf("at %s it is silent for %s", now, got)
		}
	}
	s.Look(time.Minute)
	if got := s.Silent(successor, time.Minute); got != 0 {
		t.Errorf("after a standstill it is silent for %s", got)
	}
}
