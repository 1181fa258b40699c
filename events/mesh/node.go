package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Peer is a member of the mesh, and where its mesh port can be reached.
type Peer struct {
	Member
	Addrs []string // host:port, tried in turn; none when it only dials others
}

// Copies keeps the copies of logs that are written elsewhere. Safe for
// concurrent use.
type Copies interface {
	// Copy is the log of another site, made when there is none, and the
	// directory that it is in.
	Copy(o events.Origin) (store.Log, string, error)
	// Grew says that a copy holds more.
	Grew(o events.Origin)
	// Copied lists the logs that there are copies of.
	Copied() []events.Origin
}

// NodeConfig is what a [Node] needs.
type NodeConfig struct {
	Core     Config // Crypto is filled in
	Identity ed25519.PrivateKey
	Listener net.Listener // nil for a site that only dials; closed by the node
	Own      []*store.History
	Copies   Copies
	Forks    []Fork // known from earlier runs
	Peers    []Peer
	Log      *slog.Logger
	// Handle is told what the core found: [ForkFound], [Degraded], [Restored],
	// [Behind], [GotWraps], [GotKept], [GotPayload]. One call at a time, in order.
	Handle func(Output)
	// Lease is told what a member asks or answers about a lease. It must not wait.
	// nil passes over it.
	Lease func(from events.SiteID, l Lease)
	// Join answers a newcomer; nil refuses all.
	Join JoinHandler
}

// Node is a [Core] with sockets, disk and time. Its goroutines end with
// [Node.Close].
type Node struct {
	cfg  NodeConfig
	cert tls.Certificate

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	in     chan Input  // unbuffered: who hands something in waits its turn
	calls  chan func() // run by the loop
	began  time.Time

	core *Core // the loop's alone

	door     door
	sources  *buckets // connections, by address
	regulars *buckets // likewise, of addresses that the door knows
	joins    *buckets // attempts to join, by address
	flaps    *buckets // links, by site
	lines    *buckets // lines of the log, by who they are about

	mu       sync.Mutex // guards what follows
	peers    map[events.SiteID]Peer
	lanes    map[LinkID]*lanePair
	meters   map[events.SiteID]*meter
	nextLink LinkID
	halves   map[halfKey]*halfLink
	copies   map[events.Origin]*replica
	named    map[events.Origin]Key // of logs of which there is no copy yet
	released map[events.Origin]uint64
	waiting  map[events.Origin][]delivery
	awaited  bool          // somebody has waited for a release
	moved    chan struct{} // closed and renewed when something was released
	asking   map[uint64]chan GotPayload
	nextAsk  uint64

	reports reportQueue
	trees   trees
	proofs  sync.Mutex // held while one is made
}

