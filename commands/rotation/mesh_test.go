package rotation_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/events"
)

// sites are a few sites that decide by themselves and share a target: the real
// states, commands and process managers, over logs that the test carries. The
// ways between them are cut one by one; a log comes in pieces, and from whoever
// holds it. Sites are lost at any write, and come back from old backups.
type sites struct {
	rng    *rand.Rand
	at     time.Time // true time
	nodes  []*node
	target *model
	acting *node
	cut    map[[2]int]bool
	linked map[[2]int]time.Time // when one site was last linked to another, by true time
	lost   map[string]bool      // secrets whose last copy went with a disk, for which two disks had to be lost or one was risked
	risked map[string]bool      // secrets that one site alone held when they were sent, and whether that was to be
	disks  map[string]int       // lost ones that had held a secret
	policy events.Isolation

	refused map[events.SecretID]bool // versions that must not be sent while one site alone holds them
	taken   int                      // takeovers
	given   int                      // hand-backs

	opened, restored, spent    int // what was tried at all
	setsBack, forks, recovered int
}

// node is a site. Its run holds the log that it writes, held all others.
type node struct {
	*run
	index  int
	held   map[events.Origin][]events.Record
	backup map[events.Origin][]events.Record

	silence func(events.SiteID) time.Duration
}

func newSites(safe *safe, seed uint64, mutant mutation) *sites {
	first := newRun(safe, seed, mutant)
	p := &sites{rng: first.rng, at: first.now(), target: first.target, cut: map[[2]int]bool{}, linked: map[[2]int]time.Time{}, lost: map[string]bool{}, risked: map[string]bool{}, disks: map[string]int{}, refused: map[events.SecretID]bool{}}
	n := 2 + p.rng.IntN(3)
	ada := events.UserActor(first.user)
	crashes := first.crashes
	first.crashes, first.target.faults = 0, p.rng.IntN(30)
	first.target.threshold = 1 + n + p.rng.IntN(n+1) // one login for each site, and some more
	p.policy = []events.Isolation{events.IsolatedNever, events.IsolatedAsked, events.IsolatedAlways}[p.rng.IntN(3)]
	first.must(ada, commands.SetRotationPolicy{Target: "db", Policy: events.RotationPolicy{Isolated: p.policy,
		LockoutThreshold: uint32(first.target.threshold), LockoutWindow: 600, Cumulative: first.target.cumulates,
	}})
	first.must(ada, commands.AddUser{Name: "boss", Role: events.Admin, Key: key("boss")})
	first.must(ada, commands.AddUser{Name: "olaf", Role: events.Operator, Key: key("olaf")})
	for i := range n {
		r := first
		if i > 0 {
			r = &run{seed: seed, rng: p.rng, safe: safe, site: aggregatetest.NewSite(i), mutant: mutant, texts: first.texts, user: first.user,
				target: first.target, made: i * 1_000_000}
			r.log = &writer{r: r}
		}
		skew := time.Duration(p.rng.IntN(4000)-2000) * time.Millisecond * time.Duration(min(i, 1))
		r.clock = func() time.Time { return p.at.Add(skew) }
		x := &node{run: r, index: i, held: map[events.Origin][]events.Record{}}
		x.silence = p.silenceAt(i)
		r.restart, r.copies = x.start, peers{p, x}
		p.nodes = append(p.nodes, x)
		x.start()
	}
	p.target.now = func() time.Time { return p.at }
	p.target.crash = func(where string) { p.acting.mayCrash(where) }
	for _, x := range p.nodes {
		p.nodes[0].fact(x.site.ID.UUID, events.SiteAdmitted{
			Name: fmt.Sprintf("site%d", x.index), Identity: make([]byte, 32), SealingKey: []byte("key"), Role: events.Steward, Custodian: true, Founder: x.index == 0,
		})
	}
	p.hearAll()
	for _, x := range p.nodes[1:] {
		x.must(events.SiteActor(x.site.ID), commands.CreateSite{Name: fmt.Sprintf("site%d", x.index), HostKey: key(fmt.Sprint("host ", x.index))})
	}
	p.hearAll()
	for _, x := range p.nodes {
		x.crashes = crashes
	}
	return p
}

