package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// Branch is one of the things that a log's key has signed: a head, and roots of
// earlier sizes with the proofs that tie them to it.
type Branch struct {
	Head   []byte  `cbor:"1,keyasint"` // signed note
	Points []Point `cbor:"2,keyasint"` // in ascending order of size
}

// Point is the root of a log at a size.
type Point struct {
	Size  uint64        `cbor:"1,keyasint"`
	Root  events.Hash   `cbor:"2,keyasint"`
	Proof []events.Hash `cbor:"3,keyasint"` // that it is a prefix of what the head covers
}

// Fork is the proof that a log was written twice (rule R14): up to Size both
// branches are the same, and at Size+1 they are not, each under a head that the
// log's own key signed. Or, with Size 0: the site vouched for two keys of one
// log. Nobody can make one but who holds the key.
type Fork struct {
	Origin events.Origin `cbor:"1,keyasint"`
	Size   uint64        `cbor:"2,keyasint"`
	A      Branch        `cbor:"3,keyasint"`
	B      Branch        `cbor:"4,keyasint"`
	Keys   []Key         `cbor:"5,keyasint,omitempty"` // the two keys, sorted
}

// ErrNoFork says that something is no proof of a fork.
var ErrNoFork = errors.New("not a proof that a log was written twice")

// roots gives the roots of a branch by size, after checking every proof.
func (b Branch) roots(c Crypto, o events.Origin, key string) (map[uint64]events.Hash, error) {
	head, err := c.Open(b.Head, key)
	if err != nil {
		return nil, err
	}
	if head.Origin != o {
		return nil, fmt.Errorf("%w: it is of log %s", evidence.ErrBadHead, head.Origin)
	}
	at := map[uint64]events.Hash{head.Size: head.Root}
	for _, p := range b.Points {
		if err := evidence.CheckConsistency(p.Proof, head.Size, head.Root, p.Size, p.Root); err != nil {
			return nil, err
		}
		at[p.Size] = p.Root
	}
	return at, nil
}

// CheckFork verifies a proof against the key of the log and the identity of its
// site.
func CheckFork(c Crypto, f Fork, key string, identity []byte) error {
	if len(f.Keys) > 0 {
		if len(f.Keys) != 2 || f.Size != 0 || f.Keys[0].Key == f.Keys[1].Key {
			return fmt.Errorf("%w: it takes two keys of log %s", ErrNoFork, f.Origin)
		}
		for _, k := range f.Keys {
			if err := c.Vouched(identity, k); err != nil || k.Origin != f.Origin {
				return fmt.Errorf("%w: key of log %s: %w", ErrNoFork, f.Origin, err)
			}
		}
		return nil
	}
	a, err := f.A.roots(c, f.Origin, key)
	if err != nil {
		return fmt.Errorf("%w: log %s: %w", ErrNoFork, f.Origin, err)
	}
	b, err := f.B.roots(c, f.Origin, key)
	if err != nil {
		return fmt.Errorf("%w: log %s: %w", ErrNoFork, f.Origin, err)
	}
	rootA, okA := a[f.Size]
	rootB, okB := b[f.Size]
	if f.Size > 0 && (!okA || !okB || rootA != rootB) {
		return fmt.Errorf("%w: the branches of log %s are not shown to be the same at %d", ErrNoFork, f.Origin, f.Size)
	}
	rootA, okA = a[f.Size+1]
	rootB, okB = b[f.Size+1]
	if !okA || !okB || rootA == rootB {
		return fmt.Errorf("%w: the branches of log %s are not shown to differ at %d", ErrNoFork, f.Origin, f.Size+1)
	}
	return nil
}

func sortedKeys(a, b Key) []Key {
	keys := []Key{a, b}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Key, b.Key) })
	return keys
}

// search looks for the place where a peer's branch of a log leaves this site's:
// the roots at low are the same, those at high, as far as is known, are not.
type search struct {
	origin       events.Origin
	low, high    uint64
	sizes        []uint64
	mine, theirs *Branch
	rounds       int
}

// maxRounds bounds a search: each round divides the range by maxPoints-1.
const maxRounds = 20

