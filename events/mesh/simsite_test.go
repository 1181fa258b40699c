package mesh_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// simSite is one process: what a site is while it runs, on a disk that
// outlives it. A clone is another process with the same id.
type simSite struct {
	sim      *sim
	index    int
	id       events.SiteID
	identity []byte
	machine  int // what the marker on its disk is held against
	disk     *simDisk
	backup   *simDisk
	gone     bool // for good

	up      bool
	life    int // counts starts, so that what an earlier life was waiting for is not answered
	core    *mesh.Core
	state   *aggregate.State
	ticker  *events.Ticker
	skew    time.Duration
	coder   events.ClockCoder
	written int // events accepted in all lives
	dirty   map[events.Origin]bool
	tick    time.Duration // when the next tick is due
	level   uint32        // of the protocol, 0 for this one
	mute    bool          // claims to hold everything and pushes nothing of others
	tamper  bool          // changes what it forwards
	full    bool          // stores nothing of others
	asked   int           // subscriptions sent, for a mutant
	sync    []events.SiteID

	released map[events.Origin]uint64
	moved    time.Duration            // when something was released, or a pair told something new
	heard    map[events.Origin]uint64 // what pairs told of this site's logs
	degraded map[events.SiteID]bool
}

func (s *simSite) String() string { return fmt.Sprintf("site %d", s.index) }

func (s *simSite) now() time.Time {
	return aggregatetest.Epoch.Add(s.sim.now + s.skew)
}

// detectTime is how long a pair waits for a peer that acknowledges nothing.
const detectTime = 100 * time.Millisecond

// start brings the process up on its disk.
func (s *simSite) start() {
	s.up, s.life = true, s.life+1
	s.dirty, s.released, s.degraded = map[events.Origin]bool{}, map[events.Origin]uint64{}, map[events.SiteID]bool{}
	s.ticker, s.heard = &events.Ticker{Now: s.now}, map[events.Origin]uint64{}
	cfg := mesh.Config{
		Self: s.id, Mesh: s.sim.sites[0].id, Level: s.level, Sync: s.sync, HaveEvery: 200 * time.Millisecond,
		Windows: [2]uint64{64 << 10, 64 << 10}, BatchSize: 4 << 10, RecRate: s.sim.recRate,
		Payloads: func(o events.Origin) bool { return o.Kind == events.Ctl || (int(o.Site.UUID[15])+s.index)%2 == 0 },
		Crypto:   s.sim.keys.crypto(s.sign), Detect: detectTime,
	}
	if !s.sim.rule("pairs go on") {
		cfg.Detect = time.Hour
	}
	s.core = mesh.New(cfg)
	s.input(mesh.Members{Sites: s.sim.members()})
	doubt := s.disk.marker != s.machine && s.sim.rule("R15")
	s.disk.marker = s.machine
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		o, exists := s.disk.writing[kind]
		if !exists || doubt || s.disk.logs[o].durable != len(s.disk.logs[o].entries) {
			s.newEpoch(kind, o.Epoch)
		}
	}
	for _, o := range s.disk.origins() {
		s.open(o)
	}
	for _, o := range s.disk.origins() {
		if f, ok := s.disk.forks[o]; ok {
			s.input(mesh.KnownFork{Fork: f})
		}
	}
	s.rebuild()
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		s.begin(s.disk.writing[kind])
	}
}

// newEpoch begins to write another log. Its number is one that no other copy
// of this disk can have chosen.
func (s *simSite) newEpoch(kind events.Kind, before uint32) {
	if old, ok := s.disk.writing[kind]; ok { // what was torn was never acknowledged
		l := s.disk.logs[old]
		l.entries = l.entries[:l.durable]
		tree := l.tree(l.durable)
		l.heads = []simHead{{l.durable, simNote(l.key.Key, old, uint64(l.durable), tree.Root())}}
	}
	for o := range s.disk.logs {
		if o.Site == s.id && o.Kind == kind {
			before = max(before, o.Epoch)
		}
	}
	s.sim.note("%s opens an epoch after %s", s, s.disk.writing[kind])
	o := events.Origin{Site: s.id, Epoch: before + 1 + s.sim.rng.Uint32N(1<<16), Kind: kind}
	s.disk.logs[o] = &simLog{key: simKey(s.identity, o, s.sim.rng.Uint64())}
	s.disk.writing[kind] = o
	s.sim.genuine[o] = true
	if kind == events.Ctl {
		s.coder = events.ClockCoder{}
	}
}

// begin writes the first record of a new log.
func (s *simSite) begin(o events.Origin) {
	if l := s.disk.logs[o]; len(l.entries) == 0 {
		s.append(o.Kind, s.id.UUID, events.SiteActor(s.id), events.LogOpened{Key: l.key.Key})
	}
}

