package erasure_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/erasure"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// sites are a few custodians: the real states, commands, sealers, key tables and
// erasers, over logs and wraps that the test carries. The ways between them are cut
// one by one; wraps come late and twice. Sites are lost at any write, and come back
// with old key tables, and from old backups.
type sites struct {
	t     *testing.T
	rng   *rand.Rand
	dir   string
	nodes []*node
	cut   map[[2]int]bool
	at    time.Time

	ids       []uuid.UUID
	sealed    map[uuid.UUID][]byte           // by what is erased
	accounts  map[uuid.UUID]events.AccountID // of secrets
	under     []wrapped                      // wraps that may come at any time
	destroyed int
	refused   int // wraps of erased keys
	crashed   int
	redone    int // keys that were destroyed again
}

// wrapped is a wrap on its way to a site.
type wrapped struct {
	to, from int
	id       uuid.UUID
	wrap     seal.Wrap
}

type node struct {
	p      *sites
	index  int
	site   *aggregatetest.Site
	held   map[events.Origin][]events.Record
	state  *aggregate.State
	d      *commands.Dispatcher
	public *seal.PublicKey
	table  *seal.KeyTable
	sealer *seal.Sealer
	eraser *erasure.Eraser
	made   int
	risky  bool // a write may be the last one
	doubts bool // it goes on in a new log

	saved map[events.Origin][]events.Record
	keys  []byte // key table of the backup

	clean map[uuid.UUID]bool // what it has destroyed, with this key table
}

// crash is what a site is lost with.
type crash struct{}

// writer is a site's log, over which it may be lost.
type writer struct{ x *node }

func (w writer) Append(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
	w.x.mayCrash()
	records, err := w.x.site.Append(ctx, drafts...)
	w.x.mayCrash()
	return records, err
}

func (x *node) mayCrash() {
	if x.risky && x.p.rng.IntN(12) == 0 {
		x.p.crashed++
		panic(crash{})
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newSites(t *testing.T, seed uint64) *sites {
	p := &sites{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), cut: map[[2]int]bool{}, at: aggregatetest.Epoch,
		sealed: map[uuid.UUID][]byte{}, accounts: map[uuid.UUID]events.AccountID{},
	}
	if dir, err := os.MkdirTemp("/dev/shm", "erasure"); err == nil { // where a sync costs nothing
		p.dir = dir
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	for i := range 2 + p.rng.IntN(3) {
		x := &node{p: p, index: i, site: aggregatetest.NewSite(i), held: map[events.Origin][]events.Record{}, made: i * 1_000_000, clean: map[uuid.UUID]bool{}}
		private, err := seal.CreateKeyFile(x.path() + ".key")
		must(err)
		x.public, err = private.Public(x.site.ID.UUID)
		must(err)
		must(seal.CreateKeyTable(x.path()))
		p.nodes = append(p.nodes, x)
	}
	for _, x := range p.nodes {
		x.start()
	}
	first := p.nodes[0]
	for _, name := range []string{"ada", "eve", "max"} {
		first.do(first.self(), commands.AddUser{Name: name, Role: events.Admin, Key: key(name)})
	}
	first.do(first.self(), commands.AddUser{Name: "aud", Role: events.Auditor, Key: key("aud")})
	p.healed()
	return p
}

func (x *node) path() string { return filepath.Join(x.p.dir, "table"+strconv.Itoa(x.index)) }

func (x *node) self() events.Actor { return events.SiteActor(x.site.ID) }

func (x *node) logs() map[events.Origin][]events.Record {
	all := maps.Clone(x.held)
	all[x.site.Origin()] = x.site.Records
	return all
}

// start makes the site anew from what its disk holds, as a process does.
func (x *node) start() {
	if x.table != nil {
		must(x.table.Close())
	}
	x.state = folded(x.logs())
	x.site.Knows = x.state.Clock
	x.d = commands.NewDispatcher(commands.DispatcherConfig{
		Writer: writer{x}, Log: x.site.Origin(), State: x.state, Now: func() time.Time { return x.p.at },
		NewID: func() (uuid.UUID, error) { x.made++; return aggregatetest.ID("made", x.made), nil },
		Order: func(o events.Origin, to uint64) error { x.site.Observe(x.held[o][to-1]); return nil },
	})
	var err error
	x.table, err = seal.OpenKeyTable(x.path(), seal.TableOptions{})
	must(err)
	x.sealer, err = seal.NewSealer(seal.Config{Table: x.table, Site: x.public, Custodians: func() (all []*seal.PublicKey) {
		for _, y := range x.p.nodes {
			if y != x {
				all = append(all, y.public)
			}
		}
		return all
	}})
	must(err)
	x.eraser = erasure.New(erasure.Config{Dispatcher: x.d, Sealer: x.sealer, Site: x.site.ID, Log: slog.New(slog.DiscardHandler)})
	if x.p.rng.IntN(4) > 0 {
		x.unseal()
	}
	if x.doubts {
		x.do(x.self(), commands.RecordDoubt{Why: "a test"})
		x.doubts = false
	}
	x.erase()
}

func (x *node) unseal() {
	if x.sealer.Sealed() {
		private, err := seal.OpenKeyFile(x.path() + ".key")
		must(err)
		must(x.sealer.Unseal(context.Background(), private))
	}
}

func folded(logs map[events.Origin][]events.Record) *aggregate.State {
	state, err := aggregatetest.Logs(logs).Fold()
	if err != nil {
		panic(err)
	}
	return state
}

// survive has a site do something over which it may be lost; then it starts again.
func (x *node) survive(f func()) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case crash:
			x.risky = false
			x.start()
		default:
			panic(r)
		}
		x.risky = false
	}()
	x.risky = true
	f()
}

