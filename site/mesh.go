package site

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/events/store"
)

// ErrNoMeshPort says that the site takes no links.
var ErrNoMeshPort = errors.New("this site has no mesh port")

// meshPart is what a site has of a mesh. The node is there while the site is a
// member and serves.
type meshPart struct {
	identity ed25519.PrivateKey
	addr     string                 // of the mesh port; empty without one
	listener net.Listener           // at addr; once a node runs it closes it
	joined   atomic.Pointer[joined] // by an invitation; nil for a founder and a lone site

	rested  time.Time               // before which the state is not built anew for what was made twice; of runMesh alone
	lacks   atomic.Pointer[lacking] // nil where the state is what it calls for
	turn    sync.Mutex              // held by who founds, joins or leaves
	door    sync.Mutex              // held by who takes a newcomer in; guards joining
	joining bool                    // the site asks to be taken in itself
	leaving atomic.Bool             // the site has said that it leaves, and its members are to hear that
	mu      sync.Mutex              // guards node
	node    *mesh.Node
	running atomic.Pointer[mesh.Node] // node, for who must not wait

	custodians atomic.Pointer[[]events.SiteID] // the other ones, for who must not look at the state

	kept atomic.Pointer[map[events.SiteID]bool] // whose recordings are kept here
}

// joined is what a site learned when it joined a mesh: enough to be linked with
// its members before it holds their logs. It stands in mesh.json.
type joined struct {
	Mesh    events.SiteID       `json:"mesh"` // the founder
	Members []mesh.WirePeer     `json:"members"`
	Before  []events.ClockEntry `json:"before"` // what the site had decided
}

func (d data) meshKey() string    { return d.keys() + "/mesh.key" }
func (d data) meshJoined() string { return d.dir + "/mesh.json" }

// loadJoined reads what the site learned when it joined; nil if it never did.
func (d data) loadJoined() (*joined, error) {
	b, err := os.ReadFile(d.meshJoined())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var j joined
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; restore it from a backup", d.meshJoined(), err)
	}
	return &j, nil
}

// loadMeshIdentity reads the key that the site's links and log keys answer to,
// and makes it where the site is in no mesh yet.
func (s *Site) loadMeshIdentity() error {
	inMesh := s.mesh.joined.Load() != nil
	s.commands.View(func(state *aggregate.State) { inMesh = inMesh || len(state.MeshSites()) > 0 })
	if _, err := loadKey("mesh identity", s.data.meshKey(), !inMesh); err != nil {
		return err
	}
	var err error
	s.mesh.identity, err = s.readMeshIdentity()
	return err
}

// openMesh opens the mesh port, where the configuration names one.
func (s *Site) openMesh() (err error) {
	if s.cfg.Mesh.Listen == "" {
		return nil
	}
	if s.mesh.listener, err = net.Listen("tcp", s.cfg.Mesh.Listen); err != nil {
		return fmt.Errorf("listen for the mesh: %w", err)
	}
	s.mesh.addr = s.mesh.listener.Addr().String()
	return nil
}

// MeshAddr is the address of the mesh port; empty without one.
func (s *Site) MeshAddr() string { return s.mesh.addr }

func (s *Site) closeMesh() error {
	s.mesh.mu.Lock()
	defer s.mesh.mu.Unlock()
	if s.mesh.node != nil {
		return s.mesh.node.Close() // and the listener
	}
	if s.mesh.listener != nil {
		return s.mesh.listener.Close()
	}
	return nil
}

// reachedAt is where the other sites reach the mesh port; empty without one. It
// names no host where the site listens on all of its addresses: see [anyHost].
func (s *Site) reachedAt() string {
	if s.mesh.addr == "" {
		return ""
	}
	return cmp.Or(s.cfg.Mesh.Advertise, s.MeshAddr())
}

// anyHost reports whether an address stands for all addresses of a machine, so
// that nobody elsewhere reaches it there.
func anyHost(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().IsUnspecified()
}

