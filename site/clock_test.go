package site

import (
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

func TestJumpMeter(t *testing.T) {
	start := time.Now()
	wall := start.Round(0)
	var m jumpMeter
	if by := m.read(wall, start); by != 0 {
		t.Errorf("the first reading tells of a jump by %v", by)
	}
	for _, step := range []struct{ wall, steady, by time.Duration }{
		{time.Second, time.Second, 0},
		{1500 * time.Millisecond, time.Second, 0}, // slewed
		{time.Second, time.Minute, -59 * time.Second},
		{time.Hour, time.Second, time.Hour - time.Second}, // the machine slept, or was set
		{-time.Hour, time.Second, -time.Hour - time.Second},
		{time.Second, time.Second, 0},
	} {
		wall, start = wall.Add(step.wall), start.Add(step.steady)
		if by := m.read(wall, start); by != step.by {
			t.Errorf("wall %v, steady %v: a jump by %v, want %v", step.wall, step.steady, by, step.by)
		}
	}
}

// openAt opens a site whose clock is ahead of the others'.
func openAt(t *testing.T, ahead time.Duration) *Site {
	t.Helper()
	WallClock = func() time.Time { return time.Now().Add(ahead) }
	defer func() { WallClock = time.Now }()
	return open(t, testConfig(t))
}

// added is when a user was added, as records are sorted.
func added(t *testing.T, s *Site, name string) (at events.HLC) {
	t.Helper()
	s.commands.View(func(state *aggregate.State) {
		u, err := state.UserByName(name)
		if err != nil {
			t.Fatal(err)
		}
		at = u.Added.HLC
	})
	return at
}

// What a site writes sorts after all that it knew of, whatever its clock says, also
// after a restart (rule R16). A clock that is out of all bounds does not spread; what
// was decided under it counts.
func TestWhatIsWrittenSortsAfterItsCauses(t *testing.T) {
	c := testConfig(t)
	a, b, far := open(t, c), openAt(t, time.Hour), openAt(t, 2*events.MaxAhead)
	defer func() {
		for _, s := range []*Site{a, b, far} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	addUser(t, b, "bob")
	carry(t, b, a)
	settled(t, a)
	addUser(t, a, "ann")
	if added(t, a, "ann") <= added(t, a, "bob") {
		t.Errorf("ann was added at %d, knowing of bob at %d", added(t, a, "ann"), added(t, a, "bob"))
	}
	addUser(t, b, "bo")
	carry(t, b, a)
	settled(t, a)
	if err := a.Close(); err != nil { // it has written nothing since it heard of bo
		t.Fatal(err)
	}
	a = open(t, c)
	addUser(t, a, "al")
	if added(t, a, "al") <= added(t, a, "bo") {
		t.Errorf("after a restart al was added at %d, knowing of bo at %d", added(t, a, "al"), added(t, a, "bo"))
	}

	addUser(t, far, "fay")
	carry(t, far, a)
	settled(t, a)
	addUser(t, a, "amy")
	if !knows(a, "fay") {
		t.Error("what was decided under a wrong clock does not count")
	}
	if ahead := added(t, a, "amy").Millis() - time.Now().UnixMilli(); ahead > 2*time.Hour.Milliseconds() {
		t.Errorf("a wrong clock set this site's %d s ahead", ahead/1000)
	}
}
