package seal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

// Config of a Sealer.
type Config struct {
	Table *KeyTable  // where wraps are kept; the caller closes it after the last use of the Sealer
	Site  *PublicKey // this site's key

	// Next is the key that a rekey under way leads to: new data keys are wrapped
	// to it as well. Nil without one.
	Next *PublicKey

	// Custodians are the other sites that may open what this site seals from now
	// on. They are asked for with each new data key; nil for nobody.
	Custodians func() []*PublicKey
}

// Sealer makes and finds data keys. It starts sealed: NewKey works, Key does
// not, until Unseal. Keys stay in memory only while somebody holds them.
type Sealer struct {
	cfg      Config               // Site, Next and Custodians are guarded by making
	made     func(uuid.UUID)      // told of each new data key; guarded by making
	erased   func(uuid.UUID) bool // see Forget; guarded by making
	unsealed atomic.Bool          // provider != nil, readable without mu

	// making is held for reading from the choice of recipients until the wraps
	// are in the table, so that whoever changes the recipients and then walks the
	// table misses none, and an erasure is not undone. Lock order: making, mu.
	making sync.RWMutex

	mu       sync.Mutex // guards the rest
	provider Provider
	held     map[uuid.UUID]*heldKey
}

// NewSealer returns a sealed Sealer.
func NewSealer(cfg Config) (*Sealer, error) {
	if cfg.Table == nil || cfg.Site == nil {
		return nil, errors.New("new sealer: it needs a key table and this site's public key")
	}
	return &Sealer{cfg: cfg, held: map[uuid.UUID]*heldKey{}}, nil
}

// Unseal takes over p, once it has proven to hold the private half of Config.Site,
// and closes a provider that was there before. On error nothing changes and p
// stays the caller's.
func (s *Sealer) Unseal(ctx context.Context, p Provider) error {
	s.making.RLock()
	defer s.making.RUnlock()
	if err := CheckProvider(ctx, p, s.cfg.Site); err != nil {
		return fmt.Errorf("unseal site %s: %w", s.cfg.Site.to.Site, err)
	}
	return s.take(p)
}

// take makes p the provider and closes the one before.
func (s *Sealer) take(p Provider) error {
	s.mu.Lock()
	before := s.provider
	s.provider = p
	s.unsealed.Store(true)
	s.mu.Unlock()
	if before != nil && before != p {
		return before.Close()
	}
	return nil
}

// Seal closes the provider and takes every loaded key away from its holders.
// Keys made in this process stay, for sealing only, so that sessions under way
// go on being recorded. A sealed site stays sealed; the error is the provider's.
func (s *Sealer) Seal() error {
	s.mu.Lock()
	p := s.provider
	s.provider = nil
	s.unsealed.Store(false)
	for id, k := range s.held {
		if !k.fresh.Load() {
			k.takeAway(ErrSealed)
			delete(s.held, id)
		}
	}
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Close()
}

// Sealed says whether the private half is out of reach.
func (s *Sealer) Sealed() bool { return !s.unsealed.Load() }

// Provider names the provider in use, "" on a sealed site.
func (s *Sealer) Provider() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider == nil {
		return ""
	}
	return s.provider.Name()
}

// NewKey makes the data key named id, wraps it to this site and its custodians
// (or to exactly the keys in to, if any), and returns it once the wraps are
// durable. It never needs the private half. ErrExists: the name is taken.
// The caller releases the key.
func (s *Sealer) NewKey(ctx context.Context, id uuid.UUID, to ...*PublicKey) (*DataKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("new data key %s: %w", id, err)
	}
	s.making.RLock()
	defer s.making.RUnlock()
	if len(to) == 0 {
		to = s.recipients()
	}
	raw := newKeyBytes()
	defer raw.Wipe()
	wraps := make([]Wrap, len(to))
	for i, public := range to {
		var err error
		if wraps[i], err = public.Wrap(id, raw); err != nil {
			return nil, err
		}
	}
	k, err := newHeldKey(id, raw)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Table.Create(id, wraps...); err != nil {
		return nil, fmt.Errorf("new data key %s: %w", id, err)
	}
	if s.made != nil {
		s.made(id)
	}
	h := s.holdFresh(k)
	for _, public := range to {
		h.sites = append(h.sites, public.to.Site)
	}
	return h, nil
}

// recipients are those that a new data key is wrapped to; making is held.
func (s *Sealer) recipients() []*PublicKey {
	to := []*PublicKey{s.cfg.Site}
	if s.cfg.Next != nil {
		to = append(to, s.cfg.Next)
	}
	if s.cfg.Custodians != nil {
		to = append(to, s.cfg.Custodians()...)
	}
	return to
}