// startSearch asks a peer to show where its branch of a log leaves ours. It is
// asked at most once every HaveEvery.
func (c *Core) startSearch(l *link, lg *log) {
	if l.search != nil && c.now < l.probed+silent*c.cfg.HaveEvery || c.now < l.probed+c.cfg.HaveEvery && l.probed > 0 {
		return
	}
	l.probed = c.now
	s := &search{origin: lg.origin, high: lg.size}
	if lg.size == 0 {
		if !lg.own { // there is nothing of it here that could differ
			c.violation(l, lg.origin, fmt.Errorf("records of %s do not add up to their head", lg.origin))
		}
		return
	}
	l.search = s
	c.searchOn(l)
}

// searchOn asks both sides for the roots at the next sizes.
func (c *Core) searchOn(l *link) {
	s := l.search
	s.mine, s.theirs, s.sizes = nil, nil, nil
	if s.low > 0 {
		s.sizes = append(s.sizes, s.low)
	}
	span := s.high - s.low
	steps := min(span, maxPoints-1)
	for i := uint64(1); i <= steps; i++ {
		s.sizes = append(s.sizes, s.low+span/steps*i+span%steps*i/steps)
	}
	c.send(l, CtlLane, Prove{s.origin, s.sizes})
	c.emit(MakeProof{Link: l.id, Origin: s.origin, Sizes: s.sizes, Mine: true})
}

// gotProve serves a peer. One wish is proven after another: each takes a reading of
// all headers.
func (c *Core) gotProve(l *link, m Prove) {
	if c.logs[m.Origin] == nil || len(m.Sizes) == 0 {
		return
	}
	if len(l.proofs) >= maxAsked {
		c.violation(l, m.Origin, fmt.Errorf("more than %d proofs asked for", maxAsked))
		return
	}
	l.proofs = append(l.proofs, m)
	c.nextProof(l)
}

func (c *Core) nextProof(l *link) {
	if l.proving || len(l.proofs) == 0 {
		return
	}
	m := l.proofs[0]
	l.proofs, l.proving = l.proofs[1:], true
	c.emit(MakeProof{Link: l.id, Origin: m.Origin, Sizes: m.Sizes})
}

func (c *Core) proveDone(in ProveDone) {
	l := c.links[in.Link]
	if l == nil {
		return
	}
	if !in.Mine {
		l.proving = false
		c.nextProof(l)
	}
	if in.Err != nil {
		c.emit(Refused{Origin: in.Origin, What: "could not be proven", Err: in.Err})
		if in.Mine {
			l.search = nil
		}
		return
	}
	if !in.Mine {
		c.send(l, CtlLane, Proof{in.Origin, in.Branch})
		return
	}
	if l.search != nil && l.search.origin == in.Origin {
		l.search.mine = &in.Branch
		c.compare(l)
	}
}

func (c *Core) gotProof(l *link, m Proof) {
	if l.search == nil || l.search.origin != m.Origin || l.search.theirs != nil {
		return
	}
	l.search.theirs = &m.Branch
	c.compare(l)
}

// compare narrows a search once both sides have answered.
func (c *Core) compare(l *link) {
	s := l.search
	lg := c.logs[s.origin]
	if s.mine == nil || s.theirs == nil || lg == nil {
		return
	}
	l.search = nil
	theirs, err := s.theirs.roots(c.cfg.Crypto, s.origin, lg.key.Key)
	if err != nil {
		c.violation(l, s.origin, fmt.Errorf("proof about log %s: %w", s.origin, err))
		return
	}
	mine, err := s.mine.roots(c.cfg.Crypto, s.origin, lg.key.Key)
	if err != nil {
		c.emit(Refused{Origin: s.origin, What: "could not be proven", Err: err})
		return
	}
	differ, last := false, uint64(0)
	for _, size := range s.sizes {
		a, okA := mine[size]
		b, okB := theirs[size]
		if !okA || !okB {
			break // one of them is shorter; what is there is the same
		}
		if last = size; a != b {
			s.high, differ = size, true
			break
		}
		s.low = size
	}
	switch {
	case !differ:
		c.same(l, lg, last, theirs)
	case s.high == s.low+1:
		c.foundFork(newFork(s), l)
	case s.rounds < maxRounds:
		s.rounds++
		l.search = s
		c.searchOn(l)
	}
}

