package mesh_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// checkRelease is I13: what a pair releases is durable on both disks.
func (s *sim) checkRelease(site *simSite, r mesh.Release) {
	if s.disk(site.id, r.Origin) < int(r.Size) {
		s.fail("I13: %s released %s up to %d, which is not durable here", site, r.Origin, r.Size)
	}
	for _, peer := range site.sync {
		if site.degraded[peer] {
			continue
		}
		if !s.copied(peer, r.Origin, site.disk.logs[r.Origin].entries[:r.Size]) {
			s.fail("I13: %s released %s up to %d, its pair has %d, or others", site, r.Origin, r.Size, s.disk(peer, r.Origin))
		}
	}
}

// disk is the most that a process of a site holds durably of a log.
func (s *sim) disk(id events.SiteID, o events.Origin) (n int) {
	for _, site := range s.sites {
		if l := site.disk.logs[o]; site.id == id && l != nil {
			n = max(n, l.durable)
		}
	}
	return n
}

// copied reports whether a process of a site holds durably the last of the records
// of a log: then it holds those before, too.
func (s *sim) copied(id events.SiteID, o events.Origin, records []events.Entry) bool {
	n := len(records)
	return slices.ContainsFunc(s.sites, func(site *simSite) bool {
		l := site.disk.logs[o]
		return site.id == id && l != nil && l.durable >= n && bytes.Equal(l.entries[n-1].Header, records[n-1].Header)
	})
}

// agree tells what still keeps sites from having the same, or nil (I2, I11).
func (s *sim) agree() error {
	want := map[events.Origin]int{}
	forks := map[events.Origin]uint64{}
	for _, site := range s.core {
		for o, f := range site.disk.forks {
			forks[o] = f.Size
		}
		for o, l := range site.disk.logs {
			size := l.durable
			if site.disk.writing[o.Kind] != o {
				size, _ = l.verified()
			}
			if s.genuine[o] {
				want[o] = max(want[o], size)
			} else if size > 0 && site.id != s.impostor.id {
				return fmt.Errorf("I3, R17: %s holds %d records of %s, which that site never wrote", site, size, o)
			}
		}
	}
	for _, site := range s.core {
		for o, size := range want {
			have := 0
			if l := site.disk.logs[o]; l != nil {
				have = l.durable
			}
			if have < size && !s.forks[o] {
				return fmt.Errorf("I11: %s has %d of %d records of %s", site, have, size, o)
			}
			// A cause may be out of reach of a core; then all of it waits.
			must := have
			if len(s.core) < len(s.sites) {
				must = int(s.core[0].state.At(o))
			}
			if at := int(site.state.At(o)); o.Kind == events.Ctl && at < must && !s.forks[o] {
				return fmt.Errorf("I11, I9: %s has applied %d of %d records of %s", site, at, have, o)
			}
		}
		for o, size := range forks {
			if f, ok := site.disk.forks[o]; !ok || f.Size != size {
				return fmt.Errorf("I7: %s does not know of the fork of %s as others do", site, o)
			}
		}
	}
	return s.sameContent()
}

// check holds the end of a history against the invariants.
func (s *sim) check() error {
	var errs []error
	if err := s.agree(); err != nil {
		errs = append(errs, fmt.Errorf("%s after everything was mended: %w", healTime, err))
	}
	for o, size := range s.floor {
		if s.forks[o] || !s.genuine[o] {
			continue
		}
		for _, site := range s.core {
			if l := site.disk.logs[o]; l == nil || l.durable < size {
				errs = append(errs, fmt.Errorf("I1: %s misses records of %s that were durable somewhere", site, o))
			}
		}
	}
	// All have the same state, or that is what is wrong: one stands for them.
	errs = append(errs, s.checkForks(), s.checkDigests(), s.checkGrants(s.core[0]), s.checkClocks(s.core[0]))
	return errors.Join(errs...)
}

// sameContent is I7: no two contents at one position but where a fork is
// proven.
func (s *sim) sameContent() error {
	for i, a := range s.core {
		for _, b := range s.core[i+1:] {
			for o, l := range a.disk.logs {
				if other := b.disk.logs[o]; other != nil && !s.forks[o] && !samePrefix(l, other) {
					return fmt.Errorf("I7: %s and %s hold different records of %s, and no fork was found", a, b, o)
				}
			}
		}
	}
	return nil
}

