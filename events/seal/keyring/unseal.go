package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
	"github.com/holdfast-pam/holdfast/events/seal/token"
)

// Opened is a provider that has proven to hold the site's key and that nobody
// uses yet.
type Opened struct {
	provider seal.Provider
	keyring  *Keyring
}

// Name names the provider.
func (o *Opened) Name() string { return o.provider.Name() }

// Use unseals the site with it.
func (o *Opened) Use(ctx context.Context) error { return o.keyring.sealer.Unseal(ctx, o.provider) }

// Close forgets the key instead.
func (o *Opened) Close() error { return o.provider.Close() }

// NeedsSecret reports whether somebody has to enter a secret to unseal the site.
func (k *Keyring) NeedsSecret() bool { return k.needs(k.now().Current.Provider) }

func (k *Keyring) needs(kind Kind) bool {
	return kind == Passphrase || kind == Shares || kind == Token && k.cfg.PINFile == ""
}

// Open opens the site's key with what somebody entered: a passphrase, one or more
// shares a line, a PIN; nothing for a key file or a credential. The secret stays the
// caller's, to wipe. Errors: ErrNeedsSecret, ErrAbsent, [lock.ErrWrong],
// [lock.ErrTooFew] while more shares are needed (those that were given are kept),
// or what is wrong, never with the secret in it.
func (k *Keyring) Open(ctx context.Context, secret seal.Secret) (*Opened, error) {
	p, err := k.open(ctx, k.now().Current, secret, &k.pending)
	if err != nil {
		return nil, err
	}
	public, err := k.now().Current.public(k.cfg.Site)
	if err == nil {
		err = seal.CheckProvider(ctx, p, public)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &Opened{p, k}, nil
}

// open makes the provider of an entry. Shares that are not enough are added to
// pending, where that is not nil.
func (k *Keyring) open(ctx context.Context, e *Entry, secret seal.Secret, pending *[]lock.Share) (seal.Provider, error) {
	at := lock.For{Site: k.cfg.Site, Key: e.id(k.cfg.Site)}
	if k.needs(e.Provider) && secret.Len() == 0 {
		return nil, fmt.Errorf("%w (%s)", ErrNeedsSecret, e.Provider)
	}
	if e.Lock == nil && (e.Provider == Passphrase || e.Provider == Shares || e.Provider == Credential) {
		return nil, fmt.Errorf("the ring holds no locked key for provider %s; restore it from a backup", e.Provider)
	}
	switch e.Provider {
	case File:
		return k.openFile(at.Key)
	case Passphrase:
		key, err := e.Lock.OpenPassphrase(at, firstLine(secret))
		return named(key, "passphrase", err)
	case Credential:
		credential, err := k.credential()
		if err != nil {
			return nil, err
		}
		defer credential.Wipe()
		key, err := e.Lock.OpenCredential(at, credential)
		return named(key, "credential "+k.cfg.Credential, err)
	case Shares:
		return k.openShares(e.Lock, at, secret, pending)
	case Token:
		pin, err := k.pin(secret)
		if err != nil {
			return nil, err
		}
		defer pin.Wipe()
		public, err := e.public(k.cfg.Site)
		if err != nil {
			return nil, err
		}
		p, err := token.Open(ctx, k.cfg.Token, pin, e.Token, public)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	return nil, fmt.Errorf("the ring names a provider %q that this holdfast does not know", e.Provider)
}

func (k *Keyring) openFile(id uint32) (seal.Provider, error) {
	file, err := seal.OpenKeyFile(k.cfg.KeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	key, err := file.Only(id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; give the one that was made together with this site's ring", file.Name(), err)
	}
	return named(key, file.Name(), nil)
}

// credential reads what systemd handed over. Such files are root's or this
// user's; where the service manager gives access by a list, their group bits are
// the list's mask, so a group that may read is no fault.
func (k *Keyring) credential() (seal.Secret, error) {
	if k.cfg.Credential == "" {
		return seal.Secret{}, fmt.Errorf("%w: the service manager hands over no credentials (CREDENTIALS_DIRECTORY is not set); see LoadCredential= in systemd.exec(5)", ErrAbsent)
	}
	b, err := seal.ReadCredential(k.cfg.Credential)
	if errors.Is(err, fs.ErrNotExist) {
		return seal.Secret{}, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	if err != nil {
		return seal.Secret{}, fmt.Errorf("read the credential: %w", err)
	}
	return seal.NewSecret(b), nil
}

// pin is what somebody entered, or what the PIN file holds.
func (k *Keyring) pin(entered seal.Secret) (seal.Secret, error) {
	if entered.Len() > 0 {
		return seal.NewSecret(bytes.Clone(firstLine(entered).Bytes())), nil
	}
	b, err := seal.ReadFile(k.cfg.PINFile, true)
	if errors.Is(err, fs.ErrNotExist) {
		return seal.Secret{}, fmt.Errorf("%w: the PIN file: %w", ErrAbsent, err)
	}
	if err != nil {
		return seal.Secret{}, fmt.Errorf("read the PIN file: %w", err)
	}
	return seal.NewSecret(bytes.TrimRight(b, "\r\n")), nil
}

// openShares puts shares together: those given before and those entered now.
func (k *Keyring) openShares(l *lock.Lock, at lock.For, entered seal.Secret, pending *[]lock.Share) (seal.Provider, error) {
	given, err := parseShares(entered)
	if err == nil {
		for _, s := range given {
			if err = l.Check(s); err != nil {
				break
			}
		}
	}
	if err != nil {
		wipeShares(given)
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	all := given
	if pending != nil {
		all = append((*pending)[:len(*pending):len(*pending)], given...)
	}
	key, err := l.OpenShares(at, all)
	switch {
	case errors.Is(err, lock.ErrTooFew) && pending != nil:
		*pending = all
		return nil, err
	case err != nil:
		wipeShares(given)
		return nil, err
	}
	wipeShares(all)
	if pending != nil {
		*pending = nil
	}
	return named(key, fmt.Sprintf("%d of %d shares", l.Shares.Threshold, l.Shares.Count), nil)
}

func wipeShares(all []lock.Share) {
	for _, s := range all {
		s.Wipe()
	}
}

// parseShares reads one share a line.
func parseShares(entered seal.Secret) (all []lock.Share, err error) {
	for line := range bytes.Lines(entered.Bytes()) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		s, err := lock.ParseShare(line)
		if err != nil {
			wipeShares(all)
			return nil, err
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, errors.New("no share was given")
	}
	return all, nil
}

// firstLine is what was entered without its line end, in the same memory.
func firstLine(s seal.Secret) seal.Secret {
	b := s.Bytes()
	if t, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		b = bytes.TrimSuffix(t, []byte("\r"))
	}
	return seal.NewSecret(b)
}

// inMemory is a key that a lock gave, with the name of what opened it.
type inMemory struct {
	*seal.PrivateKey
	name string
}

func (m inMemory) Name() string { return m.name }

func named(key *seal.PrivateKey, name string, err error) (seal.Provider, error) {
	if err != nil {
		return nil, err
	}
	return inMemory{key, name}, nil
}
