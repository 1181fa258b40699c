package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
	"github.com/holdfast-pam/holdfast/events/seal/token"
)

// Change is a step from one site key to the next.
type Change struct {
	From, To []byte // public halves, tink keysets
	FromID   uint32
	ToID     uint32
	FromKind Kind
	ToKind   Kind
	DataKeys int // that the new key opens
	Unopened int // that the old key could not open either
}

// Journal makes the steps of a rekey known before they have an effect outside
// the ring. Each may be told more than once.
type Journal interface {
	Began(ctx context.Context, c Change) error     // the new key exists; data keys are going to be wrapped to it
	Finished(ctx context.Context, c Change) error  // the new key is the site's key
	Abandoned(ctx context.Context, c Change) error // the new key is given up
	Destroyed(ctx context.Context, c Change) error // the old key's private half is gone
}

// Stage is how far a call of Rekey came.
type Stage string

const (
	// Unproven: every data key is wrapped to the new key too, and the secret that
	// opens the new key has to be entered before the old one is let go.
	Unproven Stage = "unproven"
	// Finished: the new key is the site's, and the old one is destroyed.
	Finished Stage = "finished"
	// Abandoned: the site's key is the old one, and the new one is destroyed.
	Abandoned Stage = "abandoned"
)

// Rekeyed is what a call of Rekey did.
type Rekeyed struct {
	Change
	Stage  Stage
	Shares []lock.Share // of the new key; given once, for the caller to show and wipe
}

// Progress is told how many of a step's data keys are done.
type Progress func(step string, done, total int)

// workers share the syncs of the key table.
const workers = 32

// Rekey makes a new site key of the configured kind, wraps every data key to it,
// lets it prove that it opens them all, and destroys the old one. A rekey that
// was interrupted is gone on with, of whatever kind it was.
//
// secret is what opens the new key: a new passphrase, the PIN; for shares nothing
// at first, and in a second call enough of them, to prove that people have them.
// It stays the caller's. Errors: [seal.ErrSealed], ErrBusy, ErrNeedsSecret,
// [lock.ErrWrong], or what failed; the site then opens everything as before.
func (k *Keyring) Rekey(ctx context.Context, secret seal.Secret, j Journal, progress Progress) (*Rekeyed, error) {
	if !k.rekey.TryLock() {
		return nil, ErrBusy
	}
	defer k.rekey.Unlock()
	if r := k.now(); r.Old != nil {
		return k.finish(ctx, secret, j, progress)
	}
	if k.sealer.Sealed() {
		return nil, seal.ErrSealed
	}
	out := &Rekeyed{Stage: Unproven}
	if r := k.now(); r.Next == nil || !r.Next.Made {
		shares, err := k.begin(ctx, secret)
		if err != nil {
			return nil, err
		}
		out.Shares = shares
	}
	if err := k.carry(ctx, out, secret, j, progress); err != nil {
		return out, err
	}
	return out, nil
}

// carry takes a rekey from where it stands to its end, or to where it needs a
// secret.
func (k *Keyring) carry(ctx context.Context, out *Rekeyed, secret seal.Secret, j Journal, progress Progress) error {
	var err error
	if out.Change, err = k.change(); err != nil {
		return err
	}
	next, err := k.now().Next.public(k.cfg.Site)
	if err != nil {
		return err
	}
	if err := j.Began(ctx, out.Change); err != nil {
		return err
	}
	k.step("began")
	k.sealer.LeadTo(next)
	if err := k.rewrap(ctx, &out.Change, progress); err != nil {
		return err
	}
	k.step("wrapped")
	if out.Shares != nil || out.ToKind == Shares && secret.Len() == 0 {
		return nil // they prove themselves in a call of their own
	}
	p, err := k.open(ctx, k.now().Next, secret, nil)
	if err != nil {
		return fmt.Errorf("prove the new key: %w", err)
	}
	if err := k.prove(ctx, p, next, &out.Change, progress); err != nil {
		return errors.Join(err, p.Close())
	}
	k.step("proven")
	if err := k.save(func(r *ring) { r.Current, r.Next, r.Old = r.Next, nil, r.Current }); err != nil {
		return errors.Join(err, p.Close())
	}
	k.step("switched")
	before, err := k.sealer.Switch(p)
	if err != nil {
		return err
	}
	if before != nil {
		defer before.Close()
	}
	if err := j.Finished(ctx, out.Change); err != nil {
		return err
	}
	k.step("told")
	destroy := func() error { return k.destroy(ctx, k.now().Old, secret) }
	if t, ok := before.(*token.Provider); ok { // it is logged in, and secret is not its PIN
		destroy = func() error { return t.Destroy(ctx) }
	}
	if err := k.clean(ctx, destroy, j, out.Change, progress); err != nil {
		return fmt.Errorf("the new key is in use, but the old one is not destroyed yet; rekey again: %w", err)
	}
	out.Stage = Finished
	return nil
}

