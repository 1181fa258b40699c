package site

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
)

// checkFork checks the proof that an event brings: nobody's word is believed that a
// log was written twice.
func checkFork(e events.ForkProved, key string, identity []byte) error {
	f, err := mesh.DecodeFork(e.Proof)
	if err != nil {
		return err
	}
	if f.Origin != e.Log || f.Size != e.Size {
		return fmt.Errorf("%w: it is of log %s at %d", mesh.ErrNoFork, f.Origin, f.Size)
	}
	c := mesh.Crypto{Open: evidence.OpenHead, Vouched: func(identity []byte, k mesh.Key) error { return mesh.CheckVoucher(identity, k) }}
	return mesh.CheckFork(c, f, key, identity)
}

// mostFolds bounds how often a state is built until the holds that it was made with
// are those that it calls for.
const mostFolds = 8

// lacking is for want of what logs stay held that are to count again.
type lacking struct {
	called aggregate.Holds   // for by the state when it was built, in vain
	first  events.ClockEntry // of what lacks; zero for what can never come
}

// here reports whether it makes sense to try again.
func (l *lacking) here(state *aggregate.State) bool {
	return l.first.Position > 0 && state.At(l.first.Origin) >= l.first.Position
}

// fold builds a state: with no log held first, then with those held that it found
// to be. What waits for a part of a log that is not here, since it is of the other
// branch, comes after what says that nobody has to wait for it. Where that was taken
// back, and the part may lack as it is on its way, the log stays held until it is here;
// what lacks is noted then. With no place to note it nothing may lack.
func (s *Site) fold(ctx context.Context, lacks *events.ClockEntry, apply func(*folding) error) (*aggregate.State, error) {
	var tried []aggregate.Holds
	var whole *aggregate.State // the last one that lacks nothing, with a log held that is no more
	var holds aggregate.Holds
	var early error
	for {
		state := s.emptyState()
		state.SetHolds(holds)
		f := &folding{state: state, log: s.source.Log, waiting: map[events.Origin]*waitingLog{}}
		err := apply(f)
		if err == nil {
			err = f.end(ctx)
		}
		if err != nil && !errors.Is(err, aggregate.ErrEarly) {
			return nil, err
		}
		next := state.Holds()
		if err != nil {
			early, next = err, f.holds
			if lacks != nil {
				*lacks = f.lacks()
			}
		} else {
			whole = state
		}
		if next.Equal(holds) {
			return state, err // early: not for want of a hold
		}
		tried = append(tried, holds)
		switch again := slices.ContainsFunc(tried, next.Equal); {
		case again && early != nil && lacks != nil && whole != nil:
			return whole, nil
		case again && early != nil:
			return nil, early
		case again || len(tried) > mostFolds:
			return nil, errors.New("sites hold each other's logs in a circle; fence all but one of them")
		}
		holds = next
	}
}

// folding applies records in the order in which they were applied here once. That was
// without what was held then, so what one waits for may come later. What waits may be
// much: it is read again when its turn has come.
type folding struct {
	state   *aggregate.State
	log     func(events.Origin) (store.Log, error)
	waiting map[events.Origin]*waitingLog
	holds   aggregate.Holds // that were called for when something first had to wait
	noted   bool
}

// waitingLog is a log that waits for another one.
type waitingLog struct {
	next events.Header // its first record that waits
	to   uint64        // its last one
	why  error
}

// Apply takes a record in, now or later.
func (f *folding) Apply(r events.Record) error {
	o := r.Header.Origin()
	if w := f.waiting[o]; w != nil {
		if r.Header.Position > w.to+1 {
			return fmt.Errorf("apply %s position %d after %d: %w", o, r.Header.Position, w.to, aggregate.ErrGap)
		}
		w.to = max(w.to, r.Header.Position)
		return nil
	}
	err := f.state.Apply(r)
	if !errors.Is(err, aggregate.ErrEarly) {
		return err
	}
	if !f.noted {
		f.noted, f.holds = true, f.state.Holds()
	}
	f.waiting[o] = &waitingLog{next: r.Header, to: r.Header.Position, why: err}
	return nil
}

// logs are those that wait, in the order of their origins.
func (f *folding) logs() []events.Origin {
	return slices.SortedFunc(maps.Keys(f.waiting), events.Origin.Compare)
}

// end applies what waits, and fails where something waits for what is not there.
func (f *folding) end(ctx context.Context) error {
	for progress := true; progress; {
		progress = false
		for _, o := range f.logs() {
			w := f.waiting[o]
			if _, waits := f.state.Waits(&w.next); waits {
				continue
			}
			progress = true
			if err := f.goOn(ctx, o, w); err != nil {
				return err
			}
		}
	}
	if logs := f.logs(); len(logs) > 0 {
		return f.waiting[logs[0]].why
	}
	return nil
}

// goOn applies the records of a log that waited, up to one that still does.
func (f *folding) goOn(ctx context.Context, o events.Origin, w *waitingLog) error {
	log, err := f.log(o)
	if err != nil {
		return err
	}
	for entry, err := range log.Read(ctx, w.next.Position) {
		var r events.Record
		if err == nil {
			r, err = events.DecodeEntry(entry)
		}
		if err == nil {
			err = f.state.Apply(r)
		}
		if errors.Is(err, aggregate.ErrEarly) {
			w.next, w.why = r.Header, err
			return nil
		}
		if err != nil {
			return err
		}
		if r.Header.Position == w.to {
			break
		}
	}
	if at := f.state.At(o); at < w.to {
		return fmt.Errorf("log %s ends at %d, and %d records of it were applied; restore it from a replica or a backup", o, at, w.to)
	}
	delete(f.waiting, o)
	return nil
}

