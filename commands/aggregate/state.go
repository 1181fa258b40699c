package aggregate

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// State holds all aggregates. It is not safe for concurrent use, and what its
// lookups return is read-only and valid until the next Apply.
type State struct {
	logs       map[events.Origin]*log
	holds      Holds
	cuts       cuts
	self       events.SiteID                              // whose state this is; zero for nobody's
	before     map[events.SiteID]map[events.Origin]uint64 // up to where sites decided before they joined the mesh, as it was told first
	joinedWith string                                     // what Joined was told; "" for a founder and a lone site
	mesh       mesh
	twins      map[made][]*Mark // of what was made more than once, all the makings
	parted     []parting        // follows from cuts and mesh
	tails      map[tail][]*Recovery
	unheard    map[tail][]int64                              // logins, microseconds since 1970 UTC; likewise no part of what sites agree on
	goings     map[events.ClockEntry]map[events.SiteID]int64 // when each site first knew of an event by which one went, microseconds since 1970 UTC
	duties     duties
	recordings recordings
	erasures   map[uuid.UUID]*Erasure // by what is erased
	counts     Counts
	barred     map[uuid.UUID][]barring // aggregates, by what a newer holdfast decided on them that is not read here

	successions successions

	sites       map[events.SiteID]*Site
	users       map[events.UserID]*User
	targets     map[events.TargetID]*Target
	accounts    map[events.AccountID]*Account
	credentials map[events.CredentialID]*Credential
	grants      map[events.GrantID][]*Grant // likewise
	rights      map[Subject]map[Scope]*right
	sessions    map[events.SessionID][]*Session // one each, unless a site betrays
	cas         map[events.CAID]*CA
	groups      map[events.GroupID]*Group
	groupsOf    map[events.UserID]map[events.GroupID]bool // every group that a user was ever taken into
	roles       map[events.Role]*heads[events.RoleSet]
	factors     map[events.FactorID]*Factor
	factorsOf   map[events.UserID][]events.FactorID
	rotations   map[events.RotationID][]*Rotation // likewise
	rotationsOf index[events.CredentialID, events.RotationID]
	dataKeys    index[uuid.UUID, events.CredentialID] // but for those that have the credential's id

	rotationPolicies map[uuid.UUID]heads[events.RotationPolicy] // by account or target

	requesting

	usersByName    index[string, events.UserID]
	usersByKey     index[string, events.UserID] // by fingerprint; disabled users too
	targetsByName  index[string, events.TargetID]
	accountsByName index[accountName, events.AccountID]
	casByName      index[string, events.CAID]
	groupsByName   index[string, events.GroupID]
}

// New is the state before any record.
func New() *State {
	return &State{
		logs:             map[events.Origin]*log{},
		sites:            map[events.SiteID]*Site{},
		users:            map[events.UserID]*User{},
		targets:          map[events.TargetID]*Target{},
		accounts:         map[events.AccountID]*Account{},
		credentials:      map[events.CredentialID]*Credential{},
		grants:           map[events.GrantID][]*Grant{},
		rights:           map[Subject]map[Scope]*right{},
		sessions:         map[events.SessionID][]*Session{},
		cas:              map[events.CAID]*CA{},
		groups:           map[events.GroupID]*Group{},
		groupsOf:         map[events.UserID]map[events.GroupID]bool{},
		roles:            map[events.Role]*heads[events.RoleSet]{},
		factors:          map[events.FactorID]*Factor{},
		factorsOf:        map[events.UserID][]events.FactorID{},
		rotations:        map[events.RotationID][]*Rotation{},
		rotationsOf:      index[events.CredentialID, events.RotationID]{},
		dataKeys:         index[uuid.UUID, events.CredentialID]{},
		erasures:         map[uuid.UUID]*Erasure{},
		rotationPolicies: map[uuid.UUID]heads[events.RotationPolicy]{},
		requesting:       newRequesting(),
		usersByName:      index[string, events.UserID]{},
		usersByKey:       index[string, events.UserID]{},
		targetsByName:    index[string, events.TargetID]{},
		accountsByName:   index[accountName, events.AccountID]{},
		casByName:        index[string, events.CAID]{},
		groupsByName:     index[string, events.GroupID]{},
	}
}

// log is how far one ctl log has been applied.
type log struct {
	position uint64
	coder    events.ClockCoder
	began    int64 // of its first record, microseconds since 1970 UTC

	counted uint64       // up to where it has effect
	knew    events.Clock // of the last record that does
}