// Start brings a node up. The histories, copies and listener stay in use until
// Close.
func Start(cfg NodeConfig) (*Node, error) {
	cert, err := certificate(cfg.Identity, cfg.Core.Self)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, cert: cert, in: make(chan Input), calls: make(chan func()), began: time.Now(),
		peers: map[events.SiteID]Peer{}, lanes: map[LinkID]*lanePair{}, meters: map[events.SiteID]*meter{}, halves: map[halfKey]*halfLink{},
		copies: map[events.Origin]*replica{}, named: map[events.Origin]Key{}, released: map[events.Origin]uint64{}, waiting: map[events.Origin][]delivery{}, moved: make(chan struct{}),
		asking: map[uint64]chan GotPayload{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.sources, n.flaps, n.lines = newBuckets(sourceRate, sourceBurst, n.now), newBuckets(linkRate, linkBurst, n.now), newBuckets(lineRate, lineBurst, n.now)
	n.regulars = newBuckets(sourceRate, sourceBurst, n.now)
	n.joins = newBuckets(joinRate, joinBurst, n.now)
	n.reports.wake, n.reports.taken = make(chan struct{}, 1), make(chan struct{})
	cfg.Core.Crypto = Crypto{
		Open: evidence.OpenHead, Sign: n.sign,
		Vouched: func(identity []byte, k Key) error { return CheckVoucher(identity, k) },
	}
	n.core = New(cfg.Core)
	first, err := n.openLogs()
	if err != nil {
		n.cancel()
		return nil, errors.Join(err, n.closeCopies())
	}
	n.setPeers(cfg.Peers)
	n.work.Go(func() { n.loop(append([]Input{members(cfg.Peers)}, first...)) })
	n.work.Go(n.report)
	n.work.Go(n.deliver)
	for _, in := range first {
		if o, ok := in.(Opened); ok && o.Own {
			n.release(Release{o.Key.Origin, o.Tree.Size()})
			log, _ := n.own(o.Key.Origin)
			n.work.Go(func() { n.follow(log, o.Tree.Size()) })
		}
	}
	if cfg.Listener != nil {
		n.work.Go(n.accept)
	}
	n.work.Go(n.dial)
	return n, nil
}

func members(peers []Peer) Members {
	var m Members
	for _, p := range peers {
		m.Sites = append(m.Sites, p.Member)
	}
	return m
}

// openLogs gives what the core has to know of the logs that are held.
func (n *Node) openLogs() ([]Input, error) {
	var first []Input
	for _, h := range n.cfg.Own {
		for _, log := range h.Logs() {
			size, _ := log.Size()
			tree, err := store.TreeAt(n.ctx, log, size)
			if err != nil {
				return nil, fmt.Errorf("own log %s: %w", log.Origin(), err)
			}
			first = append(first, Opened{Own: true, Key: Vouch(n.cfg.Identity, log.Origin(), h.Key(log.Origin())), Tree: tree})
		}
	}
	for _, o := range n.cfg.Copies.Copied() {
		log, dir, err := n.cfg.Copies.Copy(o)
		if err != nil {
			return nil, err
		}
		r, err := openReplica(log, dir, nil)
		if errors.Is(err, os.ErrNotExist) {
			continue // restored from a backup: its key and heads come from peers, and its records are compared with theirs
		}
		if err != nil {
			return nil, err
		}
		n.copies[o] = r
		opened, err := r.opened(n.ctx)
		if err != nil {
			return nil, fmt.Errorf("copy of log %s: %w", o, err)
		}
		first = append(first, opened)
	}
	for _, f := range n.cfg.Forks {
		first = append(first, KnownFork{f})
	}
	return first, nil
}

// SetPeers replaces who the members are. Links to who is none any more end.
func (n *Node) SetPeers(peers []Peer) {
	n.setPeers(peers)
	n.hand(members(peers))
}

func (n *Node) setPeers(peers []Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.peers)
	for _, p := range peers {
		n.peers[p.Site] = p
	}
	n.door.forget(func(site events.SiteID) bool { return !n.member(site) })
}

// member reports whether a site is a member, as far as is known; under mu.
func (n *Node) member(site events.SiteID) bool {
	p, known := n.peers[site]
	return known && !p.Gone
}

// SendWraps sends wrapped keys to a site that is linked; see [MaxWraps] and
// [MaxAfter].
func (n *Node) SendWraps(site events.SiteID, w Wraps) { n.hand(SendWraps{site, w}) }

// SendKept tells a site that is linked which of its data keys are held here.
func (n *Node) SendKept(site events.SiteID, keys []uuid.UUID) { n.hand(SendKept{site, Kept{keys}}) }

// SendLease sends a question or an answer about a lease to a site that is linked.
func (n *Node) SendLease(site events.SiteID, l Lease) { n.hand(SendLease{site, l}) }

// hand gives the loop an input, unless the node is closing.
func (n *Node) hand(in Input) {
	select {
	case n.in <- in:
	case <-n.ctx.Done():
	}
}

