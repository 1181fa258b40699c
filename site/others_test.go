package site

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// carry copies what to lacks of from's own ctl log, as it is.
func carry(t *testing.T, from, to *Site) {
	t.Helper()
	source := from.ctl.Log()
	log, err := to.Other(source.Origin())
	if err != nil {
		t.Fatal(err)
	}
	size, _ := log.Size()
	for entry, err := range source.Read(t.Context(), size+1) {
		if err == nil {
			err = log.Append(t.Context(), size, []events.Entry{entry})
		}
		if err != nil {
			t.Fatal(err)
		}
		size++
	}
	to.Grew(source.Origin())
}

func knows(s *Site, name string) (known bool) {
	s.commands.View(func(state *aggregate.State) {
		_, err := state.UserByName(name)
		known = err == nil
	})
	return known
}

// settled applies all that can be applied.
func settled(t *testing.T, s *Site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.deliverOthers(ctx); err != nil {
		t.Fatal(err)
	}
}

func addUser(t *testing.T, s *Site, name string) {
	t.Helper()
	if _, err := s.commands.Do(t.Context(), s.actor(), commands.AddUser{Name: name, Role: events.Operator, Key: newPublicKey(t)}); err != nil {
		t.Fatal(err)
	}
}

// What other sites decided takes effect here: after its causes, in the views
// too, known to what is decided next, and again after a restart.
func TestOthersDecisionsTakeEffect(t *testing.T) {
	here, there, far := testConfig(t), testConfig(t), testConfig(t)
	a, b, c := open(t, here), open(t, there), open(t, far)
	defer func() {
		for _, s := range []*Site{a, b, c} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	addUser(t, b, "bob")
	carry(t, b, c)
	settled(t, c)
	addUser(t, c, "cyd") // knows of bob

	carry(t, c, a)
	settled(t, a)
	if knows(a, "cyd") {
		t.Fatal("cyd took effect before bob, whom her site knew")
	}
	carry(t, b, a)
	settled(t, a)
	if !knows(a, "bob") || !knows(a, "cyd") {
		t.Fatal("what other sites decided took no effect")
	}
	addUser(t, a, "ann")
	carry(t, a, c)
	settled(t, c)
	if !knows(c, "ann") {
		t.Fatal("what was decided on top of it took no effect where all is known")
	}
	views := func() string {
		t.Helper()
		for _, log := range []store.Log{a.ctl.Log(), a.OtherLogs()[0], a.OtherLogs()[1]} {
			size, _ := log.Size()
			if err := a.views.WaitFor(t.Context(), log.Origin(), size); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"ann", "bob", "cyd"} {
			if _, err := a.views.User(t.Context(), name); err != nil {
				t.Errorf("user %s: %v", name, err)
			}
		}
		digest, _, err := a.views.Digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	before := views()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = open(t, here)
	if !knows(a, "bob") || !knows(a, "cyd") || !knows(a, "ann") {
		t.Fatal("after a restart something is missing")
	}
	if after := views(); after != before {
		t.Errorf("digest %s after the restart, %s before", after, before)
	}
	if err := a.views.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if rebuilt := views(); rebuilt != before {
		t.Errorf("digest %s rebuilt, %s before", rebuilt, before)
	}
}

// A log that can't be read any further is held, and no other one with it.
func TestADamagedLogIsHeldAlone(t *testing.T) {
	a, b, c := open(t, testConfig(t)), open(t, testConfig(t)), open(t, testConfig(t))
	defer func() {
		for _, s := range []*Site{a, b, c} {
			_ = s.Close()
		}
	}()
	addUser(t, b, "bob")
	addUser(t, c, "cyd")
	carry(t, b, a)
	files, err := filepath.Glob(filepath.Join(a.data.others(), b.ID().String(), "ctl", "1", "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 4096+200); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	carry(t, c, a)
	settled(t, a)
	if !knows(a, "cyd") || knows(a, "bob") || a.Held()[b.ctl.Log().Origin()] == nil {
		t.Errorf("cyd %t, bob %t, held %v", knows(a, "cyd"), knows(a, "bob"), a.Held())
	}
	addUser(t, a, "ann") // and this site goes on
}

// All that comes of a member seems to be late, as its clock is behind or it says so. That
// is recorded at once, and then once in a while, all that came meanwhile together.
func TestAttackALateClockWritesNoEventForEach(t *testing.T) {
	a, b := open(t, testConfig(t)), open(t, testConfig(t))
	defer func() {
		for _, s := range []*Site{a, b} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	size, _ := b.ctl.Log().Size()
	batch, err := readBatch(t.Context(), b.ctl.Log(), 1, size)
	if err != nil {
		t.Fatal(err)
	}
	for i := range batch {
		batch[i].Header.Wall -= time.Hour.Microseconds()
	}
	revisions := func() (all []events.ProjectionRevised) {
		for r, err := range a.source.Records(t.Context(), events.Ctl, events.Clock{}) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Header.Type == "projection.revised" {
				e, err := r.Event()
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, e.(events.ProjectionRevised))
			}
		}
		return all
	}
	const pauses = 20
	for range pauses {
		a.revised(a.order.Clock(), false, false, batch)
		a.tellRevised(t.Context())
	}
	if told := revisions(); len(told) != 1 {
		t.Fatalf("%d events of %d pauses", len(told), pauses)
	}
	a.others.told = time.Now().Add(50*time.Millisecond - revisedEvery)
	settled(t, a) // and nothing more comes
	told := revisions()
	if n := told[0].Records; len(told) != 2 || told[1].Records != (pauses-1)*n {
		t.Errorf("then %+v", told)
	}
}