// Hold masks what a log says after a size: its records are applied and change
// nothing, and nobody waits for them. That is what becomes of a log that was
// written twice, or whose site is not to be trusted any more (rule R14); of
// several sizes the smallest counts. It reports false when records after the
// size took effect already: the state must then be built anew, with the hold
// set first.
func (s *State) Hold(o events.Origin, size uint64) bool {
	if s.holds.Logs == nil {
		s.holds.Logs = map[events.Origin]uint64{}
	}
	if at, held := s.holds.Logs[o]; !held || size < at {
		s.holds.Logs[o] = size
	}
	return s.At(o) <= size
}

// held is up to where a log counts.
func (s *State) held(o events.Origin, position uint64) uint64 {
	if size, held := s.HoldOf(o); held {
		return min(size, position)
	}
	return position
}

// Counts are the records that were applied without a fold, by why.
type Counts struct {
	Unknown uint64 // event type or version of a newer holdfast (rule R20)
	Absent  uint64 // payload not held here
	Bad     uint64 // payload of a known type that does not decode
	Orphan  uint64 // aggregate that is not known, to the record's site or here, or whose life has ended
}

var (
	// ErrGap says that a record is not the next one of its log.
	ErrGap = errors.New("record is not the next one of its log")
	// ErrEarly says that a record came before one that its clock covers.
	ErrEarly = errors.New("record came before its cause")
)

// folds holds how each event type changes the state, by stored name. It is
// filled by package-level calls of fold and read-only afterwards.
var folds = map[string]foldEntry{}

type foldEntry struct {
	apply     func(*State, *Mark, events.Event) bool
	zero      events.Event
	takesAway bool
}

// catalogued holds the stored names that this version knows.
var catalogued = func() map[string]bool {
	names := map[string]bool{}
	for _, t := range events.Catalogue() {
		names[t.Name] = true
	}
	return names
}()

// fold declares how events of type E change the state. apply reports false
// when the event's aggregate is not there.
func fold[E events.Event](apply func(s *State, at *Mark, e E) bool) struct{} {
	return declare(apply, false)
}

// foldAway is fold for an event that only takes something away. It counts even
// when its payload is absent or of a newer version: then with zero fields.
func foldAway[E events.Event](apply func(s *State, at *Mark, e E) bool) struct{} {
	return declare(apply, true)
}

func declare[E events.Event](apply func(s *State, at *Mark, e E) bool, takesAway bool) struct{} {
	var zero E
	t, err := events.TypeOf(zero)
	if err != nil {
		panic(err) // a mistake in the source
	}
	if _, twice := folds[t.Name]; twice {
		panic(fmt.Sprintf("aggregate: %s is folded twice (%s)", t.Name, reflect.TypeFor[E]()))
	}
	folds[t.Name] = foldEntry{
		apply:     func(s *State, at *Mark, e events.Event) bool { return apply(s, at, e.(E)) },
		zero:      zero,
		takesAway: takesAway,
	}
	return struct{}{}
}

// Apply folds one record of a ctl log. A record that was applied before is
// passed over. Records that no fold can use are counted and are no error. On
// [ErrGap], [ErrEarly] and a bad clock nothing has changed.
func (s *State) Apply(r events.Record) error {
	h := &r.Header
	origin := h.Origin()
	if origin.Kind != events.Ctl {
		return fmt.Errorf("apply %s position %d: only ctl logs are folded", origin, h.Position)
	}
	at := s.logs[origin]
	if at == nil {
		at = &log{}
	}
	if h.Position <= at.position {
		return nil
	}
	if h.Position != at.position+1 {
		return fmt.Errorf("apply %s position %d after %d: %w", origin, h.Position, at.position, ErrGap)
	}
	next := *at
	next.position = h.Position
	if h.Position == 1 {
		next.began = h.Wall
	}
	clock, err := next.coder.Apply(h.Clock)
	if err != nil {
		return fmt.Errorf("apply %s position %d: %w", origin, h.Position, err)
	}
	if e, waits := s.lacks(h, clock); waits {
		return fmt.Errorf("apply %s position %d: %w: %s position %d", origin, h.Position, ErrEarly, e.Origin, e.Position)
	}
	if s.stranger(h.Site) {
		return fmt.Errorf("apply %s position %d: %w: the admission of its site", origin, h.Position, ErrEarly)
	}
	if counts := s.held(origin, h.Position) == h.Position; counts {
		next.counted, next.knew = h.Position, clock
	}
	*at = next
	s.logs[origin] = at
	if s.held(origin, h.Position) == h.Position || claims[h.Type] {
		s.change(&r, clock)
		s.noteGoings(h, clock)
	} else {
		s.noteTail(&r, clock)
	}
	return nil
}