// abandon goes on in a new epoch while the process runs.
func (s *simSite) abandon(kind events.Kind) {
	old := s.disk.writing[kind]
	s.newEpoch(kind, old.Epoch)
	s.open(old)
	s.open(s.disk.writing[kind])
	s.begin(s.disk.writing[kind])
}

// open tells the core of a log on the disk.
func (s *simSite) open(o events.Origin) {
	l := s.disk.logs[o]
	in := mesh.Opened{Key: l.key, Own: s.disk.writing[o.Kind] == o}
	if in.Own {
		in.Tree = l.tree(l.durable)
		s.released[o] = uint64(l.durable)
	} else {
		size, head := l.verified()
		in.Tree, in.Head = l.tree(size), head
	}
	s.input(in)
}

func (s *simSite) sign(o events.Origin, size uint64, root events.Hash) (evidence.Head, error) {
	l := s.disk.logs[o]
	if l == nil || s.disk.writing[o.Kind] != o {
		return evidence.Head{}, errors.New("not a log of this site")
	}
	return s.sim.keys.open(simNote(l.key.Key, o, size, root), l.key.Key)
}

// crash ends the process. What was not durable is lost, torn, or kept.
func (s *simSite) crash() {
	s.up = false
	for _, o := range s.disk.origins() {
		l := s.disk.logs[o]
		pending := len(l.entries) - l.durable
		if pending == 0 {
			continue
		}
		own := s.disk.writing[o.Kind] == o
		switch s.sim.rng.IntN(3) {
		case 0:
			l.entries = l.entries[:l.durable]
		case 1:
			l.durable = len(l.entries)
		case 2: // torn: the own log must not go on, a replica may
			if !own {
				l.entries = l.entries[:l.durable]
			}
		}
	}
	s.sim.net.drop(s.index)
}

// input steps the core and does what it asks for.
func (s *simSite) input(in mesh.Input) {
	if !s.up {
		return
	}
	s.do(s.core.Step(in, s.sim.now+s.startOffset()))
	s.tick = 0
}

// hear notes what a pair tells of this site's logs, for expectRelease.
func (s *simSite) hear(from events.SiteID, m mesh.Message) {
	var told []mesh.Holding
	switch m := m.(type) {
	case mesh.Ack:
		told = []mesh.Holding{{Origin: m.Origin, Size: m.Size}}
	case mesh.Have:
		told = m.Logs
	}
	for _, h := range told {
		if slices.Contains(s.sync, from) && h.Origin == s.disk.writing[h.Origin.Kind] && h.Size > s.heard[h.Origin] {
			s.heard[h.Origin], s.moved = h.Size, s.sim.now
		}
	}
}

// startOffset: each process counts time from a moment of its own.
func (s *simSite) startOffset() time.Duration { return time.Duration(s.index+1) * time.Hour }

func (s *simSite) do(outputs []mesh.Output) {
	for _, out := range outputs {
		switch out := out.(type) {
		case mesh.Send:
			if _, asks := out.Message.(mesh.Subscribe); asks && !s.sim.rule("ask again") {
				if s.asked++; s.asked > 12 {
					continue
				}
			}
			s.sim.net.send(s, out)
		case mesh.NewLog:
			if s.disk.logs[out.Key.Origin] == nil {
				s.disk.logs[out.Key.Origin] = &simLog{key: out.Key}
			}
		case mesh.Store:
			s.store(out)
		case mesh.Read:
			s.read(out)
		case mesh.MakeProof:
			s.prove(out)
		case mesh.Arrived:
			if out.Origin.Kind == events.Ctl {
				s.deliver()
			}
		case mesh.Release:
			s.released[out.Origin], s.moved = max(s.released[out.Origin], out.Size), s.sim.now
			s.sim.checkRelease(s, out)
		case mesh.Degraded:
			s.degraded[out.Site] = true
		case mesh.Restored:
			s.degraded[out.Site] = false
		case mesh.ForkFound:
			s.forked(out.Fork)
		case mesh.Behind:
			if out.Origin == s.disk.writing[out.Origin.Kind] && s.sim.rule("R15") {
				s.abandon(out.Origin.Kind)
			}
		case mesh.Close:
			s.sim.note("%s closes the link to %s: %s", s, out.Site, out.Reason)
			s.sim.net.closed(s.index, out.Link)
		case mesh.Refused:
			s.sim.note("%s refused %s from %s: %s (%v)", s, out.Origin, out.Site, out.What, out.Err)
			s.sim.refused++
		case mesh.ReadPayloads, mesh.GotPayload, mesh.GotWraps, mesh.GotLease, mesh.Met:
		default:
			s.sim.fail("output %T is not known", out)
		}
	}
}

