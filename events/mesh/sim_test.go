package mesh_test

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// sim runs a mesh of sites on one thread: one seed and one list of faults give
// one history.
type sim struct {
	rng   *rand.Rand
	now   time.Duration
	queue timeline
	order uint64
	sites []*simSite
	first int // sites at the beginning; clones come after them
	net   *simNet
	keys  simKeys
	off   string // the rule that is switched off

	healing    bool
	rolledBack bool       // some site may honestly have written two things at one position
	core       []*simSite // healing: who has to agree
	recRate    uint64
	largest    int // of records
	step       int
	ids        map[string][]uuid.UUID
	forks      map[events.Origin]bool
	wild       map[events.Origin]bool // logs written under a clock that was too far ahead for somebody
	genuine    map[events.Origin]bool // logs that their sites began
	impostor   *simSite               // who made up a log of another site
	floor      map[events.Origin]int  // what was durable somewhere when the faults ended
	refused    int
	failure    error
	trace      []string
	verbose    bool
}

// history is what a run goes through: one and the same gives one outcome.
type history struct {
	seed   uint64
	off    string // the rule that is switched off
	core   bool   // what goes wrong goes on for all but some sites
	much   bool   // sites write much more than fits into a window
	faults []fault
}

// drawn is the history of a seed.
func drawn(seed uint64, off string, core bool) history {
	faults := drawFaults(rand.New(rand.NewPCG(seed, 2)), newSim(history{seed: seed, core: core}).first, faultTime)
	return history{seed: seed, off: off, core: core, faults: faults}
}

// outcome is what a run shows.
type outcome struct {
	history
	err    error
	trace  []string
	events int
	now    time.Duration
	forks  int
	sent   int // bytes of records that were sent
	needed int // bytes of records that sites hold of logs that they don't write

	healSent, healNeeded int // from when everything was mended
}

// faultTime is how long faults go on; after it all is mended.
const faultTime = 3 * time.Second

// healTime is how long sites may take until they agree.
const healTime = 30 * time.Second

func newSim(h history) *sim {
	s := &sim{
		rng: rand.New(rand.NewPCG(h.seed, 1)), off: h.off, ids: map[string][]uuid.UUID{}, forks: map[events.Origin]bool{}, genuine: map[events.Origin]bool{},
		wild: map[events.Origin]bool{},
	}
	s.net = newSimNet(s)
	s.keys = simKeys{trusting: h.off == "signed heads", unvouched: h.off == "vouched keys"}
	s.first = 2 + s.rng.IntN(3)
	if h.core {
		s.first++
	}
	s.largest = 800
	if h.much {
		s.largest = 40_000
	}
	for i := range s.first {
		id := events.SiteID{UUID: aggregatetest.ID("site", i)}
		id.UUID[15] = byte(i)
		s.sites = append(s.sites, &simSite{
			sim: s, index: i, id: id, identity: binary.BigEndian.AppendUint64(nil, uint64(i)+7), machine: i, disk: newSimDisk(i),
		})
	}
	if s.rng.IntN(4) == 0 {
		s.sites[s.rng.IntN(s.first)].level = 1 << 31
	}
	if s.rng.IntN(2) == 0 { // the first two are a pair
		s.sites[0].sync, s.sites[1].sync = []events.SiteID{s.sites[1].id}, []events.SiteID{s.sites[0].id}
	}
	if s.rng.IntN(3) == 0 {
		s.recRate = 20_000
	}
	for a := range s.first {
		for b := a + 1; b < s.first; b++ {
			if b == a+1 || s.rng.IntN(3) > 0 { // at least a chain
				s.net.connect(a, b)
			}
		}
	}
	return s
}

// rule reports whether a rule is kept; a mutant has one switched off.
func (s *sim) rule(name string) bool { return s.off != name }

func (s *sim) members() []mesh.Member {
	var all []mesh.Member
	for _, site := range s.sites[:s.first] {
		all = append(all, mesh.Member{Site: site.id, Identity: site.identity})
	}
	return all
}