// logs are all that a site holds.
func (x *node) logs() map[events.Origin][]events.Record {
	all := maps.Clone(x.held)
	all[x.site.Origin()] = x.site.Records
	return all
}

// start makes the site anew from what its disk holds.
func (x *node) start() {
	x.state = folded(x.logs())
	x.site.Knows = x.state.Clock
	x.d = commands.NewDispatcher(commands.DispatcherConfig{
		Writer: x.log, Log: x.site.Origin(), State: x.state, Now: x.now, Silence: x.silence,
		NewID: func() (uuid.UUID, error) { x.made++; return aggregatetest.ID("made", x.made), nil },
		Order: func(o events.Origin, to uint64) error {
			x.site.Observe(x.held[o][to-1])
			return nil
		},
	})
	x.managed()
}

// silenceAt tells for how long a site has not been linked to another one.
func (p *sites) silenceAt(index int) func(events.SiteID) time.Duration {
	return func(site events.SiteID) time.Duration {
		other := slices.IndexFunc(p.nodes, func(x *node) bool { return x.site.ID == site })
		if at, linked := p.linked[[2]int{index, other}]; linked {
			return p.at.Sub(at)
		}
		return math.MaxInt64
	}
}

// folded is the state of some logs, from nothing, with those held that it calls for.
func folded(logs map[events.Origin][]events.Record) *aggregate.State {
	state, err := aggregatetest.Logs(logs).Fold()
	if err != nil {
		panic(err)
	}
	return state
}

// hear carries what one site lacks of what another one holds, or a part of it, and
// has it take effect.
func (p *sites) hear(to, from *node, all bool) (news bool) {
	p.linked[[2]int{to.index, from.index}] = p.at
	logs := from.logs()
	for _, o := range aggregatetest.Logs(logs).Origins() {
		if p.differs(to, o, logs[o]) {
			continue
		}
		have, more := len(to.held[o]), len(logs[o])
		if more <= have {
			continue
		}
		if !all && p.rng.IntN(3) == 0 { // logs come one after another
			more = have + p.rng.IntN(more-have+1)
		}
		to.held[o] = logs[o][:more:more]
		news = true
	}
	if err := aggregatetest.Logs(to.held).Deliver(to.state.At, to.d.Deliver); err != nil {
		panic(err)
	}
	for _, f := range from.state.Forks() { // links tell them: the log that says so may not be one that others hold
		if size, known := to.state.ForkOf(f.Log); !known || size > f.Size {
			p.by(to, events.SiteActor(to.site.ID), commands.RecordFork{Log: f.Log, Size: f.Size, Proof: f.Proof})
			news = true
		}
	}
	p.settle(to)
	return news
}

// hearAll has everybody hear everybody.
func (p *sites) hearAll() {
	for news := true; news; {
		news = false
		for _, to := range p.nodes {
			for _, from := range p.nodes {
				news = to != from && p.hear(to, from, true) || news
			}
		}
		for _, x := range p.nodes {
			news = p.yield(x) || news
		}
	}
}

// yield says that a site has lost duties, as it does when it hears of that.
func (p *sites) yield(x *node) bool {
	if len(x.state.Lost(x.site.ID)) == 0 {
		return false
	}
	p.by(x, events.SiteActor(x.site.ID), commands.YieldDuties{})
	return true
}

// by has a command carried out, or refused; the site may be lost over it.
func (p *sites) by(x *node, by events.Actor, c commands.Command) {
	p.acting = x
	x.survive(func() {
		if _, err := x.d.Do(context.Background(), by, c); err != nil && !errors.As(err, new(*commands.Refusal)) {
			panic(fmt.Sprintf("%T: %v", c, err))
		}
	})
}

func (p *sites) user(x *node, name string) events.UserID {
	u, err := x.state.UserByName(name)
	if err != nil {
		panic(err)
	}
	return u.ID
}

