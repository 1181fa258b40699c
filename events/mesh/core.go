package mesh

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Crypto is what the core has done for it. Every function is pure: the same
// arguments give the same result.
type Crypto struct {
	// Open checks a signed note against a verifier key and reads the head in it.
	Open func(note []byte, key string) (evidence.Head, error)
	// Sign makes the head of one of this site's logs.
	Sign func(o events.Origin, size uint64, root events.Hash) (evidence.Head, error)
	// Vouched reports whether a site's identity vouches for the key of a log.
	Vouched func(identity []byte, k Key) error
}

// Config is what a [Core] is made from. It does not change.
type Config struct {
	Self   events.SiteID
	Mesh   events.SiteID // the site that founded the mesh
	Crypto Crypto
	// Level is the level of the protocol to speak; [Level] unless set.
	Level uint32
	// Payloads says whether this site wants the payloads of a log, or only the
	// headers. nil stands for all of them. What it answers for a log may change;
	// see [Reconsider].
	Payloads func(events.Origin) bool
	// Sync lists the sites with which this one is a pair at first; see [Pairs].
	Sync []events.SiteID
	// Detect is how long a sync peer may be silent on something that it was sent
	// before the pair degrades; 100 ms unless set.
	Detect time.Duration
	// Windows are the bytes under way on each lane that this site takes in
	// without having acknowledged them; 4 and 32 MiB unless set.
	Windows [lanes]uint64
	// BatchSize is about how many bytes of records go into one batch; 1 MiB
	// unless set.
	BatchSize int
	// RecRate bounds what is sent on the rec lane of each link, in bytes a
	// second; 0 for no bound.
	RecRate uint64
	// HaveEvery is the shortest time between two tellings of what this site
	// holds, and how long a source may be silent before another is asked; one
	// second unless set.
	HaveEvery time.Duration
}

func (c Config) withDefaults() Config {
	c.Level = cmp.Or(c.Level, Level)
	c.Detect = cmp.Or(c.Detect, 100*time.Millisecond)
	c.HaveEvery = cmp.Or(c.HaveEvery, time.Second)
	c.BatchSize = min(cmp.Or(c.BatchSize, 1<<20), maxBatch)
	if c.Payloads == nil {
		c.Payloads = func(events.Origin) bool { return true }
	}
	for lane, size := range [lanes]uint64{4 << 20, 32 << 20} {
		c.Windows[lane] = cmp.Or(c.Windows[lane], size)
	}
	return c
}

// Member is a site of the mesh, as pinned by site.admitted.
type Member struct {
	Site     events.SiteID
	Identity []byte // public key that its links and log keys answer to
	Gone     bool   // it left, or is fenced: its logs are exchanged, and it is not spoken to
	// Ends are where logs of a site end that has left: nothing beyond is asked for or
	// given on (rule R18). With Closed its other logs of decisions have ended, too.
	Ends   []events.ClockEntry
	Closed bool
}

// end is where a log ends; beyond reach unless its site has left.
func (c *Core) end(o events.Origin) uint64 {
	m := c.members[o.Site]
	for _, e := range m.Ends {
		if e.Origin == o {
			return e.Position
		}
	}
	if m.Closed && o.Kind == events.Ctl {
		return 0
	}
	return math.MaxUint64
}

// LinkID names a link between two sites for as long as it is up. The shell
// chooses it.
type LinkID uint64

// Core is one site's part in the mesh. Every change is a [Core.Step]; what a
// step asks for is in its outputs, in the order in which it is to be done. Not
// safe for concurrent use.
type Core struct {
	cfg     Config
	now     time.Duration
	out     []Output
	members map[events.SiteID]Member
	logs    map[events.Origin]*log
	inOrder []*log // all logs, by origin
	forks   map[events.Origin]Fork
	links   map[LinkID]*link
	peers   []*link // all links, by number
	pairs   map[events.SiteID]*pair
	fetches map[uint64]*fetch
	knows   map[events.SiteID]*acquaintance
	stale   bool          // something changed that sources depend on
	chosen  time.Duration // when sources were looked at
}