// finish destroys the old key of a rekey that was interrupted after its switch.
func (k *Keyring) finish(ctx context.Context, secret seal.Secret, j Journal, progress Progress) (*Rekeyed, error) {
	c, err := k.change()
	if err != nil {
		return nil, err
	}
	if err := j.Finished(ctx, c); err != nil {
		return nil, err
	}
	destroy := func() error { return k.destroy(ctx, k.now().Old, secret) }
	if err := k.clean(ctx, destroy, j, c, progress); err != nil {
		return nil, err
	}
	return &Rekeyed{Change: c, Stage: Finished}, nil
}

// Unfinished reports whether the last rekey has still to destroy the old key.
func (k *Keyring) Unfinished() bool { return k.now().Old != nil }

// change describes the rekey that the ring holds.
func (k *Keyring) change() (c Change, err error) {
	r := k.now()
	from, to := r.Current, r.Next
	if r.Old != nil {
		from, to = r.Old, r.Current
	}
	if to == nil {
		return c, errors.New("no rekey is under way")
	}
	return Change{From: from.Public, To: to.Public, FromID: from.id(k.cfg.Site), ToID: to.id(k.cfg.Site), FromKind: from.Provider, ToKind: to.Provider}, nil
}

// begin makes the new key durable and puts it into the ring.
func (k *Keyring) begin(ctx context.Context, secret seal.Secret) ([]lock.Share, error) {
	if left := k.now().Next; left != nil { // not made: nothing was ever wrapped to it
		if err := k.destroy(ctx, left, secret); err != nil {
			return nil, err
		}
	}
	made, err := k.make(ctx, k.cfg.Provider, secret)
	if err != nil {
		return nil, err
	}
	defer made.wipe()
	if err := k.save(func(r *ring) { r.Next = made.entry }); err != nil {
		return nil, err
	}
	k.step("chosen")
	if err := made.store(ctx); err != nil {
		return nil, err
	}
	k.step("stored")
	ready := *made.entry
	ready.Made = true
	if err := k.save(func(r *ring) { r.Next = &ready }); err != nil {
		return nil, err
	}
	k.step("made")
	shares := made.shares
	made.shares = nil
	return shares, nil
}

// made is a new key that is in no lasting place yet.
type made struct {
	entry  *Entry
	key    *seal.PrivateKey // nil in a token
	shares []lock.Share
	store  func(context.Context) error
}

func (m *made) wipe() {
	wipeShares(m.shares)
	if m.key != nil {
		_ = m.key.Close() // it gives memory back, which changes nothing about the key
	}
}