// act is something that happens at a site, and what its peers hear of it.
func (p *sites) act() {
	x := p.nodes[p.rng.IntN(len(p.nodes))]
	p.acting = x
	p.at = p.at.Add(time.Duration(p.rng.IntN(50)) * time.Millisecond)
	ada := events.UserActor(x.user)
	switch n := p.rng.IntN(42); {
	case n < 14:
		p.step(x)
	case n < 18:
		p.by(x, ada, commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
	case n < 21:
		x.survive(func() { _ = x.session() })
	case n < 22:
		p.at = p.at.Add(time.Duration(p.rng.IntN(1200)) * time.Second)
	case n < 23:
		p.due()
	case n < 29:
		a, b := p.rng.IntN(len(p.nodes)), p.rng.IntN(len(p.nodes))
		p.cut[[2]int{a, b}] = p.rng.IntN(3) > 0
	case n < 36:
		p.request(x)
	case n < 37 && p.target.faults > 10:
		p.at = p.at.Add(61 * time.Second) // as in act of one site
		p.target.restore("app")
	case n < 39:
		x.backup = x.logs()
	case n < 40 && p.rng.IntN(2) == 0:
		p.restore(x)
	case n < 40:
		p.setBack(x)
	case n < 41 && p.taken < 3 && p.rng.IntN(2) == 0:
		p.takeOver(x)
	case n >= 41:
		p.handBack(x)
	}
	for _, to := range p.nodes {
		for _, from := range p.nodes {
			if to != from && !p.cut[[2]int{from.index, to.index}] {
				p.hear(to, from, false)
			}
		}
		p.yield(to)
	}
}

// step takes the next step of a rotation that a site carries out; where all
// wait, time passes.
func (p *sites) step(x *node) bool {
	p.acting = x
	for _, o := range x.state.Rotations() {
		if o.Planned.Origin.Site != x.site.ID {
			continue
		}
		if s := rotation.Plan(x.state, o, x.site.ID, x.now()); s.Kind == rotation.Wait {
			p.at = p.at.Add(max(0, s.Until.Sub(x.now())))
			return true
		}
		x.survive(func() {
			if err := x.m.Step(context.Background(), o.ID); err != nil {
				panic(fmt.Sprintf("step: %v", err))
			}
		})
		return true
	}
	return false
}

// due plans what is due at whoever owns it.
func (p *sites) due() (planned bool) {
	for _, x := range p.nodes {
		if x.state.Owner(x.account("app")) == x.site.ID {
			p.acting = x
			x.survive(func() { planned = x.due() || planned })
		}
	}
	return planned
}

// request asks, approves or enters.
func (p *sites) request(x *node) {
	open := x.state.Requests()
	switch n := p.rng.IntN(6); {
	case n < 1 || len(open) == 0:
		p.by(x, events.UserActor(p.user(x, "olaf")), commands.MakeRequest{Account: "app", Target: "db", Reason: "fire", For: time.Hour, Uses: 1})
	case n < 3:
		p.by(x, events.UserActor(p.user(x, "boss")), commands.ApproveRequest{Request: open[p.rng.IntN(len(open))].ID})
	default:
		p.enter(x)
	}
}

// enter is a session of somebody who has no grant.
func (p *sites) enter(x *node) {
	olaf := p.user(x, "olaf")
	public, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(key("olaf")))
	x.survive(func() {
		s, err := x.d.StartSession(context.Background(), events.UserActor(olaf), commands.StartSession{
			User: olaf, Fingerprint: ssh.FingerprintSHA256(public), Account: "app", Target: "db", Source: "192.0.2.9:1", Client: "SSH-2.0-x",
		})
		if err != nil {
			return
		}
		p.opened++
		x.must(events.SiteActor(x.site.ID), commands.EndSession{Session: s.Session, Reason: events.EndedByClient})
	})
}

// restore puts a backup in the place of a disk, a while later. What nobody else
// holds of what came after it is lost. The site goes on in a new log (rule R15).
func (p *sites) restore(x *node) {
	if x.backup == nil {
		return
	}
	p.restored++
	p.forget(x)
	p.at = p.at.Add(15 * time.Minute)
	x.held = maps.Clone(x.backup)
	p.goOn(x)
}

