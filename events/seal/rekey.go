package seal

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// LeadTo says which key a rekey leads to: from when it returns, every new data
// key is wrapped to it as well, and every one that was made before is in the
// table. Nil ends that.
func (s *Sealer) LeadTo(next *PublicKey) {
	s.making.Lock()
	defer s.making.Unlock()
	s.cfg.Next = next
}

// Switch makes the key that LeadTo named the site's own and p, which must have
// been proven (see CheckProvider), its provider. It gives the provider before,
// for the caller to close; nil if the site was sealed meanwhile, and then it
// stays so and p is closed. From when it returns, nothing new is wrapped to the
// old key.
func (s *Sealer) Switch(p Provider) (before Provider, err error) {
	s.making.Lock()
	defer s.making.Unlock()
	if s.cfg.Next == nil {
		return nil, errors.New("switch site key: no rekey is under way")
	}
	s.cfg.Site, s.cfg.Next = s.cfg.Next, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider == nil {
		return nil, p.Close()
	}
	before, s.provider = s.provider, p
	return before, nil
}

// Rewrap wraps the data key named id to the key that LeadTo named, durably, and
// reports whether it had to. Errors: ErrSealed, ErrErased, ErrNotFound (it was erased
// meanwhile), ErrNotRecipient (no wrap to this site is there, so there is
// nothing to renew), ErrMismatch (the wrap to this site doesn't open), or the
// provider's own.
func (s *Sealer) Rewrap(ctx context.Context, id uuid.UUID) (bool, error) {
	s.making.RLock() // until the new wrap is there: an erasure meanwhile must not be undone
	defer s.making.RUnlock()
	p, from, to, err := s.rekeying()
	if err == nil {
		err = s.forgotten(id)
	}
	if err != nil {
		return false, err
	}
	wraps, err := s.cfg.Table.Get(id)
	if err != nil {
		return false, err
	}
	if wrapTo(wraps, to.to) != nil {
		return false, nil
	}
	w := wrapTo(wraps, from.to)
	if w == nil {
		return false, fmt.Errorf("data key %s: %w", id, ErrNotRecipient)
	}
	raw, err := p.Unwrap(ctx, w.Sealed, wrapInfo(id, w.To))
	if err != nil {
		return false, fmt.Errorf("data key %s: %w", id, err)
	}
	defer raw.Wipe()
	renewed, err := to.Wrap(id, raw)
	if err != nil {
		return false, err
	}
	return true, s.cfg.Table.Put(id, renewed)
}

// Prove has the provider of the key that a rekey leads to open the data key
// named id from the table, and compares it with what the present one opens.
// Errors are those of Rewrap; an ErrMismatch here means that the wraps differ.
func (s *Sealer) Prove(ctx context.Context, id uuid.UUID, next Provider) error {
	s.making.RLock()
	defer s.making.RUnlock()
	p, from, to, err := s.rekeying()
	if err != nil {
		return err
	}
	wraps, err := s.cfg.Table.Get(id)
	if err != nil {
		return err
	}
	old, renewed := wrapTo(wraps, from.to), wrapTo(wraps, to.to)
	if old == nil || renewed == nil {
		return fmt.Errorf("data key %s: %w", id, ErrNotRecipient)
	}
	a, err := p.Unwrap(ctx, old.Sealed, wrapInfo(id, old.To))
	if err != nil {
		return fmt.Errorf("data key %s: %w", id, err)
	}
	defer a.Wipe()
	b, err := next.Unwrap(ctx, renewed.Sealed, wrapInfo(id, renewed.To))
	if err != nil {
		return fmt.Errorf("data key %s, under the new key: %w", id, err)
	}
	defer b.Wipe()
	if !equalSecrets(a, b) {
		return fmt.Errorf("data key %s differs under the new key: %w", id, ErrMismatch)
	}
	return nil
}

// rekeying gives the provider and both keys of a rekey; making is held.
func (s *Sealer) rekeying() (p Provider, from, to *PublicKey, err error) {
	from, to = s.cfg.Site, s.cfg.Next
	s.mu.Lock()
	p = s.provider
	s.mu.Unlock()
	switch {
	case p == nil:
		err = ErrSealed
	case to == nil:
		err = errors.New("no rekey is under way")
	}
	return p, from, to, err
}

func wrapTo(wraps []Wrap, to Recipient) *Wrap {
	for i := range wraps {
		if wraps[i].To == to {
			return &wraps[i]
		}
	}
	return nil
}