// checkForks is R15: no position is used twice but where a machine was set back
// as a whole or doubled.
func (s *sim) checkForks() error {
	if len(s.forks) > 0 && !s.rolledBack {
		return fmt.Errorf("R15: a position was used twice although nothing hid that the disk is old: %v", s.forks)
	}
	return nil
}

// checkDigests is I2: the same for all sites, and the same as a rebuild.
func (s *sim) checkDigests() error {
	want := ""
	for _, site := range s.core {
		digest := site.state.Digest()
		if rebuilt := s.fold(site.disk, true).Digest(); rebuilt != digest {
			return fmt.Errorf("I2: %s has another state than a rebuild of it", site)
		}
		if want == "" {
			want = digest
		} else if digest != want {
			return fmt.Errorf("I2: %s has another state than %s", site, s.core[0])
		}
	}
	return nil
}

// checkGrants is I6, from the events alone: no grant stands that does not know
// of every removal of its right.
func (s *sim) checkGrants(site *simSite) error {
	type removal struct {
		origin   events.Origin
		position uint64
		user     events.UserID
		account  events.AccountID
	}
	var removals []removal
	clocks := map[events.GrantID]events.Clock{}
	added := map[events.GrantID]events.GrantAdded{}
	at := map[events.GrantID]removal{}
	for _, o := range site.disk.origins() {
		if o.Kind != events.Ctl {
			continue
		}
		var coder events.ClockCoder
		for i, e := range site.disk.logs[o].entries[:site.state.At(o)] {
			if f, ok := site.disk.forks[o]; ok && uint64(i) >= f.Size {
				break
			}
			r, err := events.DecodeEntry(e)
			if err != nil {
				return err
			}
			clock, err := coder.Apply(r.Header.Clock)
			if err != nil {
				return err
			}
			id := events.GrantID{UUID: r.Header.Stream}
			switch e, _ := r.Event(); e := e.(type) {
			case events.GrantAdded:
				clocks[id], added[id] = clock, e
				at[id] = removal{origin: o, position: r.Header.Position}
			case events.GrantRemoved:
				removals = append(removals, removal{o, r.Header.Position, e.User, e.Account})
			}
		}
	}
	for id, e := range added {
		if _, stands := site.state.Grant(id); !stands {
			continue
		}
		for _, gone := range removals {
			knows := clocks[id].At(gone.origin) >= gone.position || at[id].origin == gone.origin && at[id].position > gone.position
			if gone.user == e.User && gone.account == e.Account && !knows && !e.User.IsZero() && !e.Account.IsZero() {
				return fmt.Errorf("I6: grant %s (%s position %d) stands at %s, and does not know of the removal of its right in %s position %d",
					id, at[id].origin, at[id].position, site, gone.origin, gone.position)
			}
		}
	}
	return nil
}

// checkClocks is the other half of I3: what a site wrote sorts after all that it
// knew of.
func (s *sim) checkClocks(site *simSite) error {
	hlc := map[events.Origin][]events.HLC{}
	type cause struct {
		events.Header
		clock events.Clock
	}
	var all []cause
	for _, o := range site.disk.origins() {
		if o.Kind != events.Ctl {
			continue
		}
		var coder events.ClockCoder
		for _, e := range site.disk.logs[o].entries[:site.state.At(o)] {
			h, err := events.DecodeHeader(e.Header)
			if err != nil {
				return err
			}
			clock, err := coder.Apply(h.Clock)
			if err != nil {
				return err
			}
			hlc[o] = append(hlc[o], h.HLC)
			all = append(all, cause{h, clock})
		}
	}
	for _, r := range all {
		for _, e := range r.clock.Entries() {
			known := hlc[e.Origin]
			if e.Position == 0 || e.Position > uint64(len(known)) || s.wild[e.Origin] || s.forks[e.Origin] || s.forks[r.Origin()] {
				continue
			}
			if known[e.Position-1] >= r.HLC {
				return fmt.Errorf("I3: %s position %d sorts before %s position %d, which its site knew", r.Origin(), r.Position, e.Origin, e.Position)
			}
		}
	}
	return nil
}

// shrink drops faults one after another as long as the run still fails.
func shrink(out outcome) outcome {
	for i := 0; i < len(out.faults); {
		fewer := out.history
		fewer.faults = slices.Delete(slices.Clone(out.faults), i, i+1)
		if again := fewer.run(false); again.err != nil {
			out = again
		} else {
			i++
		}
	}
	return out.run(true)
}