// siteKeys is what this site is known by in a mesh.
func (s *Site) siteKeys() commands.SiteKeys {
	return commands.SiteKeys{
		Site: s.who.ID, Name: s.who.Name, Identity: s.mesh.identity.Public().(ed25519.PublicKey), Addr: s.reachedAt(),
		SealingKey: s.keys.Status().Public, HostKey: s.HostKey(),
	}
}

// peers are the members as far as this site knows, itself among them.
func (s *Site) peers() (founder events.SiteID, all []mesh.Peer) {
	known := map[events.SiteID]mesh.Peer{}
	if j := s.mesh.joined.Load(); j != nil {
		founder = j.Mesh
		for _, m := range j.Members {
			known[m.Site] = mesh.Peer{Member: mesh.Member{Site: m.Site, Identity: m.Identity}, Addrs: addrs(m.Addr)}
		}
	}
	s.commands.View(func(state *aggregate.State) {
		if founder.IsZero() {
			founder = state.Founder()
		}
		for _, m := range state.MeshSites() {
			alone := state.Left(s.who.ID) && !s.mesh.leaving.Load()
			member := mesh.Member{Site: m.Site, Identity: m.Identity}
			member.Gone = m.Site != s.who.ID && (alone || state.Left(m.Site) || state.Fenced(m.Site))
			member.Ends, member.Closed = state.Ends(m.Site)
			known[m.Site] = mesh.Peer{Member: member, Addrs: addrs(append([]string{m.Addr, m.AdmittedAt}, known[m.Site].Addrs...)...)}
		}
	})
	for _, id := range slices.SortedFunc(maps.Keys(known), func(a, b events.SiteID) int { return bytes.Compare(a.UUID[:], b.UUID[:]) }) {
		all = append(all, known[id])
	}
	return founder, all
}

