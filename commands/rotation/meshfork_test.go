package rotation_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// setBack puts a backup in the place of a disk, of which nothing tells that it is one:
// no peer is in reach. So the site writes its log a second time, until it meets who
// holds the first one (rule R14).
func (p *sites) setBack(x *node) {
	o := x.site.Origin()
	n := len(x.backup[o])
	if n == 0 {
		return
	}
	p.setsBack++
	p.forget(x)
	p.at = p.at.Add(15 * time.Minute)
	for _, y := range p.nodes {
		p.cut[[2]int{x.index, y.index}], p.cut[[2]int{y.index, x.index}] = true, true
	}
	x.held = map[events.Origin][]events.Record{}
	for other, records := range x.backup {
		if other != o && len(records) > 0 {
			x.held[other] = records
		}
	}
	x.site = x.site.Back(n)
	for _, records := range x.held {
		x.site.Observe(records[len(records)-1])
	}
	x.start()
	p.endLost(x)
}

// goOn has a site go on in a new log, beside which its old one stands (rule R15).
func (p *sites) goOn(x *node) {
	old := x.site
	x.site = aggregatetest.NewSite(x.index)
	x.site.Epoch = old.Origin().Epoch + 1 + p.rng.Uint32N(1000)
	for o, records := range x.held {
		if len(records) == 0 {
			delete(x.held, o)
			continue
		}
		x.site.Observe(records[len(records)-1])
	}
	x.start()
	p.by(x, events.SiteActor(x.site.ID), commands.RecordDoubt{Why: "a test"})
	p.endLost(x)
}

// endLost ends the sessions that were open when the site was lost.
func (p *sites) endLost(x *node) {
	for _, n := range x.state.LiveSessions() {
		if n.Started.Origin.Site == x.site.ID {
			p.by(x, events.SiteActor(x.site.ID), commands.EndSession{Session: n.ID, Reason: events.EndedByCrash})
		}
	}
}

// forget takes note of the secrets whose last copy is on a disk that is about to go.
func (p *sites) forget(x *node) {
	for o, records := range x.logs() {
		for _, r := range records[common(records, x.backup[o]):] {
			if _, staged := eventOf(r).(events.SecretStaged); !staged {
				continue
			}
			id := events.SecretID{UUID: r.Header.ID}
			v, ok := commands.Sealed(x.state, events.CredentialID{UUID: r.Header.Stream}, id)
			if !ok {
				continue
			}
			secret := x.opened(v)
			p.disks[secret]++
			last := !slices.ContainsFunc(p.nodes, func(y *node) bool {
				there := y.logs()[o]
				at := int(r.Header.Position)
				return y != x && len(there) >= at && there[at-1].Header.ID == r.Header.ID
			})
			p.lost[secret] = p.lost[secret] || last && (p.risked[secret] || p.disks[secret] > 1)
		}
	}
}

// common is how many records two copies of a log begin with together.
func common(a, b []events.Record) int {
	n := min(len(a), len(b))
	for n > 0 && a[n-1].Header.ID != b[n-1].Header.ID {
		n--
	}
	return n
}

// differs has a site look at a log of which another one holds something else than it
// does, and reports whether it is not to be carried.
func (p *sites) differs(to *node, o events.Origin, theirs []events.Record) bool {
	ours := to.logs()[o]
	same := common(ours, theirs)
	if o == to.site.Origin() {
		if same == len(theirs) {
			return true
		}
		to.held[o] = to.site.Records // they hold more of it, or another branch
		p.goOn(to)
	}
	if same == min(len(ours), len(theirs)) {
		return false
	}
	if size, forked := to.state.ForkOf(o); !forked || size > uint64(same) {
		p.forks++
		p.by(to, events.SiteActor(to.site.ID), commands.RecordFork{Log: o, Size: uint64(same), Proof: []byte("proof")})
	}
	return true
}

// settle has a site do what it does when it hears of a fork: nothing counts of the log
// from there on, and versions that a target may hold are brought back.
func (p *sites) settle(x *node) {
	for tries := 0; ; tries++ {
		if _, forked := x.state.ForkOf(x.site.Origin()); forked {
			x.held[x.site.Origin()] = x.site.Records
			p.goOn(x)
		}
		if !x.state.Holds().Equal(x.state.HeldWith()) {
			x.start()
			continue
		}
		var all []events.SecretID
		for _, r := range x.state.Recoverable() {
			all = append(all, r.Version)
		}
		if len(all) == 0 {
			return
		}
		if tries == 20 {
			panic(fmt.Sprintf("secrets are recovered again and again: %+v", x.state.Recoverable()))
		}
		p.recovered++
		p.by(x, events.SiteActor(x.site.ID), commands.RecoverSecrets{Versions: all}) // once more where it is lost over it
	}
}