// lacks is what something waits for at the end and nothing that waits holds; zero where
// logs wait for each other.
func (f *folding) lacks() events.ClockEntry {
	for _, o := range f.logs() {
		lacks, _ := f.state.Waits(&f.waiting[o].next)
		if w := f.waiting[lacks.Origin]; lacks.Position > 0 && (w == nil || w.to < lacks.Position) {
			return lacks
		}
	}
	return events.ClockEntry{}
}

// load builds the state of everything that was applied here.
func (s *Site) load(ctx context.Context) (*aggregate.State, error) {
	var lacks events.ClockEntry
	state, err := s.fold(ctx, &lacks, func(f *folding) error {
		_, err := commands.Load(ctx, f, func(yield func(events.Record, error) bool) {
			for r, err := range s.source.Records(ctx, events.Ctl, events.Clock{}) {
				if err == nil {
					s.meetClock(&r.Header)
				}
				if !yield(r, err) {
					return
				}
			}
		}, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mesh.lacks.Store(nil)
	if called := state.Holds(); !called.Equal(state.HeldWith()) {
		s.log.Warn("a log is to count again, and what others knew of it is not here; it stays held until it is",
			"log", lacks.Origin.String(), "position", lacks.Position)
		s.mesh.lacks.Store(&lacking{called, lacks})
	}
	return state, nil
}

// applyHolds builds the state anew where a log is to be held from now on, or not any
// more; what runs by a right that was lost so ends.
// Where it is only for what a member made a second time, or for what has come of what
// lacked, it rests for longer than it works: a member that does so again and again must
// not keep this site busy. It gives the time after which it is to be called again, 0 for
// none.
func (s *Site) applyHolds(ctx context.Context) time.Duration {
	same, sameLogs := true, true
	s.commands.View(func(state *aggregate.State) {
		next, last, tries := state.Holds(), state.HeldWith(), false
		if l := s.mesh.lacks.Load(); l != nil {
			last, tries = l.called, l.here(state)
		}
		same, sameLogs = next.Equal(last) && !tries, next.SameLogs(last)
	})
	if same {
		return 0
	}
	if rest := time.Until(s.mesh.rested); sameLogs && rest > 0 {
		return rest
	}
	began := time.Now()
	defer func() { s.mesh.rested = time.Now().Add(20 * time.Since(began)) }()
	if err := s.commands.Rebuild(ctx, func() (*aggregate.State, error) { return s.load(ctx) }); err != nil {
		if ctx.Err() == nil {
			s.fail(fmt.Errorf("have a log count no more from where it was cut: %w", err))
		}
		return 0
	}
	s.log.Warn("what counts of other sites' logs has changed; the state was built anew (mesh status, conflict ls)")
	s.Grew(s.ctl.Log().Origin()) // what waited for a part of a log that is held now need not
	if s.gateway != nil {
		s.gateway.Review()
	}
	s.counted.look()
	return 0
}

// recoverSecrets tells everybody of the versions of secrets that a target may hold and
// of which only this site's copies of logs say so, beyond where they count. It opens them
// first: what nobody can open would only keep the site that tests it waiting.
func (s *Site) recoverSecrets(ctx context.Context) {
	var found []aggregate.Recovery
	kinds := map[events.CredentialID]events.SecretKind{}
	s.commands.View(func(state *aggregate.State) {
		if _, held := state.HoldOf(s.ctl.Log().Origin()); held || !slices.Contains(state.DecidesOn(s.who.ID), events.AreaSecrets) {
			return
		}
		found = state.Recoverable()
		for _, r := range found {
			if c, ok := state.Credential(r.Credential); ok {
				kinds[r.Credential] = c.Kind
			}
		}
	})
	var opened []events.SecretID
	for _, r := range found {
		if _, never := s.unopened.Load(r.Version); never {
			continue
		}
		secret, err := vault.Open(ctx, s.sealer, vault.Sealed{
			Credential: r.Credential, Version: r.Version, Kind: kinds[r.Credential], Bytes: r.Sealed, Key: r.Key,
		})
		secret.Wipe()
		switch {
		case err == nil:
			opened = append(opened, r.Version)
		case errors.Is(err, seal.ErrMismatch):
			s.unopened.Store(r.Version, true)
			s.log.Warn("a part of a log that does not count names a secret that was never sealed here", "version", r.Version.String(), "log", r.Log.String())
		}
	}
	if len(opened) == 0 {
		return
	}
	records, err := s.commands.Do(ctx, s.actor(), commands.RecoverSecrets{Versions: opened})
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("secrets that targets may hold stand in a part of a log that does not count, and could not be recovered", "secrets", len(opened), "error", err)
		}
		return
	}
	for _, r := range records {
		s.log.Warn("a target may hold a secret that a part of a log names which does not count; its site tests it",
			"credential", r.Header.Stream.String(), "event", r.Header.ID.String())
	}
}

// trouble says what somebody has to look at in a member's logs.
func trouble(state *aggregate.State, m *aggregate.MeshSite) string {
	for _, f := range state.Forks() {
		if f.Log.Site == m.Site && !state.Settled(f) {
			return fmt.Sprintf("its %s log of epoch %d was written twice after %d records", f.Log.Kind, f.Log.Epoch, f.Size)
		}
	}
	if fences := state.FencesOf(m.Site); len(fences) > 0 {
		return "fenced: " + fences[0].Reason
	}
	return ""
}