// make draws a new key of a kind. A key in a token is in its place at once.
func (k *Keyring) make(ctx context.Context, kind Kind, secret seal.Secret) (_ *made, err error) {
	m := &made{entry: &Entry{Provider: kind}, store: func(context.Context) error { return nil }}
	if kind == Token {
		return m, k.makeInToken(ctx, m, secret)
	}
	if k.needs(kind) && kind != Shares && secret.Len() == 0 {
		return nil, fmt.Errorf("%w (%s)", ErrNeedsSecret, kind)
	}
	if kind == Shares && secret.Len() > 0 {
		return nil, errors.New("there is no new key yet that shares could open; begin without them, the shares are shown then")
	}
	if m.key, err = seal.GeneratePrivateKey(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.wipe()
		}
	}()
	public, err := m.key.Public(k.cfg.Site)
	if err != nil {
		return nil, err
	}
	m.entry.Public = public.Bytes()
	at := lock.For{Site: k.cfg.Site, Key: public.Recipient().Key}
	scalar, err := m.key.Scalar(at.Key)
	if err != nil {
		return nil, err
	}
	defer scalar.Wipe()
	switch kind {
	case File:
		m.store = func(context.Context) error {
			r := ring{}
			if k.ring != nil {
				r = k.now()
			}
			return seal.AddToKeyFile(k.cfg.KeyFile, m.key, r.Current.id(k.cfg.Site), r.Next.id(k.cfg.Site), r.Old.id(k.cfg.Site))
		}
	case Passphrase:
		cost := k.cfg.Cost
		if cost == (lock.Argon2id{}) {
			cost = lock.Calibrate()
		}
		m.entry.Lock, err = lock.ByPassphrase(at, scalar, firstLine(secret), cost)
	case Credential:
		var credential seal.Secret
		if credential, err = k.credential(); err == nil {
			m.entry.Lock, err = lock.ByCredential(at, scalar, credential)
			credential.Wipe()
		}
	case Shares:
		m.entry.Lock, m.shares, err = lock.ByShares(at, scalar, k.cfg.Threshold, k.cfg.Count)
	default:
		err = fmt.Errorf("provider %q is not known", kind)
	}
	return m, err
}

func (k *Keyring) makeInToken(ctx context.Context, m *made, secret seal.Secret) error {
	if k.needs(Token) && secret.Len() == 0 {
		return fmt.Errorf("%w (%s)", ErrNeedsSecret, Token)
	}
	pin, err := k.pin(secret)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	m.entry.Token = make([]byte, 16)
	_, _ = rand.Read(m.entry.Token)
	id := max(1, binary.BigEndian.Uint32(m.entry.Token))
	public, err := token.CreateKey(ctx, k.cfg.Token, pin, m.entry.Token, k.cfg.Site, id)
	if err != nil {
		return err
	}
	m.entry.Public = public.Bytes()
	return nil
}

// rewrap gives every data key a wrap to the new key. Those that the old key can't
// open either stay as they are and are counted.
func (k *Keyring) rewrap(ctx context.Context, c *Change, progress Progress) error {
	var unopened atomic.Int64
	err := k.each(ctx, "wrapping", progress, func(ctx context.Context, id uuid.UUID) error {
		renewed, err := k.sealer.Rewrap(ctx, id)
		switch {
		case errors.Is(err, seal.ErrErased), errors.Is(err, seal.ErrNotFound), errors.Is(err, seal.ErrNotRecipient):
			return nil
		case errors.Is(err, seal.ErrMismatch):
			unopened.Add(1)
			return nil
		case renewed:
			k.step("one")
		}
		return err
	})
	c.Unopened = int(unopened.Load())
	return err
}

// prove has the new key open everything that the old one opens.
func (k *Keyring) prove(ctx context.Context, p seal.Provider, public *seal.PublicKey, c *Change, progress Progress) error {
	if err := seal.CheckProvider(ctx, p, public); err != nil {
		return fmt.Errorf("prove the new key: %w", err)
	}
	var proven atomic.Int64
	err := k.each(ctx, "proving", progress, func(ctx context.Context, id uuid.UUID) error {
		err := k.sealer.Prove(ctx, id, p)
		switch {
		case err == nil:
			proven.Add(1)
		case errors.Is(err, seal.ErrNotFound), errors.Is(err, seal.ErrNotRecipient):
			return nil
		}
		return err
	})
	c.DataKeys = int(proven.Load())
	return err
}

