// Package keyring keeps a site's keys: which there are, what unlocks them, and
// the way from one to the next (rekey).
//
// The keys directory holds the file "ring" beside the key table. The ring says,
// for each site key, the public half and where the private half is: in the key
// file, in a PKCS#11 token, or in the ring itself, locked (package lock). Where
// to look for the key file, the credential and the token is configuration and
// not in the ring, and so is what kind of provider the next rekey leads to.
//
// # Rekey
//
//	1  the new key is in the ring, not made      2  its private half is durable, and the ring says so
//	3  new data keys are wrapped to both         4  each older one is wrapped to the new key as well
//	5  the new key proves that it opens them all 6  the ring makes it the current one
//	7  wraps to the old key are erased           8  its private half is destroyed, and the ring forgets it
//
// A process killed between any two of them leaves a site that opens everything
// with the key that the ring calls current, and the next Rekey goes on where
// that one ended.
package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
	"github.com/holdfast-pam/holdfast/events/seal/token"
)

var (
	// ErrNeedsSecret says that the provider opens with something that only a person has.
	ErrNeedsSecret = errors.New("the site's key opens with a secret that somebody has to enter")
	// ErrAbsent says that what holds the key is not at hand: no key file, no credential, no token.
	ErrAbsent = errors.New("what holds the site's key is not at hand")
	// ErrBusy says that a rekey, or a backup, is under way.
	ErrBusy = errors.New("another rekey or a backup is under way; try again when it is done")
)

// Config of a Keyring.
type Config struct {
	Dir  string // the keys directory
	Site uuid.UUID

	Provider   Kind          // what a new site and the next rekey use
	KeyFile    string        // of kind File
	Credential string        // file that holds the credential; empty where systemd hands none over
	Threshold  int           // of kind Shares: how many are needed
	Count      int           // and how many are made
	Cost       lock.Argon2id // of kind Passphrase: of one guess; zero to find it here
	Token      token.Config
	PINFile    string // of kind Token; empty where somebody enters the PIN
}

// Keyring is the keys of a site. Safe for concurrent use.
type Keyring struct {
	cfg    Config
	table  *seal.KeyTable
	sealer *seal.Sealer

	rekey sync.RWMutex // held for the length of a rekey; for reading, by who needs that there is none

	mu      sync.Mutex // guards the rest
	ring    *ring
	pending []lock.Share // given and not enough yet

	step func(string) // told of each step of a rekey; tests stop there
}

func (c *Config) ringFile() string { return filepath.Join(c.Dir, "ring") }
func (c *Config) table() string    { return filepath.Join(c.Dir, "table") }