// New makes the core of a site that is in a mesh, without logs and links.
func New(cfg Config) *Core {
	c := &Core{
		cfg:     cfg.withDefaults(),
		members: map[events.SiteID]Member{},
		logs:    map[events.Origin]*log{},
		forks:   map[events.Origin]Fork{},
		links:   map[LinkID]*link{},
		pairs:   map[events.SiteID]*pair{},
		fetches: map[uint64]*fetch{},
		knows:   map[events.SiteID]*acquaintance{},
	}
	for _, site := range cfg.Sync {
		c.pairs[site] = newPair(site)
	}
	return c
}

// log is one log that this site knows the key of, its own included.
type log struct {
	origin events.Origin
	own    bool // written here, in this epoch
	key    Key
	size   uint64        // durable here, each record covered by a head
	tree   evidence.Tree // over them; of logs written elsewhere only
	root   events.Hash
	head   []byte // covers size; of logs written elsewhere only

	payloads bool   // they were asked for
	end      uint64 // likewise no more than up to here

	ahead   evidence.Tree // over what is verified and not durable yet, too
	waiting []Batch       // verified, in order; the first `storing` of them are being stored
	storing int

	source  LinkID                   // whom we asked to push; 0 for nobody
	asked   time.Duration            // when we did, or last got something from there
	avoided map[LinkID]time.Duration // sources that were silent, until when others go first
	behind  time.Duration            // since when somebody has more; 0 for nobody
	told    uint64                   // size in the last Have to all
	toldAt  time.Duration
	release uint64   // own logs: delivered up to here
	grown   []growth // own logs: what is not released yet
}

// growth is when one of the site's own logs reached a size.
type growth struct {
	size uint64
	at   time.Duration
}

// Step takes one input at a time since some fixed moment, which never goes
// back, and gives what is to be done.
func (c *Core) Step(in Input, now time.Duration) []Output {
	c.now, c.out = max(now, c.now), nil
	switch in := in.(type) {
	case Members:
		c.setMembers(in)
	case Pairs:
		c.setPairs(in)
	case Opened:
		c.opened(in)
	case Grew:
		c.grew(in)
	case KnownFork:
		c.forks[in.Fork.Origin] = in.Fork
	case LinkUp:
		c.linkUp(in)
	case LinkDown:
		c.linkDown(in.Link)
	case Received:
		c.received(in)
	case Stored:
		c.stored(in)
	case ReadDone:
		c.readDone(in)
	case ProveDone:
		c.proveDone(in)
	case WantPayloads:
		c.wantPayloads(in)
	case Reconsider:
		c.reconsider()
	case PayloadRead:
		c.payloadRead(in)
	case SendWraps:
		c.sendTo(in.Site, in.Wraps)
	case SendKept:
		c.sendTo(in.Site, in.Kept)
	case SendLease:
		c.sendTo(in.Site, in.Lease)
	case Tick:
	}
	c.turn()
	return c.out
}

func (c *Core) emit(o Output) { c.out = append(c.out, o) }

// turn does what is due, whatever the input was.
func (c *Core) turn() {
	c.checkPairs()
	if c.stale || c.now >= c.chosen+c.cfg.HaveEvery/4 {
		c.stale, c.chosen = false, c.now
		c.chooseSources()
	}
	c.tellHoldings()
	for _, l := range c.linksInOrder() {
		c.push(l)
	}
	c.checkFetches()
}

// NextTick is when the core wants a [Tick] at the latest.
func (c *Core) NextTick() time.Duration {
	next := c.now + c.cfg.HaveEvery
	for _, p := range c.pairs {
		if at, ok := c.pairDue(p); ok {
			next = min(next, at)
		}
	}
	for _, l := range c.links {
		if l.resume > c.now {
			next = min(next, l.resume)
		}
	}
	return max(next, c.now+time.Millisecond)
}

// linksInOrder gives the links; the slice is not changed when one comes or goes.
func (c *Core) linksInOrder() []*link { return c.peers }

func (c *Core) logsInOrder() []*log { return c.inOrder }

// addLog takes in a log, in the place of one that is known already.
func (c *Core) addLog(l *log) {
	c.logs[l.origin] = l
	i, known := slices.BinarySearchFunc(c.inOrder, l.origin, func(l *log, o events.Origin) int { return l.origin.Compare(o) })
	if known {
		c.inOrder = slices.Clone(c.inOrder)
		c.inOrder[i] = l
	} else {
		c.inOrder = slices.Insert(slices.Clone(c.inOrder), i, l)
	}
	c.stale = true
}