// takeOver has a site carry out what another one began (rule R13).
func (p *sites) takeOver(x *node) {
	from := p.nodes[p.rng.IntN(len(p.nodes))]
	if from == x {
		return
	}
	p.taken++
	x.fact(from.site.ID.UUID, events.DutiesTaken{Term: x.state.NextTerm(from.site.ID), From: from.site.ID, Reason: "burnt"})
}

// handBack gives a site its work back, once nothing of it is under way.
func (p *sites) handBack(x *node) {
	held := x.state.HeldBy(x.site.ID)
	if len(held) == 0 || len(x.state.UnderWayAt(x.site.ID)) > 0 {
		return
	}
	to := slices.IndexFunc(p.nodes, func(y *node) bool { return y.site.ID == held[0].Site })
	p.given++
	x.fact(held[0].Site.UUID, events.DutiesGiven{
		Term: x.state.NextTerm(held[0].Site), To: held[0].Site, Epoch: p.nodes[to].site.Origin().Epoch, Reason: "back",
	})
}

// fact writes an event as a command would, whose world is not here.
func (x *node) fact(stream uuid.UUID, e events.Event) {
	d, err := events.NewDraft(stream, events.UserActor(x.user), "Test", e)
	if err != nil {
		panic(err)
	}
	x.survive(func() {
		if _, err := x.d.Append(context.Background(), d); err != nil {
			panic(err)
		}
	})
}

// wrong tells what must never be.
func (p *sites) wrong() error {
	for _, name := range []string{"app", "root"} {
		known := p.lost[p.target.account(name).secret] || slices.ContainsFunc(p.nodes, func(x *node) bool { return x.known(name) })
		if !known {
			return fmt.Errorf("I4: %s: the target takes a secret that nobody has", name)
		}
	}
	if len(p.target.broken) > 0 {
		return fmt.Errorf("I10: %s", p.target.broken[0])
	}
	return nil
}

// quiesce heals everything and lets it come to rest (I11).
func (p *sites) quiesce() error {
	clear(p.cut)
	p.target.faults = 0
	for _, x := range p.nodes {
		x.crashes = 0
	}
	p.at = p.at.Add(time.Hour)
	for range 3000 {
		p.hearAll()
		moved := p.due()
		for _, x := range p.nodes {
			moved = p.step(x) || moved
		}
		if moved {
			continue
		}
		x := p.nodes[p.rng.IntN(len(p.nodes))]
		p.acting = x
		switch c := x.credential("app"); {
		case c.Alarmed() && p.lost[p.target.account("app").secret]:
			return nil // nobody can know it, and that is said
		case c.Alarmed():
			p.by(x, events.UserActor(x.user), commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked, SettleOnly: true})
		case c.Unsettled():
			p.at = p.at.Add(time.Minute) // until it is due
		default:
			if err := x.session(); err != nil {
				p.at = p.at.Add(11 * time.Minute)
				continue
			}
			p.hearAll()
			return p.settled()
		}
	}
	return errors.New("I11: it did not come to rest")
}

// settled holds the end against what is true.
func (p *sites) settled() error {
	for _, x := range p.nodes {
		c := x.credential("app")
		v, ok := c.Current()
		if !ok || c.Contested() {
			return errors.New("I11: contested, or no current version, at the end")
		}
		sealed, _ := commands.Sealed(x.state, c.ID, v.ID)
		if x.opened(sealed) != p.target.account("app").secret {
			return errors.New("R3: what is held to be true is not what the target takes")
		}
	}
	return nil
}