// addrs are those of some addresses that can be dialled from elsewhere, each once.
func addrs(all ...string) (out []string) {
	for _, a := range all {
		if a != "" && !anyHost(a) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// startMesh brings the node up where the site is a member of a mesh and the node
// is not running yet.
func (s *Site) startMesh() error {
	s.mesh.mu.Lock()
	defer s.mesh.mu.Unlock()
	return s.startNode()
}

// changeMesh is startMesh after the site has joined one: a node that it runs speaks
// for another, which it founded by an invitation that nobody took.
func (s *Site) changeMesh() error {
	s.mesh.mu.Lock()
	defer s.mesh.mu.Unlock()
	if s.mesh.node != nil {
		err := s.mesh.node.Close() // and the listener
		if s.mesh.addr != "" && err == nil {
			s.mesh.listener, err = net.Listen("tcp", s.mesh.addr)
		}
		if err != nil {
			return fmt.Errorf("end the mesh of this site alone: %w; start the site again", err)
		}
		s.mesh.node = nil
	}
	return s.startNode()
}

// startNode is startMesh; under mu.
func (s *Site) startNode() error {
	founder, peers := s.peers()
	if s.mesh.node != nil || founder.IsZero() {
		return nil
	}
	if err := s.coverAside(context.Background()); err != nil {
		return err
	}
	kept := s.keptSites()
	s.mesh.kept.Store(&kept)
	node, err := mesh.Start(mesh.NodeConfig{
		Core:     mesh.Config{Self: s.who.ID, Mesh: founder, RecRate: s.cfg.Mesh.RecRate, Sync: s.pair(), Detect: s.cfg.Mesh.PairDetect, Payloads: s.keeps},
		Identity: s.mesh.identity, Listener: s.mesh.listener, Own: s.Histories(), Copies: copies{s},
		Forks: s.knownForks(), Peers: peers, Log: s.log, Handle: s.onMesh, Lease: s.onLease, Join: s.admit,
	})
	if err != nil {
		return fmt.Errorf("start the mesh: %w", err)
	}
	s.mesh.node = node
	s.mesh.running.Store(node)
	return nil
}

func (s *Site) node() *mesh.Node {
	s.mesh.mu.Lock()
	defer s.mesh.mu.Unlock()
	return s.mesh.node
}

// runMesh keeps the node's members and the custodians of data keys what the
// state says they are, until ctx ends.
func (s *Site) runMesh(ctx context.Context) {
	var last []mesh.Peer
	var pairs, entrusted []events.SiteID
	saying := false
	for ctx.Err() == nil {
		_, moved := s.commands.Applied(events.Origin{})
		if !saying && s.leaves() {
			saying = true
			s.mesh.leaving.Store(true)
			s.background.Go(func() { s.sayFarewell(ctx) })
		}
		var again <-chan time.Time
		if rest := s.applyHolds(ctx); rest > 0 {
			again = time.After(rest)
		}
		s.acceptWaiting(ctx)
		if err := s.startMesh(); err != nil {
			s.log.Error("this site can't take part in the mesh; it works by itself", "error", err)
			return
		}
		if _, peers := s.peers(); s.node() != nil && !slices.EqualFunc(last, peers, samePeer) {
			s.node().SetPeers(peers)
			if err := s.data.keepPeers(peers); err != nil {
				s.log.Error("the next start can't ask the other members", "error", err)
			}
			last, entrusted = peers, nil
		}
		now := s.custodianIDs()
		s.mesh.custodians.Store(&now)
		if s.node() != nil && !slices.Equal(now, entrusted) {
			s.entrust(ctx)
			entrusted = now
		}
		if p := s.pair(); s.node() != nil && !slices.Equal(p, pairs) {
			s.node().SetPairs(p)
			pairs = p
		}
		s.closeSites(ctx)
		s.yieldDuties(ctx)
		s.recoverSecrets(ctx)
		select {
		case <-moved:
		case <-again:
		case <-ctx.Done():
		}
	}
}

func samePeer(a, b mesh.Peer) bool {
	return a.Site == b.Site && slices.Equal(a.Addrs, b.Addrs) && a.Gone == b.Gone && a.Closed == b.Closed && bytes.Equal(a.Identity, b.Identity) && slices.Equal(a.Ends, b.Ends)
}

// copies implements [mesh.Copies] over the logs of other sites.
type copies struct{ *Site }

// Copy implements [mesh.Copies].
func (c copies) Copy(o events.Origin) (store.Log, string, error) {
	log, err := c.Other(o)
	return log, c.data.other(o), err
}

// Copied implements [mesh.Copies].
func (c copies) Copied() []events.Origin {
	var all []events.Origin
	for _, log := range c.OtherLogs() {
		all = append(all, log.Origin())
	}
	return all
}

// knownForks are the proofs that the log of decisions holds.
func (s *Site) knownForks() []mesh.Fork {
	var out []mesh.Fork
	s.commands.View(func(state *aggregate.State) {
		for _, f := range state.Forks() {
			fork, err := mesh.DecodeFork(f.Proof)
			if err != nil || fork.Origin != f.Log || fork.Size != f.Size {
				s.log.Warn("a proof of a fork can't be read", "log", f.Log.String(), "error", err)
				continue
			}
			out = append(out, fork)
		}
	})
	return out
}

// onMesh records what the mesh found.
func (s *Site) onMesh(out mesh.Output) {
	ctx := context.Background()
	var c commands.Command
	switch out := out.(type) {
	case mesh.ForkFound:
		proof, err := mesh.EncodeFork(out.Fork)
		if err != nil {
			s.log.Error("the proof of a fork can't be stored", "log", out.Fork.Origin.String(), "error", err)
			return
		}
		s.log.Error("a log was written twice: its site has two disks, or betrays", "log", out.Fork.Origin.String(), "same until", out.Fork.Size)
		c = commands.RecordFork{Log: out.Fork.Origin, Size: out.Fork.Size, Proof: proof}
		if out.Fork.Origin == s.ctl.Log().Origin() || out.Fork.Origin == s.rec.Log().Origin() {
			s.doubted(fmt.Sprintf("log %s was written twice after %d records", out.Fork.Origin, out.Fork.Size))
			return
		}
	case mesh.GotKept:
		s.seconds.said(out.Site, out.Keys)
		if slices.Contains(s.pair(), out.Site) {
			s.pairKeys.kept(out.Keys)
		}
		return
	case mesh.Degraded:
		s.pairKeys.degrade(true)
		c = commands.RecordSync{Peer: out.Site, From: entries(out.From)}
	case mesh.Restored:
		s.pairKeys.degrade(false)
		c = commands.RecordSync{Peer: out.Site, From: entries(out.From), To: entries(out.To), Restored: true}
	case mesh.Behind:
		s.doubted(fmt.Sprintf("other sites hold %d records of %s, which are not here", out.Size, out.Origin))
		return
	case mesh.Met:
		s.share(ctx, out.Site, 0)
		select {
		case s.met <- struct{}{}:
		default:
		}
		return
	case mesh.GotWraps:
		s.acceptKeys(ctx, out)
		return
	default:
		return
	}
	if _, err := s.commands.Do(ctx, s.actor(), c); err != nil {
		s.log.Error("what the mesh found could not be recorded", "error", err)
	}
}

func entries(holdings []mesh.Holding) []events.ClockEntry {
	var out []events.ClockEntry
	for _, h := range holdings {
		out = append(out, events.ClockEntry{Origin: h.Origin, Position: h.Size})
	}
	return out
}

func holdings(entries []events.ClockEntry) []mesh.Holding {
	var out []mesh.Holding
	for _, e := range entries {
		out = append(out, mesh.Holding{Origin: e.Origin, Size: e.Position})
	}
	return out
}

// MeshSite is how a member of the mesh stands, as this site sees it.
type MeshSite struct {
	ID        events.SiteID     `json:"id"`
	Site      string            `json:"site"`  // its name
	State     string            `json:"state"` // "self", "linked", "unreachable", "degraded", "fenced", "left"
	Role      events.MemberRole `json:"role"`
	Addr      string            `json:"addr"`
	Work      string            `json:"work"`           // name of the site that carries out what it began
	Scheduled string            `json:"scheduled"`      // likewise of its rotations
	Pair      string            `json:"pair,omitempty"` // "in step", "degraded": what becomes of this site waits for it, or goes on without
	Lag       uint64            `json:"lag"`            // records of decisions held here that it is not known to hold
	Behind    uint64            `json:"behind"`         // records of decisions that it holds and this site does not
	Trouble   string            `json:"trouble,omitempty"`
	Masked    uint64            `json:"masked"`    // decisions of it that have no effect, since it may not make them
	LastSeen  time.Time         `json:"last_seen"` // when something last came from it in this run; zero for never

	RoundTrip  *float64 `json:"round_trip_seconds,omitempty"`  // over the link; nil where it was not measured
	ClockAhead *float64 `json:"clock_ahead_seconds,omitempty"` // of this site's, as good as half the round trip
	CtlIn      uint64   `json:"ctl_in"`                        // bytes that came over links in this run: decisions and all that is small
	CtlOut     uint64   `json:"ctl_out"`                       // bytes that went
	RecIn      uint64   `json:"rec_in"`                        // likewise of recordings
	RecOut     uint64   `json:"rec_out"`
}

// measured fills in what the links with a member showed.
func (m *MeshSite) measured(st mesh.Standing) {
	m.Lag, m.Behind, m.LastSeen = st.Lag, st.Behind, st.LastSeen
	m.CtlIn, m.CtlOut, m.RecIn, m.RecOut = st.Traffic.CtlIn, st.Traffic.CtlOut, st.Traffic.RecIn, st.Traffic.RecOut
	if st.RoundTrip > 0 {
		took := st.RoundTrip.Seconds()
		m.RoundTrip = &took
	}
	if st.ClockKnown {
		ahead := st.Ahead.Seconds()
		m.ClockAhead = &ahead
	}
	if m.Pair = ""; st.Pair {
		m.Pair = "in step"
	}
	if st.Degraded {
		m.Pair = "degraded"
	}
	switch {
	case st.Links > 0 && st.Degraded:
		m.State = "degraded"
	case st.Links > 0:
		m.State = "linked"
	}
}

// Mesh tells how the members stand; none where the site is in no mesh.
func (s *Site) Mesh(ctx context.Context) ([]MeshSite, error) {
	var out []MeshSite
	s.commands.View(func(state *aggregate.State) {
		for _, m := range state.MeshSites() {
			at := MeshSite{ID: m.Site, Site: m.Name, State: "unreachable", Role: m.Role, Addr: m.Addr, Work: worksAt(state, m, false), Scheduled: worksAt(state, m, true), Trouble: trouble(state, m)}
			if state.Left(m.Site) {
				at.State = "left"
			} else if state.Fenced(m.Site) {
				at.State = "fenced"
			}
			for _, masked := range state.Masked() {
				if masked.Site == m.Site && masked.Beyond {
					at.Masked += masked.Count
				}
			}
			out = append(out, at)
		}
	})
	s.noteMissing(out, s.OtherLogs())
	if j := s.mesh.joined.Load(); j != nil && len(out) == 0 { // nothing came from the mesh yet
		for _, m := range j.Members {
			out = append(out, MeshSite{ID: m.Site, Site: m.Name, State: "unreachable", Addr: m.Addr})
		}
	}
	var standing []mesh.Standing
	if n := s.node(); n != nil {
		var err error
		if standing, err = n.Status(ctx); err != nil {
			return nil, err
		}
	}
	for i := range out {
		if out[i].ID == s.who.ID {
			out[i].State, out[i].LastSeen = "self", WallClock().UTC()
		}
		for _, st := range standing {
			if st.Site != out[i].ID {
				continue
			}
			out[i].measured(st)
		}
	}
	return out, nil
}

// Digest folds the decisions that a clock covers and gives the hash of the state
// after them: the same at every site that holds them. A zero clock stands for
// all that was applied here.
func (s *Site) Digest(ctx context.Context, at events.Clock) (events.Clock, string, error) {
	if len(at.Entries()) == 0 {
		var digest string
		s.commands.View(func(state *aggregate.State) { at, digest = state.Clock(), state.Digest() })
		return at, digest, nil
	}
	held := s.source.Held(events.Ctl)
	s.commands.View(func(state *aggregate.State) {
		for _, f := range state.Forks() { // of its branches the one that is here
			if at.At(f.Log) > f.Size {
				at = at.With(f.Log, max(f.Size, held.At(f.Log)))
			}
		}
	})
	if !held.Covers(at) {
		return at, "", &commands.Refusal{Code: commands.Conflict, Message: "this site has not applied all that the clock covers",
			Hint: "wait until it has (mesh status), or ask a site that has"}
	}
	state, err := s.fold(ctx, nil, func(f *folding) error {
		for r, err := range s.source.Records(ctx, events.Ctl, events.Clock{}) {
			if err != nil {
				return err
			}
			if r.Header.Position > at.At(r.Header.Origin()) {
				continue
			}
			if err := f.Apply(r); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, aggregate.ErrEarly) {
		return at, "", &commands.Refusal{Code: commands.Invalid, Message: "the clock covers a decision and not what it knew of: no site ever held that"}
	}
	if err != nil {
		return at, "", err
	}
	return state.Clock(), state.Digest(), nil
}

// emptyState is the state before any record, with what decides which of them
// count.
func (s *Site) emptyState() *aggregate.State {
	state := aggregate.New()
	state.CheckForks(checkFork)
	state.SetSelf(s.who.ID)
	if j := s.mesh.joined.Load(); j != nil {
		state.Joined(s.who.ID, j.Mesh, events.NewClock(j.Before...))
	}
	return state
}

// maskViews has the views leave out what does not count.
func (s *Site) maskViews() {
	s.source.Mask(func(h *events.Header, clock events.Clock) (why string) {
		s.commands.View(func(state *aggregate.State) {
			if size, held := state.HoldOf(h.Origin()); held && h.Position > size && !aggregate.IsClaim(h.Type) {
				why = "its log is held from there on: its site was fenced, has left, or wrote it twice"
				return
			}
			if why = state.MaskOf(h, clock); why == "" && state.Stray(h, clock) {
				why = "it is about what its site did not claim to know"
			}
		})
		return why
	})
}