// later runs f in this life after a time, if it lasts that long.
func (s *simSite) later(d time.Duration, f func()) {
	life := s.life
	s.sim.after(d, func() {
		if s.up && s.life == life {
			f()
		}
	})
}

func (s *simSite) syncTime() time.Duration {
	return time.Duration(200+s.sim.rng.IntN(3000)) * time.Microsecond
}

// append writes one event to one of the site's own logs and returns its record
// once it is handed to the disk.
func (s *simSite) append(kind events.Kind, stream [16]byte, by events.Actor, e events.Event) {
	o := s.disk.writing[kind]
	l := s.disk.logs[o]
	r, err := s.record(o, uint64(len(l.entries))+1, stream, by, e)
	if err != nil {
		s.sim.fail("%s can't write %T: %v", s, e, err)
		return
	}
	l.entries = append(l.entries, r.Raw)
	s.written++
	s.later(s.syncTime(), func() { s.synced(o, int(r.Header.Position)) })
}

// synced makes a log durable up to a size, applies it, and tells the core.
func (s *simSite) synced(o events.Origin, size int) {
	l := s.disk.logs[o]
	if l.durable >= size || s.disk.writing[o.Kind] != o {
		return
	}
	from := l.durable
	l.durable = size
	if o.Kind == events.Ctl {
		for i, e := range l.entries[from:size] {
			if !s.apply(e) {
				s.sim.fail("%s can't apply its own %s %d", s, o, from+i+1)
			}
		}
		s.deliver()
	}
	tree := l.tree(size)
	if !s.sim.rule("pairs wait") {
		s.sim.checkRelease(s, mesh.Release{Origin: o, Size: uint64(size)})
	}
	s.input(mesh.Grew{Origin: o, Size: uint64(size), Root: tree.Root()})
	s.expectRelease(o, uint64(size))
}

// expectRelease is I8: whatever the network does, what is durable is acted on
// soon. A pair waits for a peer only as long as that goes on acknowledging.
func (s *simSite) expectRelease(o events.Origin, size uint64) {
	const soon = detectTime + 50*time.Millisecond
	at := s.sim.now
	var look func()
	look = func() {
		switch quiet := s.sim.now - max(at, s.moved); {
		case s.released[o] >= size || s.disk.writing[o.Kind] != o:
		case quiet >= soon:
			s.sim.fail("I8: nothing of %s was released at %s for %s: %d of %d", o, s, quiet, s.released[o], size)
		default:
			s.later(soon-quiet, look)
		}
	}
	s.later(soon, look)
}

func (s *simSite) record(o events.Origin, position uint64, stream [16]byte, by events.Actor, e events.Event) (events.Record, error) {
	t, err := events.TypeOf(e)
	if err != nil {
		return events.Record{}, err
	}
	payload, err := events.EncodeEvent(e)
	if err != nil {
		return events.Record{}, err
	}
	var delta []byte
	if o.Kind == events.Ctl {
		if delta, err = s.coder.Delta(s.state.Clock().With(o, 0)); err != nil {
			return events.Record{}, err
		}
	}
	h := events.Header{
		V: events.HeaderVersion, ID: aggregatetest.ID(o.String(), int(position)), Site: o.Site, Epoch: o.Epoch, Kind: o.Kind, Position: position,
		Type: t.Name, TypeVersion: t.Version, Stream: stream, Actor: by, HLC: s.ticker.Next(), Wall: s.now().UnixMicro(), Clock: delta,
		PayloadHash: sha256.Sum256(payload), PayloadSize: uint64(len(payload)),
	}
	header, err := events.EncodeHeader(&h)
	if err != nil {
		return events.Record{}, err
	}
	return events.DecodeEntry(events.Entry{Header: header, Payload: payload})
}

// store keeps what the core took in.
func (s *simSite) store(st mesh.Store) {
	l := s.disk.logs[st.Origin]
	if l == nil || uint64(len(l.entries)) < st.Expect {
		s.sim.fail("%s stores %s at %d, which is not there", s, st.Origin, st.Expect)
		return
	}
	if s.full {
		s.later(time.Millisecond, func() { s.input(mesh.Stored{Origin: st.Origin, Err: errors.New("disk full")}) })
		return
	}
	l.entries = append(l.entries[:st.Expect:st.Expect], st.Entries...)
	size := len(l.entries)
	head, err := s.sim.keys.open(st.Heads[len(st.Heads)-1], l.key.Key)
	if err != nil || head.Size != uint64(size) {
		s.sim.fail("%s stores %s up to %d under a head at %d (%v)", s, st.Origin, size, head.Size, err)
		return
	}
	for _, note := range st.Heads {
		h, _ := s.sim.keys.open(note, l.key.Key)
		l.heads = append(l.heads, simHead{int(h.Size), note})
	}
	done := func() {
		l.durable = max(l.durable, size)
		s.input(mesh.Stored{Origin: st.Origin})
	}
	if !s.sim.rule("ack when durable") {
		s.later(0, func() { s.input(mesh.Stored{Origin: st.Origin}) })
		done = func() { l.durable = max(l.durable, size) }
	}
	s.later(s.syncTime(), done)
}

