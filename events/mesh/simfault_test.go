package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// fault is one thing that goes wrong, at a time and, where it can last, for a
// time.
type fault struct {
	kind string
	at   time.Duration
	long time.Duration
	a, b int // processes
}

func (f fault) String() string {
	return fmt.Sprintf("%s at %s for %s, processes %d %d", f.kind, f.at.Round(time.Millisecond), f.long.Round(time.Millisecond), f.a, f.b)
}

// kinds are the faults, with how often each is drawn.
var kinds = []struct {
	name   string
	weight int
	begin  func(s *sim, f fault)
	end    func(s *sim, f fault)
}{
	{"partition", 6, func(s *sim, f fault) { s.net.isolate(groupOf(s, f), 1) }, func(s *sim, f fault) { s.net.isolate(groupOf(s, f), -1) }},
	{"one-way cut", 4, func(s *sim, f fault) { s.net.cut[[2]int{f.a, f.b}]++ }, func(s *sim, f fault) { s.net.cut[[2]int{f.a, f.b}]-- }},
	{"cut", 4, cutBoth(1), cutBoth(-1)},
	{"flapping", 3, flap, nil},
	{"lossy", 2, func(s *sim, _ fault) { s.net.lossy++ }, func(s *sim, _ fault) { s.net.lossy-- }},
	{"crash", 6, crash, restart},
	{"backup", 3, func(s *sim, f fault) { s.sites[f.a].backup = s.sites[f.a].disk.copy() }, nil},
	{"restore", 3, restore, restart},
	{"disk loss", 1, loseDisk, restart},
	{"clone", 1, clone, nil},
	{"equivocation", 1, equivocate, nil},
	{"rollback", 1, rollBack, restart},
	{"skew", 2, func(s *sim, f fault) { s.sites[f.a].skew += f.long - 2*time.Second }, nil},
	{"jump", 1, func(s *sim, f fault) { s.sites[f.a].skew += 20 * time.Hour }, func(s *sim, f fault) { s.sites[f.a].skew -= 20 * time.Hour }},
	{"mute", 2, func(s *sim, f fault) { s.sites[f.a].mute = true }, func(s *sim, f fault) { s.sites[f.a].mute = false }},
	{"tampering", 2, func(s *sim, f fault) { s.sites[f.a].tamper = true }, func(s *sim, f fault) { s.sites[f.a].tamper = false }},
	{"impostor", 1, impostor, nil},
	{"blackout", 0, func(s *sim, _ fault) { // each site for itself
		for a := range s.sites {
			for b := range s.sites {
				s.net.cut[[2]int{a, b}]++
			}
		}
	}, nil},
	{"full disk", 1, func(s *sim, f fault) { s.sites[f.a].full = true }, func(s *sim, f fault) { s.sites[f.a].full = false }},
}

func drawFaults(rng *rand.Rand, sites int, most time.Duration) []fault {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	var out []fault
	for range rng.IntN(9) {
		n := rng.IntN(total)
		f := fault{at: time.Duration(rng.Int64N(int64(most))), long: time.Duration(rng.Int64N(int64(most / 2))), a: rng.IntN(sites), b: rng.IntN(sites)}
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				f.kind = k.name
				break
			}
		}
		if f.a == f.b {
			f.b = (f.a + 1) % sites
		}
		out = append(out, f)
	}
	return out
}

func (s *sim) inject(f fault) {
	for _, k := range kinds {
		if k.name != f.kind {
			continue
		}
		s.after(f.at, func() {
			if s.healing {
				return
			}
			s.note("fault: %s", f)
			k.begin(s, f)
			if k.end == nil {
				return
			}
			s.after(f.long, func() {
				if !s.healing {
					s.note("over: %s", f)
					k.end(s, f)
				}
			})
		})
	}
}

// groupOf is one side of a partition: about half of the processes.
func groupOf(s *sim, f fault) map[int]bool {
	inside := map[int]bool{}
	for i := range s.first {
		inside[i] = (uint64(f.at)>>i)&1 == 0
	}
	return inside
}

func cutBoth(delta int) func(*sim, fault) {
	return func(s *sim, f fault) {
		s.net.cut[[2]int{f.a, f.b}] += delta
		s.net.cut[[2]int{f.b, f.a}] += delta
	}
}

func flap(s *sim, f fault) {
	for at := time.Duration(0); at < f.long; at += 1200 * time.Millisecond {
		for _, step := range []struct {
			after time.Duration
			delta int
		}{{0, 1}, {700 * time.Millisecond, -1}} {
			s.after(at+step.after, func() {
				if !s.healing {
					cutBoth(step.delta)(s, f)
				}
			})
		}
	}
}

func crash(s *sim, f fault) {
	if site := s.sites[f.a]; site.up {
		site.crash()
	}
}