// Key returns the data key named id, from memory or from the table by way of
// the provider. Errors: ErrSealed, ErrErased, ErrNotFound, ErrNotRecipient, ErrMismatch
// (the table holds something else under this name), or the provider's own.
// The caller releases the key.
func (s *Sealer) Key(ctx context.Context, id uuid.UUID) (*DataKey, error) {
	s.making.RLock() // until it is held: an erasure meanwhile would miss it
	defer s.making.RUnlock()
	if err := s.forgotten(id); err != nil {
		return nil, err
	}
	for {
		s.mu.Lock()
		p := s.provider
		if p == nil {
			s.mu.Unlock()
			return nil, fmt.Errorf("data key %s: %w", id, ErrSealed)
		}
		if k := s.held[id]; k != nil {
			defer s.mu.Unlock()
			return s.handle(k), nil
		}
		s.mu.Unlock()

		k, err := s.load(ctx, p, id)
		if h := s.holdLoaded(k, p); h != nil || err != nil && s.uses(p) {
			return h, keyError(id, err)
		}
		// An unseal put another provider in p's place meanwhile, or the site was sealed.
	}
}

func keyError(id uuid.UUID, err error) error {
	if err != nil {
		return fmt.Errorf("data key %s: %w", id, err)
	}
	return nil
}

func (s *Sealer) uses(p Provider) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.provider == p
}

// load reads and unwraps a key, without the lock: a provider may be slow.
func (s *Sealer) load(ctx context.Context, p Provider, id uuid.UUID) (*heldKey, error) {
	wraps, err := s.cfg.Table.Get(id)
	if err != nil {
		return nil, err
	}
	err = ErrNotRecipient
	for _, w := range wraps {
		if w.To.Site != s.cfg.Site.to.Site {
			continue
		}
		var raw Secret
		if raw, err = p.Unwrap(ctx, w.Sealed, wrapInfo(id, w.To)); err == nil {
			defer raw.Wipe()
			return newHeldKey(id, raw)
		}
	}
	return nil, err
}

// holdLoaded takes a key in that p opened; nil if there is none, or if p is not
// the provider any more.
func (s *Sealer) holdLoaded(k *heldKey, p Provider) *DataKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k == nil || s.provider != p {
		return nil
	}
	if first := s.held[k.id]; first != nil {
		k = first // somebody else loaded it meanwhile
	}
	s.held[k.id] = k
	return s.handle(k)
}

func (s *Sealer) holdFresh(k *heldKey) *DataKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.held[k.id]; first != nil {
		k = first // loaded between our Create and now
	}
	k.trust()
	s.held[k.id] = k
	return s.handle(k)
}

// Forget says which data keys are erased by decision, whether or not [Sealer.Erase]
// has been at them yet. From when it returns none of them is opened, wrapped for
// anybody or taken in, so what was destroyed does not come back from who has not heard
// of it. erased must be quick.
func (s *Sealer) Forget(erased func(id uuid.UUID) bool) {
	s.making.Lock()
	defer s.making.Unlock()
	s.erased = erased
}

// forgotten is ErrErased for a data key that is erased; making is held.
func (s *Sealer) forgotten(id uuid.UUID) error {
	if s.erased != nil && s.erased(id) {
		return fmt.Errorf("data key %s: %w", id, ErrErased)
	}
	return nil
}

// Has says whether the table holds any wrap of a data key.
func (s *Sealer) Has(id uuid.UUID) bool { return s.cfg.Table.Has(id) }

// Erase destroys the data key named id at this site: durably out of the table, then
// out of memory. What it sealed can't be opened here again. Erasing an
// absent key is not an error, so an erasure cut by a crash is simply repeated.
func (s *Sealer) Erase(id uuid.UUID) error {
	s.making.Lock()
	defer s.making.Unlock()
	if err := s.cfg.Table.Erase(id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.held[id]; k != nil {
		k.takeAway(ErrNotFound)
		delete(s.held, id)
	}
	return nil
}

// handle counts one more holder; mu is held.
func (s *Sealer) handle(k *heldKey) *DataKey {
	k.refs++
	return &DataKey{sealer: s, key: k}
}

func (s *Sealer) drop(k *heldKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.refs--; k.refs == 0 && s.held[k.id] == k {
		k.takeAway(ErrReleased)
		delete(s.held, k.id)
	}
}