// errNothing is why a site gives nothing of a log.
var errNothing = errors.New("nothing of it is given")

func (s *simSite) read(r mesh.Read) {
	if !r.Own && (s.mute || !s.sim.rule("any site forwards")) {
		s.later(0, func() { s.input(mesh.ReadDone{Link: r.Link, Origin: r.Origin, From: r.From, Err: errNothing}) })
		return
	}
	l := s.disk.logs[r.Origin]
	if l == nil || uint64(l.durable) < r.To {
		s.sim.fail("%s reads %s up to %d, which is not durable", s, r.Origin, r.To)
		return
	}
	done := l.read(r)
	if s.tamper && !r.Own {
		done = tampered(s.sim.rng, l, done)
	}
	s.later(time.Duration(s.sim.rng.IntN(500))*time.Microsecond, func() { s.input(done) })
}

func (s *simSite) prove(p mesh.MakeProof) {
	l := s.disk.logs[p.Origin]
	size, head := l.verified()
	if s.disk.writing[p.Origin.Kind] == p.Origin {
		size = l.durable
		tree := l.tree(size)
		head = simNote(l.key.Key, p.Origin, uint64(size), tree.Root())
	}
	if size == 0 {
		s.later(0, func() { s.input(mesh.ProveDone{Link: p.Link, Origin: p.Origin, Mine: p.Mine, Err: errNothing}) })
		return
	}
	b, err := l.branch(size, head, p.Sizes)
	s.later(time.Millisecond, func() {
		s.input(mesh.ProveDone{Link: p.Link, Origin: p.Origin, Mine: p.Mine, Branch: b, Err: err})
	})
}

// forked masks the rest of a log, and opens a new epoch when it is this site's
// own.
func (s *simSite) forked(f mesh.Fork) {
	if !s.sim.rule("R14") {
		return
	}
	s.sim.forks[f.Origin] = true
	s.sim.note("%s finds a fork of %s after %d", s, f.Origin, f.Size)
	s.disk.forks[f.Origin] = f
	if f.Origin == s.disk.writing[f.Origin.Kind] {
		s.abandon(f.Origin.Kind)
	}
	if f.Origin.Kind == events.Ctl {
		s.rebuild()
	}
}

// rebuild folds everything that is durable, from nothing.
func (s *simSite) rebuild() {
	s.state = s.sim.fold(s.disk, true)
	s.coder = events.ClockCoder{}
	o := s.disk.writing[events.Ctl]
	for i, e := range s.disk.logs[o].entries {
		h, err := events.DecodeHeader(e.Header)
		if err == nil {
			_, err = s.coder.Apply(h.Clock)
		}
		if err != nil {
			s.sim.fail("%s: own log at %d: %v", s, i+1, err)
		}
		s.ticker.Resume(h.HLC)
	}
	for _, o := range s.disk.origins() {
		if at := s.state.At(o); at > 0 { // the newest of a log is its last
			h, err := events.DecodeHeader(s.disk.logs[o].entries[at-1].Header)
			if err != nil {
				s.sim.fail("%s: %s at %d: %v", s, o, at, err)
				return
			}
			s.meet(&h)
		}
	}
}

// apply folds one entry of a log; false when it has to wait.
func (s *simSite) apply(e events.Entry) bool {
	r, err := events.DecodeEntry(e)
	if err == nil {
		err = s.state.Apply(r)
	}
	if errors.Is(err, aggregate.ErrEarly) && s.sim.rule("causes first") {
		return false
	}
	if err != nil {
		s.sim.fail("%s applies %s %d: %v", s, r.Header.Origin(), r.Header.Position, err)
		return false
	}
	s.meet(&r.Header)
	return true
}

// meet has what is written from now on sort after a record that is known.
func (s *simSite) meet(h *events.Header) {
	if h.Origin() == s.disk.writing[events.Ctl] || !s.sim.rule("clocks are met") {
		return
	}
	if s.ticker.Observe(h.HLC) != nil {
		s.sim.wild[h.Origin()] = true
	}
}

// deliver applies what other logs hold, as far as causes are there.
func (s *simSite) deliver() {
	for progress := true; progress; {
		progress = false
		for _, o := range s.disk.origins() {
			if o.Kind != events.Ctl || o == s.disk.writing[events.Ctl] {
				continue
			}
			l := s.disk.logs[o]
			size, _ := l.verified()
			for at := int(s.state.At(o)); at < size && s.apply(l.entries[at]); at++ {
				progress = true
			}
		}
	}
}