func restart(s *sim, f fault) {
	if site := s.sites[f.a]; !site.up && !site.gone {
		site.start()
	}
}

// restore puts an old copy in place of the disk: what stood outside it, the
// marker, does not match.
func restore(s *sim, f fault) {
	site := s.sites[f.a]
	if site.backup == nil {
		return
	}
	crash(s, f)
	site.disk = site.backup.copy()
	site.disk.marker = -1
}

// loseDisk leaves a site with its identity (which it got from a person again)
// and nothing else.
func loseDisk(s *sim, f fault) {
	crash(s, f)
	s.sites[f.a].disk = newSimDisk(-1)
}

// rollBack puts an old copy of the whole machine in place, marker and all:
// nothing tells the site that it went back in time.
func rollBack(s *sim, f fault) {
	site := s.sites[f.a]
	if site.backup == nil {
		return
	}
	crash(s, f)
	s.rolledBack = true
	site.disk = site.backup.copy()
	site.disk.marker = site.machine
}

// clone starts a second process from a copy of the disk, on another machine.
func clone(s *sim, f fault) { s.double(f, -1) }

// equivocate starts a second process that can't know that it is one: the site
// writes two things at one position.
func equivocate(s *sim, f fault) {
	if s.double(f, s.sites[f.a].machine) {
		s.rolledBack = true
	}
}

func (s *sim) double(f fault, marker int) bool {
	original := s.sites[f.a]
	if len(s.sites) > s.first+1 || original.disk.writing[events.Ctl].Epoch == 0 {
		return false // a few processes are enough
	}
	twin := &simSite{
		sim: s, index: len(s.sites), id: original.id, identity: original.identity, machine: original.machine, disk: original.disk.copy(),
	}
	if marker < 0 {
		twin.machine = 100 + twin.index
	}
	for o, l := range twin.disk.logs { // a running site's disk, as power loss would leave it
		if twin.disk.writing[o.Kind] != o {
			size, _ := l.verified()
			l.durable, l.entries = size, l.entries[:size]
		}
	}
	s.sites = append(s.sites, twin)
	for other := range s.first {
		if other != f.a {
			s.net.connect(other, twin.index)
		}
	}
	twin.start()
	s.workAt(twin)
	return true
}

// impostor makes up a log of another site and offers it to everybody.
func impostor(s *sim, f fault) {
	site, victim := s.sites[f.a], s.sites[f.b]
	if !site.up || s.impostor != nil {
		return
	}
	s.impostor = site
	o := events.Origin{Site: victim.id, Epoch: 1 << 20, Kind: events.Rec}
	r, err := site.record(o, 1, victim.id.UUID, events.SiteActor(victim.id), events.SiteStopped{Reason: "said the impostor"})
	if err != nil {
		s.fail("impostor: %v", err)
		return
	}
	l := &simLog{key: simKey(site.identity, o, 1), entries: []events.Entry{r.Raw}, durable: 1}
	tree := l.tree(1)
	l.heads = []simHead{{1, simNote(l.key.Key, o, 1, tree.Root())}}
	site.disk.logs[o] = l
	site.open(o)
}

// healCore mends some sites that are connected with each other, and what is between
// them. Everything else goes wrong for good: sites are down, withhold and change
// what others wrote, store nothing, and the ways to them are cut, flap and lose.
func (s *sim) healCore() {
	core := []*simSite{s.sites[s.rng.IntN(s.first)]}
	for size := 2 + s.rng.IntN(s.first-2); len(core) < size; {
		next := s.sites[s.rng.IntN(s.first)]
		if !slices.Contains(core, next) && slices.ContainsFunc(core, func(c *simSite) bool { return s.net.conns[pairOf(c.index, next.index)] != nil }) {
			core = append(core, next)
		}
	}
	slices.SortFunc(core, func(a, b *simSite) int { return a.index - b.index })
	s.heal(core)
	s.net.lossy++
	for _, site := range s.sites {
		if s.inCore(site.index) {
			s.after(time.Duration(s.rng.IntN(2000))*time.Millisecond, func() {
				if site.up {
					s.decide(site) // it is to reach the others
				}
			})
			continue
		}
		site.mute, site.tamper, site.full = s.rng.IntN(2) == 0, s.rng.IntN(2) == 0, s.rng.IntN(3) == 0
		if s.rng.IntN(3) == 0 {
			site.gone = true
			crash(s, fault{a: site.index})
		}
		for other := range s.sites {
			switch way := [2]int{site.index, other}; s.rng.IntN(4) {
			case 0:
				s.net.cut[way]++
			case 1:
				s.every(time.Duration(500+s.rng.IntN(2000))*time.Millisecond, func() { s.net.cut[way] = 1 - min(1, s.net.cut[way]) })
			}
		}
	}
}