// Waits reports whether the next record of a log can't be applied yet, as something that
// its clock covers was not, and what: zero for the admission of its site.
func (s *State) Waits(h *events.Header) (lacks events.ClockEntry, waits bool) {
	var coder events.ClockCoder
	if l := s.logs[h.Origin()]; l != nil {
		coder = l.coder
	}
	clock, err := coder.Apply(h.Clock)
	if err != nil {
		return lacks, false // who applies it tells
	}
	if lacks, waits = s.lacks(h, clock); waits {
		return lacks, true
	}
	return lacks, s.stranger(h.Site)
}

// lacks gives something that a record's clock covers and that was not applied.
func (s *State) lacks(h *events.Header, clock events.Clock) (lacks events.ClockEntry, waits bool) {
	if len(h.Clock) == 0 {
		return lacks, false // covers no more than the record before it
	}
	for _, e := range clock.Entries() {
		have := uint64(0)
		if l := s.logs[e.Origin]; l != nil {
			have = l.position
		}
		if e.Origin == h.Origin() {
			have = h.Position - 1
		}
		if e.Position = s.held(e.Origin, e.Position); have < e.Position {
			return e, true
		}
	}
	return lacks, false
}

func (s *State) change(r *events.Record, clock events.Clock) {
	h := &r.Header
	at := &Mark{
		ID: h.ID, Stream: h.Stream, Origin: h.Origin(), Position: h.Position,
		HLC: h.HLC, Wall: h.Wall, Actor: h.Actor, Clock: clock,
	}
	if why := s.MaskOf(h, clock); why != "" {
		s.mask(at, h.Type, why)
		if e, err := r.Event(); why == maskedTwin && err == nil {
			s.noteTwin(h, at, e)
		}
		return
	}
	entry, folded := folds[h.Type]
	if !folded {
		if !catalogued[h.Type] {
			s.counts.Unknown++
			s.newer(at, h)
		}
		return
	}
	e, err := r.Event()
	if err != nil {
		s.count(err)
		if !entry.takesAway {
			if errors.Is(err, events.ErrUnknownType) {
				s.newer(at, h)
			}
			return
		}
		e = entry.zero
	}
	if s.noteTwin(h, at, e) || s.unknownTo(at, h) || !entry.apply(s, at, e) {
		s.counts.Orphan++
	}
	if parts(h.Type) {
		s.parted = s.partings()
	}
}

func (s *State) count(err error) {
	switch {
	case errors.Is(err, events.ErrPayloadAbsent):
		s.counts.Absent++
	case errors.Is(err, events.ErrUnknownType):
		s.counts.Unknown++
	default:
		s.counts.Bad++
	}
}

// At is up to where one log has been applied.
func (s *State) At(o events.Origin) uint64 {
	if l := s.logs[o]; l != nil {
		return l.position
	}
	return 0
}

// Clock is what has been applied of each log.
func (s *State) Clock() events.Clock {
	entries := make([]events.ClockEntry, 0, len(s.logs))
	for origin, l := range s.logs {
		entries = append(entries, events.ClockEntry{Origin: origin, Position: l.position})
	}
	return events.NewClock(entries...)
}

// Counts tells how many records were applied without a fold.
func (s *State) Counts() Counts { return s.counts }

// suspended reports whether an event counts for nothing until settled: its actor was
// disabled by somebody who did not know of it, or is suspended themselves
// (rule R9). Every step goes strictly back in causal order, so it ends.
func (s *State) suspended(m *Mark) bool {
	if m.Actor.Kind != events.ByUser {
		return false
	}
	u := s.users[events.UserID{UUID: m.Actor.ID}]
	if u == nil || !m.Knows(u.Added) {
		return true // nobody that the event's site can have known
	}
	for _, d := range u.disabled {
		if !d.Knows(m) {
			return true
		}
	}
	return s.suspended(u.Added)
}