// run goes through a history and checks it.
func (h history) run(verbose bool) outcome {
	s := newSim(h)
	s.verbose = verbose
	for _, f := range h.faults {
		s.inject(f)
	}
	for _, site := range s.sites {
		site.start()
		s.workAt(site)
	}
	s.every(100*time.Millisecond, s.net.watch)
	s.until(faultTime)
	if h.core {
		s.healCore()
	} else {
		s.heal(s.sites)
	}
	sent, held := s.net.bytes, s.held()
	least := faultTime
	if h.core {
		least += 2 * time.Second // until what is decided meanwhile is there
	}
	for at := least; at < faultTime+healTime && s.failure == nil; at += 250 * time.Millisecond {
		s.until(at)
		if s.agree() == nil {
			break
		}
	}
	if s.failure == nil {
		s.failure = s.check()
	}
	out := outcome{history: h, err: s.failure, trace: s.trace, now: s.now, forks: len(s.forks)}
	out.sent, out.needed = s.net.bytes, s.held()
	out.healSent, out.healNeeded = out.sent-sent, out.needed-held
	for _, site := range s.sites {
		out.events += site.written
	}
	return out
}

// held is the bytes of records that sites hold of logs that they don't write.
func (s *sim) held() (bytes int) {
	for _, site := range s.sites {
		for o, l := range site.disk.logs {
			for _, e := range l.entries[:l.durable] {
				if site.disk.writing[o.Kind] != o {
					bytes += len(e.Header) + len(e.Payload)
				}
			}
		}
	}
	return bytes
}

// heal ends everything that goes wrong at some sites and between them, brings
// them up, and stops the work, so that nothing stands in the way of their
// agreement.
func (s *sim) heal(sites []*simSite) {
	s.note("healing")
	s.healing, s.core = true, sites
	s.floor = map[events.Origin]int{}
	for _, site := range sites {
		for o, l := range site.disk.logs {
			size := l.durable
			if site.disk.writing[o.Kind] != o {
				size, _ = l.verified()
			}
			s.floor[o] = max(s.floor[o], size)
		}
	}
	for way := range s.net.cut {
		if s.inCore(way[0]) && s.inCore(way[1]) {
			delete(s.net.cut, way)
		}
	}
	for _, site := range sites {
		if s.impostor == nil || site.id != s.impostor.id {
			continue
		}
		if site.up {
			site.crash()
		}
		for o := range site.disk.logs {
			if !s.genuine[o] {
				delete(site.disk.logs, o)
			}
		}
	}
	for _, site := range sites {
		site.mute, site.tamper, site.full = false, false, false
		if !site.up && !site.gone {
			site.start()
		}
	}
}

// inCore reports whether a process is one of those that must agree.
func (s *sim) inCore(index int) bool { return slices.Contains(s.core, s.sites[index]) }

func (s *sim) fail(format string, args ...any) {
	if s.failure == nil {
		s.failure = fmt.Errorf("at %s: "+format, append([]any{s.now.Round(time.Microsecond)}, args...)...)
		s.note("FAILED: %v", s.failure)
	}
}

func (s *sim) note(format string, args ...any) {
	if s.verbose {
		s.trace = append(s.trace, fmt.Sprintf("%12s ", s.now)+fmt.Sprintf(format, args...))
	}
}

// work is what sites do all the time, whatever the network does.
func (s *sim) workAt(site *simSite) {
	var next func()
	next = func() {
		if s.healing {
			return
		}
		s.after(time.Duration(20+s.rng.IntN(300))*time.Millisecond, next)
		if !site.up {
			return
		}
		if s.rng.IntN(3) == 0 {
			for range 1 + s.rng.IntN(4) {
				site.append(events.Rec, aggregatetest.ID("session", s.rng.IntN(3)), events.SiteActor(site.id),
					events.SessionRefused{What: "channel x", Detail: string(make([]byte, s.rng.IntN(s.largest)))})
			}
			return
		}
		s.decide(site)
	}
	s.after(time.Duration(s.rng.IntN(200))*time.Millisecond, next)
}