// Create makes what a new site needs and an interrupted first start left out. A
// provider that needs somebody to enter a secret can't be had yet: then the first
// key is in a key file, and the first rekey leads away from it.
func Create(ctx context.Context, cfg Config) error {
	if _, err := os.Stat(cfg.ringFile()); errors.Is(err, fs.ErrNotExist) {
		kind := cfg.Provider
		if kind == Passphrase || kind == Shares || kind == Token && cfg.PINFile == "" {
			kind = File
		}
		if err := createRing(ctx, cfg, kind); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("make the ring of site keys: %w", err)
	}
	if err := seal.CreateKeyTable(cfg.table()); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func createRing(ctx context.Context, cfg Config, kind Kind) error {
	if kind == File {
		key, err := seal.CreateKeyFile(cfg.KeyFile)
		if errors.Is(err, fs.ErrExist) { // brought along, or left by an interrupted start
			key, err = seal.OpenKeyFile(cfg.KeyFile)
		}
		if err != nil {
			return err
		}
		public, err := key.Public(cfg.Site)
		if err = errors.Join(err, key.Close()); err != nil {
			return err
		}
		return (&ring{Current: &Entry{Provider: File, Public: public.Bytes(), Made: true}}).write(cfg.ringFile())
	}
	k := &Keyring{cfg: cfg, step: func(string) {}}
	made, err := k.make(ctx, kind, seal.Secret{})
	if err != nil {
		return err
	}
	defer made.wipe()
	if err := made.store(ctx); err != nil {
		return err
	}
	made.entry.Made = true
	return (&ring{Current: made.entry}).write(cfg.ringFile())
}

// Open opens the ring and the key table. The site is sealed until Unseal.
func Open(cfg Config) (*Keyring, error) {
	k := &Keyring{cfg: cfg, step: func(string) {}}
	var err error
	if k.ring, err = readRing(cfg.ringFile()); errors.Is(err, fs.ErrNotExist) {
		k.ring, err = adopt(filepath.Join(cfg.Dir, "site.pub"), cfg.Site)
	}
	if err != nil {
		return nil, err
	}
	sealing := seal.Config{}
	if sealing.Site, err = k.ring.Current.public(cfg.Site); err != nil {
		return nil, err
	}
	if next := k.ring.Next; next != nil && next.Made {
		if sealing.Next, err = next.public(cfg.Site); err != nil {
			return nil, err
		}
	}
	if sealing.Table, err = seal.OpenKeyTable(cfg.table(), seal.TableOptions{}); err != nil {
		return nil, err
	}
	k.table = sealing.Table
	if k.sealer, err = seal.NewSealer(sealing); err != nil {
		return nil, errors.Join(err, k.table.Close())
	}
	return k, nil
}

// Close seals the site and closes the key table.
func (k *Keyring) Close() error { return errors.Join(k.Seal(), k.table.Close()) }

// Hold waits for a rekey that is under way to pause or end, and keeps another one
// from going on until the function that it gives is called.
func (k *Keyring) Hold() (letGo func()) {
	k.rekey.RLock()
	return k.rekey.RUnlock
}

// Sealer makes and finds data keys.
func (k *Keyring) Sealer() *seal.Sealer { return k.sealer }

// Status says how the site's key is kept.
type Status struct {
	Sealed     bool   `json:"sealed"`
	Provider   Kind   `json:"provider"`   // of the site's key
	Holder     string `json:"holder"`     // what opened it; empty while sealed
	Configured Kind   `json:"configured"` // what the next rekey leads to
	Key        string `json:"key"`        // id of the site's key
	Public     []byte `json:"public"`     // tink keyset
	DataKeys   int    `json:"data_keys"`
	Given      int    `json:"given,omitempty"`  // shares entered and not enough yet
	Needed     int    `json:"needed,omitempty"` // shares that open the key
	Rekey      string `json:"rekey,omitempty"`  // what an unfinished rekey is at
	Next       string `json:"next,omitempty"`   // id of the key that it leads to
	NextKind   Kind   `json:"next_provider,omitempty"`
	Needs      int    `json:"next_needed,omitempty"` // shares that open the next key
}

// Status tells how the keys are.
func (k *Keyring) Status() Status {
	s := Status{Sealed: k.sealer.Sealed(), Holder: k.sealer.Provider(), Configured: k.cfg.Provider}
	for range k.table.Keys() {
		s.DataKeys++
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s.Provider, s.Public = k.ring.Current.Provider, k.ring.Current.Public
	s.Key = keyName(k.ring.Current.id(k.cfg.Site))
	if l := k.ring.Current.Lock; l != nil && l.Shares != nil {
		s.Given, s.Needed = len(k.pending), l.Shares.Threshold
	}
	if n := k.ring.Next; n != nil {
		s.Rekey, s.Next, s.NextKind = "wrapping data keys to the new key", keyName(n.id(k.cfg.Site)), n.Provider
		if n.Lock != nil && n.Lock.Shares != nil {
			s.Needs = n.Lock.Shares.Threshold
		}
	}
	if k.ring.Old != nil {
		s.Rekey = "destroying the old key"
	}
	return s
}

func keyName(id uint32) string { return fmt.Sprintf("%08x", id) }

// Seal closes the provider, overwrites its key, takes loaded data keys away, and
// forgets shares that were given.
func (k *Keyring) Seal() error {
	k.mu.Lock()
	for _, s := range k.pending {
		s.Wipe()
	}
	k.pending = nil
	k.mu.Unlock()
	return k.sealer.Seal()
}

// save puts a changed ring in place, on disk and here. mu is not held.
func (k *Keyring) save(change func(r *ring)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := *k.ring
	change(&next)
	if err := next.write(k.cfg.ringFile()); err != nil {
		return err
	}
	k.ring = &next
	return nil
}

func (k *Keyring) now() ring {
	k.mu.Lock()
	defer k.mu.Unlock()
	return *k.ring
}

// KeyID is the id of the site's key.
func (k *Keyring) KeyID() uint32 { return k.now().Current.id(k.cfg.Site) }

// Published wants the site's key to be the one on record, or the one that the
// record says a rekey leads to. An error means that somebody changed the ring.
func (k *Keyring) Published(current, next []byte) error {
	r := k.now()
	ours := compact(r.Current.Public)
	if bytes.Equal(ours, compact(current)) || len(next) > 0 && bytes.Equal(ours, compact(next)) {
		return nil
	}
	return fmt.Errorf("the ring of site keys names key %08x, which the site never published", r.Current.id(k.cfg.Site))
}

// compact gives a keyset's JSON without spaces, as it may have been indented.
func compact(b []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return nil
	}
	return out.Bytes()
}

// RekeyNeedsSecret reports whether somebody has to enter something for the next
// step of a rekey, and of what kind of provider: the new key's, or that of an old
// key which has still to be destroyed.
func (k *Keyring) RekeyNeedsSecret() (bool, Kind) {
	r := k.now()
	switch {
	case r.Old != nil:
		return r.Old.Provider == Token && k.needs(Token), r.Old.Provider
	case r.Next != nil && r.Next.Made:
		return k.needs(r.Next.Provider), r.Next.Provider
	}
	return k.needs(k.cfg.Provider) && k.cfg.Provider != Shares, k.cfg.Provider
}