// clean erases the wraps to the old key and destroys it. Only a data key that is
// wrapped to the present key loses the older wrap.
func (k *Keyring) clean(ctx context.Context, destroy func() error, j Journal, c Change, progress Progress) error {
	old, err := k.now().Old.public(k.cfg.Site)
	if err != nil {
		return err
	}
	current, err := k.now().Current.public(k.cfg.Site)
	if err != nil {
		return err
	}
	err = k.each(ctx, "erasing old wraps", progress, func(_ context.Context, id uuid.UUID) error {
		return k.eraseWrap(id, old.Recipient(), current.Recipient())
	})
	if err != nil {
		return err
	}
	k.step("erased")
	if err := destroy(); err != nil {
		return err
	}
	k.step("destroyed")
	if err := j.Destroyed(ctx, c); err != nil {
		return err
	}
	return k.save(func(r *ring) { r.Old = nil })
}

// eraseWrap erases a data key's wrap to one recipient if there is one to another.
func (k *Keyring) eraseWrap(id uuid.UUID, from, keeps seal.Recipient) error {
	wraps, err := k.table.Get(id)
	if errors.Is(err, seal.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	has := func(to seal.Recipient) bool {
		return slices.ContainsFunc(wraps, func(w seal.Wrap) bool { return w.To == to })
	}
	if !has(from) || !has(keeps) {
		return nil
	}
	return k.table.Erase(id, from)
}

// destroy removes a private half from where it is kept. What the ring itself
// holds goes with its entry.
func (k *Keyring) destroy(ctx context.Context, e *Entry, secret seal.Secret) error {
	switch e.Provider {
	case File:
		return seal.DropFromKeyFile(k.cfg.KeyFile, e.id(k.cfg.Site))
	case Token:
		pin, err := k.pin(secret)
		if err != nil {
			return err
		}
		defer pin.Wipe()
		if pin.Len() == 0 {
			return fmt.Errorf("destroy the key in the token: %w (%s)", ErrNeedsSecret, Token)
		}
		return token.DestroyKey(ctx, k.cfg.Token, pin, e.Token)
	}
	return nil
}

// Abandon gives a rekey up that has not switched keys yet: the wraps to the new
// key are erased and it is destroyed.
func (k *Keyring) Abandon(ctx context.Context, secret seal.Secret, j Journal, progress Progress) (*Rekeyed, error) {
	if !k.rekey.TryLock() {
		return nil, ErrBusy
	}
	defer k.rekey.Unlock()
	r := k.now()
	if r.Next == nil {
		return nil, errors.New("no rekey is under way that could be abandoned")
	}
	c, err := k.change()
	if err != nil {
		return nil, err
	}
	from, err := r.Current.public(k.cfg.Site)
	if err != nil {
		return nil, err
	}
	next, err := r.Next.public(k.cfg.Site)
	if err != nil {
		return nil, err
	}
	if err := j.Abandoned(ctx, c); err != nil {
		return nil, err
	}
	k.sealer.LeadTo(nil)
	err = k.each(ctx, "erasing new wraps", progress, func(_ context.Context, id uuid.UUID) error {
		return k.eraseWrap(id, next.Recipient(), from.Recipient())
	})
	if err == nil {
		err = k.destroy(ctx, r.Next, secret)
	}
	if err == nil {
		err = k.save(func(r *ring) { r.Next = nil })
	}
	if err != nil {
		return nil, err
	}
	return &Rekeyed{Change: c, Stage: Abandoned}, nil
}

// each runs do for every data key in the table, several at once.
func (k *Keyring) each(ctx context.Context, step string, progress Progress, do func(context.Context, uuid.UUID) error) error {
	ids := slices.Collect(k.table.Keys())
	var mu sync.Mutex
	done := 0
	work, running := errgroup.WithContext(ctx)
	work.SetLimit(workers)
	for _, id := range ids {
		if running.Err() != nil {
			break
		}
		work.Go(func() error {
			if err := do(running, id); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			progress(step, done, len(ids))
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// WriteShares writes the shares of a new key, one a line.
func WriteShares(w io.Writer, all []lock.Share) error {
	for _, s := range all {
		text := s.Text()
		line := append(bytes.Clone(text.Bytes()), '\n')
		text.Wipe()
		_, err := w.Write(line)
		clear(line)
		if err != nil {
			return fmt.Errorf("write share %d: %w", s.Index, err)
		}
	}
	return nil
}