// do has a command carried out, or refused.
func (x *node) do(by events.Actor, c commands.Command) {
	if _, err := x.d.Do(context.Background(), by, c); err != nil && !errors.As(err, new(*commands.Refusal)) {
		panic(fmt.Sprintf("%T: %v", c, err))
	}
}

// erase destroys what is due.
func (x *node) erase() {
	must(x.eraser.Once(context.Background()))
	for id := range x.p.sealed {
		if _, erased := x.state.Erased(id); erased {
			if !x.clean[id] {
				x.p.destroyed++
			}
			x.clean[id] = true
		}
	}
}

// record seals something at a site that can be erased: a session, or the secret of a
// removed account.
func (p *sites) record(x *node) {
	by, id := x.self(), aggregatetest.ID("sealed", len(p.ids))
	p.ids = append(p.ids, id)
	secret := p.rng.IntN(3) == 0
	if secret {
		account := events.AccountID{UUID: aggregatetest.ID("account", len(p.ids))}
		p.accounts[id] = account
		target := aggregatetest.ID("target", len(p.ids))
		x.fact(target, by, events.TargetAdded{Name: fmt.Sprint("t", len(p.ids)), Addr: "h:22"})
		x.fact(account.UUID, by, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: target}, Credential: events.CredentialID{UUID: id}})
		x.fact(id, by, events.CredentialAdded{Account: account, Kind: events.Password})
	} else {
		x.fact(id, by, events.SessionStarted{})
	}
	k, err := x.sealer.NewKey(context.Background(), id)
	must(err)
	defer k.Release()
	p.sealed[id], err = k.Seal(nil, []byte("card 4711"), binding(id))
	must(err)
	if secret {
		x.fact(id, by, events.SecretStaged{Sealed: p.sealed[id]})
		x.fact(p.accounts[id].UUID, by, events.AccountRemoved{})
	} else {
		x.fact(id, by, events.SessionEnded{Reason: events.EndedByClient})
	}
}

func binding(id uuid.UUID) seal.Binding { return seal.Binding{Purpose: "session", ID: id} }

func (x *node) fact(stream uuid.UUID, by events.Actor, e events.Event) {
	d, err := events.NewDraft(stream, by, "Test", e)
	must(err)
	_, err = x.d.Append(context.Background(), d)
	must(err)
}

// hear carries what one site lacks of what another one holds, or a part of it.
func (p *sites) hear(to, from *node, all bool) (news bool) {
	logs := from.logs()
	for _, o := range aggregatetest.Logs(logs).Origins() {
		have, more := len(to.held[o]), len(logs[o])
		if o == to.site.Origin() || more <= have {
			continue
		}
		if !all && p.rng.IntN(3) == 0 {
			more = have + p.rng.IntN(more-have+1)
		}
		to.held[o] = logs[o][:more:more]
		news = true
	}
	if err := aggregatetest.Logs(to.held).Deliver(to.state.At, to.d.Deliver); err != nil {
		panic(err)
	}

	return news
}

// share puts wraps of all that a site can open on their way to another one.
func (p *sites) share(from, to *node) {
	for id := range from.sealer.KeyIDs() {
		w, err := from.sealer.WrapFor(context.Background(), id, to.public)
		switch {
		case errors.Is(err, seal.ErrErased), errors.Is(err, seal.ErrSealed), errors.Is(err, seal.ErrNotRecipient):
		case err != nil:
			panic(err)
		default:
			p.under = append(p.under, wrapped{to.index, from.index, id, w})
		}
	}
}

// arrive has a site take in wraps that are on their way to it; some come once more.
func (p *sites) arrive(to *node, all bool) {
	var later []wrapped
	for _, w := range p.under {
		if w.to != to.index || !all && (p.cut[[2]int{w.from, w.to}] || p.rng.IntN(3) == 0) {
			later = append(later, w)
			continue
		}
		_, err := to.sealer.Accept(context.Background(), w.id, w.wrap)
		switch {
		case errors.Is(err, seal.ErrErased):
			p.refused++
		case errors.Is(err, seal.ErrOtherWrap), err == nil:
		default:
			panic(err)
		}
		if !all && p.rng.IntN(2) == 0 {
			later = append(later, w)
		}
	}
	p.under = later
}