// same is I2 for all sites, and I5.
func (p *sites) same() error {
	redeemed := map[uuid.UUID]map[uuid.UUID]bool{}
	for _, x := range p.nodes {
		if x.state.Digest() != p.nodes[0].state.Digest() {
			return fmt.Errorf("I2: site %d has another state than site 0", x.index)
		}
		if folded(x.logs()).Digest() != x.state.Digest() {
			return fmt.Errorf("I2: site %d has another state than a rebuild of it", x.index)
		}
		for _, records := range x.logs() {
			for _, r := range records {
				if e, ok := eventOf(r).(events.SecretSent); ok && e.Alone && p.refused[e.Version] {
					return fmt.Errorf("R1: version %s was sent, which no other site held", e.Version)
				}
				if _, ok := eventOf(r).(events.ApprovalRedeemed); ok {
					if redeemed[r.Header.Stream] == nil {
						redeemed[r.Header.Stream] = map[uuid.UUID]bool{}
					}
					redeemed[r.Header.Stream][r.Header.ID] = true
				}
			}
		}
	}
	for id, uses := range redeemed {
		if p.spent++; len(uses) > 1+p.taken+p.given+p.setsBack {
			return fmt.Errorf("I5: request %s was approved for one session, and let %d in", id, len(uses))
		}
	}
	return nil
}

func (p *sites) live() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	for range 40 + p.rng.IntN(120) {
		p.act()
		if err := p.wrong(); err != nil {
			return err
		}
	}
	if err := p.quiesce(); err != nil {
		return err
	}
	return errors.Join(p.wrong(), p.same())
}

// story lists what the sites wrote, in the order of their clocks.
func (p *sites) story() string {
	all := map[uuid.UUID]events.Record{}
	for _, x := range p.nodes {
		for _, records := range x.logs() {
			for _, r := range records {
				all[r.Header.ID] = r
			}
		}
	}
	var b strings.Builder
	for _, r := range slices.SortedFunc(maps.Values(all), func(a, b events.Record) int {
		return cmp.Or(cmp.Compare(a.Header.HLC, b.Header.HLC), a.Header.Origin().Compare(b.Header.Origin()))
	}) {
		h := &r.Header
		site := slices.IndexFunc(p.nodes, func(x *node) bool { return x.site.ID == h.Site })
		fmt.Fprintf(&b, "%s site %d epoch %d %d %s %.200s\n", h.Time().Format("15:04:05.000"), site, h.Epoch, h.Position, h.Type, fmt.Sprintf("%+v", eventOf(r)))
	}
	return b.String()
}

// Whatever happens to the sites of a mesh, to the ways between them and to a
// target that they share, no secret that works is lost but with the last disk that
// held it (I4), no approval is spent twice but by a log that was written twice (I5), no account is locked (I10), and
// in the end all hold the same (I2) and the truth (I11). HOLDFAST_SIM_SEED tells the
// story of one seed.
func TestSitesOfAMesh(t *testing.T) {
	safe := newSafe(t)
	if n, err := strconv.ParseUint(os.Getenv("HOLDFAST_SIM_SEED"), 10, 64); err == nil {
		p := newSites(safe, n, none)
		err := p.live()
		t.Logf("seed %d: %v\n%s", n, err, p.story())
		return
	}
	runs := 1500
	n, err := strconv.Atoi(os.Getenv("HOLDFAST_SIM_SEEDS"))
	switch {
	case err == nil:
		runs = n
	case full:
		runs = 50_000
	case testing.Short():
		runs = 100
	}
	opened, restored, lost, taken, given, spent := 0, 0, 0, 0, 0, 0
	setsBack, forks, recovered := 0, 0, 0
	for seed := range uint64(runs) {
		if seed%1000 == 999 {
			safe = newSafe(t)
		}
		p := newSites(safe, seed, none)
		if err := p.live(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		opened, restored, taken, spent = opened+p.opened, restored+p.restored, taken+p.taken, spent+p.spent
		lost, given = lost+len(p.lost), given+p.given
		setsBack, forks, recovered = setsBack+p.setsBack, forks+p.forks, recovered+p.recovered
	}
	t.Logf("%d runs: %d sessions by %d approvals, %d restores and %d old disks that lost %d secrets, %d forks told, secrets recovered %d times, %d takeovers, %d hand-backs",
		runs, opened, spent, restored, setsBack, lost, forks, recovered, taken, given)
	if opened < runs/20 || restored < runs/10 || taken < runs/20 || given < runs/40 || forks < runs/20 || recovered < runs/50 {
		t.Error("the property tried nothing")
	}
}