// same ends a search that found no difference up to a size: the peer has the
// same log. It may hold more of this site's own log than the site itself.
func (c *Core) same(l *link, lg *log, size uint64, theirs map[uint64]events.Hash) {
	longest := uint64(0)
	for s := range theirs {
		longest = max(longest, s)
	}
	if lg.own && longest > lg.size && size == lg.size {
		c.emit(Behind{lg.origin, longest})
		return
	}
	lg.asked = c.now // not the source's fault yet: it gets another turn
}

func newFork(s *search) Fork {
	f := Fork{Origin: s.origin, Size: s.low, A: s.mine.only(s.low, s.high), B: s.theirs.only(s.low, s.high)}
	a, b := f.A.Points[len(f.A.Points)-1], f.B.Points[len(f.B.Points)-1]
	if bytes.Compare(a.Root[:], b.Root[:]) > 0 {
		f.A, f.B = f.B, f.A
	}
	return f
}

// only keeps the points at some sizes.
func (b Branch) only(sizes ...uint64) Branch {
	out := Branch{Head: b.Head}
	for _, p := range b.Points {
		if slices.Contains(sizes, p.Size) {
			out.Points = append(out.Points, p)
		}
	}
	return out
}

// gotFork takes in a proof that a peer sent.
func (c *Core) gotFork(l *link, f Fork) {
	lg := c.logs[f.Origin]
	known, forked := c.forks[f.Origin]
	if lg == nil || forked && known.Size <= f.Size || !c.mayTalk(l, proveCounts) {
		return
	}
	if err := CheckFork(c.cfg.Crypto, f, lg.key.Key, c.members[f.Origin.Site].Identity); err != nil {
		c.violation(l, f.Origin, err)
		return
	}
	c.foundFork(f, nil)
}

// foundFork keeps a proof, tells it, and spreads it. Of several, the one that
// leaves least of the log standing counts. with is the peer that holds the
// other branch, nil when that is not known.
func (c *Core) foundFork(f Fork, with *link) {
	if with != nil {
		with.other[f.Origin] = true
		c.stale = true
		if lg := c.logs[f.Origin]; lg.source == with.id {
			c.dropWaiting(lg)
		}
	}
	if known, forked := c.forks[f.Origin]; forked && known.Size <= f.Size {
		return
	}
	c.forks[f.Origin] = f
	c.emit(ForkFound{f})
	for _, l := range c.linksInOrder() {
		if l.ready {
			c.send(l, CtlLane, Forked{f})
		}
	}
}

func (c *Core) forksInOrder() []Fork {
	var all []Fork
	for _, o := range slices.SortedFunc(maps.Keys(c.forks), events.Origin.Compare) {
		all = append(all, c.forks[o])
	}
	return all
}

// MakeBranch proves the roots of a log at sizes (those that it reaches) against
// a head that covers all of hashes.
func MakeBranch(hashes *evidence.Hashes, head []byte, sizes []uint64) (Branch, error) {
	b := Branch{Head: head}
	for _, size := range sizes {
		if size == 0 || size > hashes.Size() {
			continue
		}
		root, err := hashes.Root(size)
		if err != nil {
			return Branch{}, err
		}
		proof, err := hashes.Consistency(size, hashes.Size())
		if err != nil {
			return Branch{}, err
		}
		b.Points = append(b.Points, Point{size, root, proof})
	}
	return b, nil
}

// EncodeFork gives a proof as it is exchanged, for keeping.
func EncodeFork(f Fork) ([]byte, error) { return Encode(Forked{f}) }

// DecodeFork reads what [EncodeFork] gave. The proof is to be checked by
// [CheckFork].
func DecodeFork(b []byte) (Fork, error) {
	m, err := Decode(b)
	if err != nil {
		return Fork{}, err
	}
	f, ok := m.(Forked)
	if !ok {
		return Fork{}, fmt.Errorf("%w: %T", ErrNoFork, m)
	}
	return f.Fork, nil
}
