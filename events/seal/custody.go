package seal

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"iter"

	"github.com/google/uuid"
)

// Entrust says which other sites may open what this site seals: each new data key
// is wrapped to those that custodians gives at that time, nil for nobody. When it
// returns, every key that was made before, for custodians that may have been others,
// is in the table. made is called with the id of each new data key once its wraps
// are durable. Both must be quick.
func (s *Sealer) Entrust(custodians func() []*PublicKey, made func(id uuid.UUID)) {
	s.making.Lock()
	defer s.making.Unlock()
	s.cfg.Custodians, s.made = custodians, made
}

// KeyIDs yields the names of all data keys in the table, in ascending order.
func (s *Sealer) KeyIDs() iter.Seq[uuid.UUID] { return s.cfg.Table.Keys() }

// WrapFor gives the wrap of a data key to a custodian, and makes it durable here
// where there is none yet. Errors: ErrSealed when it has to be made and the site
// is sealed, ErrErased, ErrNotFound, ErrNotRecipient (this site can't open the key itself).
func (s *Sealer) WrapFor(ctx context.Context, id uuid.UUID, to *PublicKey) (Wrap, error) {
	s.making.RLock() // until the new wrap is there: an erasure meanwhile must not be undone
	defer s.making.RUnlock()
	if err := s.forgotten(id); err != nil {
		return Wrap{}, err
	}
	wraps, err := s.cfg.Table.Get(id)
	if err != nil {
		return Wrap{}, err
	}
	if w := wrapTo(wraps, to.to); w != nil {
		return *w, nil
	}
	own := wrapTo(wraps, s.cfg.Site.to)
	if own == nil {
		return Wrap{}, fmt.Errorf("data key %s: %w", id, ErrNotRecipient)
	}
	s.mu.Lock()
	p := s.provider
	s.mu.Unlock()
	if p == nil {
		return Wrap{}, fmt.Errorf("data key %s: %w", id, ErrSealed)
	}
	raw, err := p.Unwrap(ctx, own.Sealed, wrapInfo(id, own.To))
	if err != nil {
		return Wrap{}, fmt.Errorf("data key %s: %w", id, err)
	}
	defer raw.Wipe()
	w, err := to.Wrap(id, raw)
	if err != nil {
		return Wrap{}, err
	}
	return w, s.cfg.Table.Put(id, w)
}

// ErrOtherWrap says that the table has another wrap for the same recipient.
var ErrOtherWrap = errors.New("there is another wrap of this data key for this site")

// Accept keeps a wrap to this site that another site made, and reports whether
// it was new. One that is there is never replaced: whoever sends wraps can't
// take a key away, nor bring back one that is erased (ErrErased). Where the site is
// unsealed, only a wrap that opens is kept.
func (s *Sealer) Accept(ctx context.Context, id uuid.UUID, w Wrap) (bool, error) {
	s.making.RLock()
	defer s.making.RUnlock()
	own := w.To == s.cfg.Site.to || s.cfg.Next != nil && w.To == s.cfg.Next.to
	if !own || len(w.Sealed) == 0 || len(w.Sealed) > maxSealed {
		return false, fmt.Errorf("data key %s: %w", id, ErrNotRecipient)
	}
	if err := s.forgotten(id); err != nil {
		return false, err
	}
	wraps, err := s.cfg.Table.Get(id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	if have := wrapTo(wraps, w.To); have != nil {
		if !bytes.Equal(have.Sealed, w.Sealed) {
			return false, fmt.Errorf("data key %s: %w", id, ErrOtherWrap)
		}
		return false, nil
	}
	s.mu.Lock()
	p := s.provider
	s.mu.Unlock()
	if p != nil && w.To == s.cfg.Site.to {
		raw, err := p.Unwrap(ctx, w.Sealed, wrapInfo(id, w.To))
		if err != nil {
			return false, fmt.Errorf("data key %s: %w", id, err)
		}
		raw.Wipe()
	}
	return true, s.cfg.Table.Put(id, w)
}

// Contest is for a wrap to this site that Accept refused since another one is
// there: two members of the mesh say different things, or wrapped the same key. If
// they are different keys, opens tells which of them opens what the data key
// sealed: the new one takes the place of the old one where that one does not and
// it does. So whoever comes first with a wrong key hides no right one. It reports
// whether the wrap was replaced. ErrSealed where the site is.
func (s *Sealer) Contest(ctx context.Context, id uuid.UUID, w Wrap, opens func(*DataKey) bool) (bool, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if err := s.forgotten(id); err != nil {
		return false, err
	}
	wraps, err := s.cfg.Table.Get(id)
	if err != nil {
		return false, fmt.Errorf("data key %s: %w", id, err)
	}
	have := wrapTo(wraps, w.To)
	if have == nil || w.To != s.cfg.Site.to || bytes.Equal(have.Sealed, w.Sealed) {
		return false, nil
	}
	s.mu.Lock()
	p := s.provider
	s.mu.Unlock()
	if p == nil {
		return false, fmt.Errorf("data key %s: %w", id, ErrSealed)
	}
	new, err := p.Unwrap(ctx, w.Sealed, wrapInfo(id, w.To))
	if err != nil {
		return false, fmt.Errorf("data key %s: %w", id, err)
	}
	defer new.Wipe()
	old, err := p.Unwrap(ctx, have.Sealed, wrapInfo(id, have.To))
	if err == nil {
		defer old.Wipe()
		if s.proves(id, old, opens) || subtle.ConstantTimeCompare(old.Bytes(), new.Bytes()) == 1 {
			return false, nil
		}
	}
	if !s.proves(id, new, opens) {
		return false, nil
	}
	if err := s.cfg.Table.Erase(id, have.To); err != nil { // lost in between, it comes again with the next link
		return false, err
	}
	if err := s.cfg.Table.Put(id, w); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.held[id]; k != nil {
		k.takeAway(ErrMismatch)
		delete(s.held, id)
	}
	return true, nil
}

// proves asks whether a key opens what it is said to have sealed.
func (s *Sealer) proves(id uuid.UUID, raw Secret, opens func(*DataKey) bool) bool {
	k, err := newHeldKey(id, raw)
	if err != nil {
		return false
	}
	defer k.takeAway(ErrReleased)
	return opens(&DataKey{sealer: s, key: k})
}