// loop owns the core. It never waits for anything but its next input.
func (n *Node) loop(first []Input) {
	for _, in := range first {
		n.step(in)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(n.core.NextTick() - n.now())
		select {
		case in := <-n.in:
			n.step(in)
		case call := <-n.calls:
			call()
		case <-timer.C:
			n.step(Tick{})
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) now() time.Duration { return time.Since(n.began) }

func (n *Node) step(in Input) {
	for _, out := range n.core.Step(in, n.now()) {
		n.do(out)
	}
}

// do carries out one output. What takes time gets a goroutine of its own, of
// which the core bounds the number: one for each log stored or read.
func (n *Node) do(out Output) {
	switch out := out.(type) {
	case Send:
		n.send(out)
	case Close:
		n.ends(out.Site, out.Reason)
		n.closeLink(out.Link)
	case Refused:
		n.refuse(out.Site.String(), "refused from the mesh", "log", out.Origin.String(), "site", out.Site.String(), "what", out.What, "error", out.Err)
	case NewLog:
		n.newLog(out.Key)
	case Store:
		n.work.Go(func() { n.hand(Stored{Origin: out.Origin, Err: n.store(out)}) })
	case Arrived:
		n.cfg.Copies.Grew(out.Origin)
	case Read:
		n.work.Go(func() { n.hand(n.read(out)) })
	case MakeProof:
		n.work.Go(func() { n.hand(n.prove(out)) })
	case ReadPayloads:
		n.work.Go(func() { n.hand(n.readPayloads(out)) })
	case Release:
		n.release(out)
	case GotPayload:
		n.gotPayload(out)
	case GotLease:
		if n.cfg.Lease != nil {
			n.cfg.Lease(out.Site, out.Lease)
		}
	default:
		n.reports.add(out)
	}
}

// newLog notes a log whose key was accepted. Its copy is made with the first records that
// come of it: a member may name logs that it never writes, and each copy takes files.
func (n *Node) newLog(k Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.named[k.Origin] = k
}

func (n *Node) copyOf(o events.Origin) (*replica, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.copies[o]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("there is no copy of log %s", o)
}

// makeCopy is copyOf for who stores the first records of a log: one at a time.
func (n *Node) makeCopy(o events.Origin) (*replica, error) {
	n.mu.Lock()
	r, k := n.copies[o], n.named[o]
	n.mu.Unlock()
	if r != nil {
		return r, nil
	}
	log, dir, err := n.cfg.Copies.Copy(o)
	if err == nil {
		r, err = openReplica(log, dir, &k)
	}
	if err != nil {
		return nil, fmt.Errorf("make a copy of log %s: %w; free space or mend its directory", o, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.copies[o] = r
	delete(n.named, o)
	return r, nil
}

func (n *Node) store(s Store) error {
	r, err := n.makeCopy(s.Origin)
	if err == nil {
		err = r.store(n.ctx, s)
	}
	if err != nil {
		select { // a disk that fails at once must not be asked in a circle
		case <-time.After(time.Second):
		case <-n.ctx.Done():
		}
	}
	return err
}

// own finds one of the site's own logs, with its history.
func (n *Node) own(o events.Origin) (store.Log, *store.History) {
	for _, h := range n.cfg.Own {
		for _, log := range h.Logs() {
			if log.Origin() == o {
				return log, h
			}
		}
	}
	return nil, nil
}

func (n *Node) read(in Read) ReadDone {
	out := ReadDone{Link: in.Link, Origin: in.Origin, From: in.From}
	log, _ := n.own(in.Origin)
	if log == nil {
		r, err := n.copyOf(in.Origin)
		if err != nil {
			out.Err = err
			return out
		}
		return r.read(n.ctx, in)
	}
	tree, err := n.trees.at(n.ctx, log, in.From)
	if err == nil {
		out.Entries, err = readEntries(n.ctx, log, in.From, in.To, in.Bytes, in.Payloads)
	}
	for _, e := range out.Entries {
		tree.Append(evidence.LeafHash(e.Header))
	}
	if err == nil {
		n.trees.keep(in.Origin, tree.Clone())
	}
	out.Root, out.Err = tree.Root(), err
	return out
}

func (n *Node) sign(o events.Origin, size uint64, root events.Hash) (evidence.Head, error) {
	_, h := n.own(o)
	if h == nil {
		return evidence.Head{}, fmt.Errorf("log %s is not this site's", o)
	}
	return h.Sign(o, size, root)
}

// prove makes one proof at a time, whoever asks: each reads all headers of a log, and has
// their hashes in memory.
func (n *Node) prove(in MakeProof) ProveDone {
	n.proofs.Lock()
	defer n.proofs.Unlock()
	out := ProveDone{Link: in.Link, Origin: in.Origin, Mine: in.Mine}
	log, h := n.own(in.Origin)
	if log == nil {
		r, err := n.copyOf(in.Origin)
		if err == nil {
			out.Branch, err = r.prove(n.ctx, in.Sizes)
		}
		out.Err = err
		return out
	}
	size, root := log.Size()
	head, err := h.Sign(in.Origin, size, root)
	if err == nil {
		out.Branch, err = proveAt(n.ctx, log, size, head.Note, in.Sizes)
	}
	out.Err = err
	return out
}

// follow tells the core of what the site itself writes, after a size that the
// core knows.
func (n *Node) follow(log store.Log, size uint64) {
	for {
		select {
		case <-log.Watch(size):
		case <-n.ctx.Done():
			return
		}
		next, root := log.Size()
		if next == size {
			return // the log was closed
		}
		size = next
		n.hand(Grew{Origin: log.Origin(), Size: size, Root: root})
		if n.alone() {
			n.rest(unheardPause)
		}
	}
}

// unheardPause is how often at most the core hears of what the site writes while
// nobody hears it: waking it for each record costs the writer a tenth.
const unheardPause = 10 * time.Millisecond

// alone reports whether nobody hears what the site writes, and nobody here waits
// for who does.
func (n *Node) alone() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.lanes) == 0 && !n.awaited
}

func (n *Node) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-n.ctx.Done():
	}
}