// decide writes one decision about things that the site knows of.
func (s *sim) decide(site *simSite) {
	s.step++
	fresh := aggregatetest.ID("aggregate", s.step)
	name := []string{"a", "b"}[s.rng.IntN(2)]
	pick := func(sort string) uuid.UUID { // a few tries are enough: sites decide on what they know
		for range 3 {
			if ids := s.ids[sort]; len(ids) > 0 {
				if id := ids[s.rng.IntN(len(ids))]; knows(site.state, sort, id) {
					return id
				}
			}
		}
		return uuid.Nil
	}
	by := events.SiteActor(site.id)
	if id := pick("user"); s.rng.IntN(3) == 0 && id != uuid.Nil {
		by = events.UserActor(events.UserID{UUID: id})
	}
	add := func(sort string, e events.Event) {
		s.ids[sort] = append(s.ids[sort], fresh)
		site.append(events.Ctl, fresh, by, e)
	}
	on := func(sort string, e events.Event) {
		if id := pick(sort); id != uuid.Nil {
			site.append(events.Ctl, id, by, e)
		}
	}
	n := s.rng.IntN(12)
	if n >= 8 && (len(s.ids["user"]) == 0 || len(s.ids["account"]) == 0) {
		n = 7
	}
	switch n {
	case 0, 1:
		add("user", events.UserAdded{Name: name, Role: events.Admin})
	case 2:
		on("user", events.UserKeyAdded{Key: "ssh-ed25519 " + name, Fingerprint: name})
	case 3:
		on("user", events.UserKeyRemoved{Fingerprint: name})
	case 4:
		on("user", events.UserDisabled{Reason: "left"})
	case 5:
		add("target", events.TargetAdded{Name: name, Addr: "h:22", HostKeys: []string{"k" + name}})
	case 6:
		on("target", events.TargetHostKeyPinned{HostKeys: []string{"k" + name}})
	case 7:
		add("account", events.AccountAdded{Name: name, Target: events.TargetID{UUID: pick("target")}})
	case 8, 9:
		add("grant", events.GrantAdded{User: events.UserID{UUID: s.few("user")}, Account: events.AccountID{UUID: s.few("account")}})
	case 10, 11:
		on("grant", events.GrantRemoved{User: events.UserID{UUID: s.few("user")}, Account: events.AccountID{UUID: s.few("account")}})
	}
}

func knows(state *aggregate.State, sort string, id uuid.UUID) (ok bool) {
	switch sort {
	case "user":
		_, ok = state.User(events.UserID{UUID: id})
	case "target":
		_, ok = state.Target(events.TargetID{UUID: id})
	case "grant":
		_, ok = state.Grant(events.GrantID{UUID: id})
	}
	return ok
}

// few picks among the first two of a sort, so that grants and removals meet.
func (s *sim) few(sort string) uuid.UUID {
	ids := s.ids[sort]
	if len(ids) == 0 {
		return uuid.Nil
	}
	return ids[s.rng.IntN(min(2, len(ids)))]
}

// fold builds a state from what a disk holds durably, from nothing. With
// holds, logs that are known to be forked count as far as they stand.
func (s *sim) fold(d *simDisk, holds bool) *aggregate.State {
	state := aggregate.New()
	if holds && s.rule("R14") {
		for o, f := range d.forks {
			if o.Kind == events.Ctl {
				state.Hold(o, f.Size)
			}
		}
	}
	for progress := true; progress; {
		progress = false
		for _, o := range d.origins() {
			if o.Kind != events.Ctl {
				continue
			}
			l := d.logs[o]
			size := l.durable
			if d.writing[events.Ctl] != o {
				size, _ = l.verified()
			}
			for at := int(state.At(o)); at < size; at++ {
				r, err := events.DecodeEntry(l.entries[at])
				if err == nil {
					err = state.Apply(r)
				}
				if err != nil {
					break
				}
				progress = true
			}
		}
	}
	return state
}

// timeline is what is going to happen, in order.
type timeline []moment

type moment struct {
	at    time.Duration
	order uint64
	do    func()
}

func (t timeline) Len() int { return len(t) }
func (t timeline) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].order < t[j].order
}
func (t timeline) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timeline) Push(x any)   { *t = append(*t, x.(moment)) }
func (t *timeline) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}

func (s *sim) after(d time.Duration, do func()) {
	s.order++
	heap.Push(&s.queue, moment{s.now + max(d, 0), s.order, do})
}

func (s *sim) every(d time.Duration, do func()) {
	do()
	s.after(d, func() { s.every(d, do) })
}

// until runs what happens up to a time, and the ticks that cores ask for.
func (s *sim) until(end time.Duration) {
	for s.failure == nil {
		at := end
		if len(s.queue) > 0 && s.queue[0].at < at {
			at = s.queue[0].at
		}
		var ticking *simSite
		var do func()
		for _, site := range s.sites {
			if !site.up {
				continue
			}
			if site.tick == 0 {
				site.tick = site.core.NextTick() - site.startOffset()
			}
			if site.tick < at {
				at, ticking = max(site.tick, s.now), site
			}
		}
		if ticking != nil {
			do = func() { ticking.input(mesh.Tick{}) }
		} else if len(s.queue) > 0 && s.queue[0].at < end {
			do = heap.Pop(&s.queue).(moment).do
		} else {
			s.now = end
			return
		}
		s.now = at
		do()
	}
}