// setMembers replaces who is a site of the mesh. Links and logs of who is none
// any more end.
func (c *Core) setMembers(m Members) {
	clear(c.members)
	for _, member := range m.Sites {
		c.members[member.Site] = member
	}
	for _, l := range c.linksInOrder() {
		if m, ok := c.members[l.site]; !ok || m.Gone {
			c.closeLink(l, "the site is no member of the mesh")
		}
	}
	for _, l := range c.linksInOrder() {
		for _, k := range l.unpinned {
			c.gotKey(l, k)
		}
	}
	c.reconsider()
	c.stale = true
}

// opened takes in a log that the site holds: at its start, or when it began a
// new epoch of its own. A log of its own that was opened before and comes again
// without Own is one that it no longer writes to: nothing more of it is
// released.
func (c *Core) opened(in Opened) {
	l := &log{
		origin: in.Key.Origin, own: in.Own, key: in.Key, avoided: map[LinkID]time.Duration{}, size: in.Tree.Size(), root: in.Tree.Root(),
		tree: in.Tree.Clone(), ahead: in.Tree.Clone(), head: in.Head, release: in.Tree.Size(),
	}
	c.addLog(l)
	for _, peer := range c.linksInOrder() {
		if peer.ready {
			c.introduce(peer, l)
		}
	}
}

// grew takes note that one of the site's own logs is durable up to a size.
func (c *Core) grew(in Grew) {
	l := c.logs[in.Origin]
	if l == nil || !l.own || in.Size <= l.size {
		return
	}
	l.size, l.root = in.Size, in.Root
	l.grown = append(l.grown, growth{in.Size, c.now})
}

// startStoring hands what waits to the disk, as one commit.
func (c *Core) startStoring(l *log) {
	if l.storing > 0 || len(l.waiting) == 0 {
		return
	}
	s := Store{Origin: l.origin, Expect: l.size}
	bytes := 0
	for _, b := range l.waiting {
		size := b.size()
		if l.storing > 0 && (bytes+size > maxBatch || len(s.Entries)+len(b.Records) > store.MaxCommitEntries) {
			break
		}
		bytes += size
		s.Entries = append(s.Entries, b.entries()...)
		s.Heads = append(s.Heads, b.Head)
		s.Sizes = append(s.Sizes, b.last())
		l.storing++
	}
	c.emit(s)
}

// stored moves a log on, or drops what could not be stored: it will be asked
// for again.
func (c *Core) stored(in Stored) {
	l := c.logs[in.Origin]
	if l == nil || l.storing == 0 {
		return
	}
	done := l.waiting[:l.storing]
	rest := slices.Clone(l.waiting[l.storing:])
	if in.Err != nil {
		c.dropWaiting(l)
		c.emit(Refused{Origin: l.origin, What: "could not be stored", Err: in.Err})
		return
	}
	for _, b := range done {
		for _, r := range b.Records {
			l.tree.Append(evidence.LeafHash(r.Header))
		}
	}
	last := done[len(done)-1]
	l.size, l.root, l.head = l.tree.Size(), l.tree.Root(), last.Head
	l.waiting, l.storing = rest, 0
	c.settle(done)
	for _, peer := range c.linksInOrder() {
		if peer.fed[l.origin] {
			c.send(peer, CtlLane, Ack{l.origin, l.size})
		}
	}
	c.emit(Arrived{Origin: l.origin, Size: l.size})
	c.startStoring(l)
}

// dropWaiting forgets what is verified and not durable.
func (c *Core) dropWaiting(l *log) {
	c.settle(l.waiting)
	l.waiting, l.storing, l.source = nil, 0, 0
	c.stale = true
	l.ahead = l.tree.Clone()
	l.asked = c.now
}

// settle gives back the room that batches took.
func (c *Core) settle(batches []Batch) {
	for _, b := range batches {
		if l := c.links[b.from]; l != nil {
			l.held[laneOf(b.Origin)] -= min(l.held[laneOf(b.Origin)], uint64(b.size()))
		}
	}
}