// readPayloads serves a peer from whatever log it asks for.
func (n *Node) readPayloads(in ReadPayloads) PayloadRead {
	out := PayloadRead{Link: in.Link, ID: in.ID, Origin: in.Origin, First: in.First}
	log, _ := n.own(in.Origin)
	if log == nil {
		if r, err := n.copyOf(in.Origin); err == nil {
			log = r.log
		}
	}
	count := uint64(in.Count)
	if log != nil && in.First > 0 {
		size, _ := log.Size()
		if size >= in.First {
			entries, err := readEntries(n.ctx, log, in.First-1, min(size, in.First+count-1), maxFetchBytes, true)
			if err != nil {
				n.cfg.Log.Error("payloads could not be read for a peer", "log", in.Origin.String(), "error", err)
			}
			for _, e := range entries {
				out.Payloads = append(out.Payloads, e.Payload)
			}
		}
	}
	if len(out.Payloads) == 0 {
		out.Payloads = [][]byte{nil} // it is not here
	}
	return out
}

// maxFetchBytes bounds what is read at once to answer a Fetch.
const maxFetchBytes = 8 << 20

// Close ends all links and goroutines.
func (n *Node) Close() error {
	n.cancel()
	var err error
	if n.cfg.Listener != nil {
		if err = n.cfg.Listener.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}
	n.mu.Lock()
	for _, l := range n.lanes {
		l.close()
	}
	for _, h := range n.halves {
		_ = h.conn.Close() // it was no link yet
	}
	n.mu.Unlock()
	n.work.Wait()
	return errors.Join(err, n.closeCopies())
}

func (n *Node) closeCopies() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, o := range slices.SortedFunc(maps.Keys(n.copies), events.Origin.Compare) {
		errs = append(errs, n.copies[o].close())
	}
	return errors.Join(errs...)
}
