package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
)

// Kind says where the private half of a site key is, or what opens it.
type Kind string

// The kinds of providers.
const (
	File       Kind = "file"       // in a file of its own
	Passphrase Kind = "passphrase" // under a passphrase that an administrator types
	Credential Kind = "credential" // under a credential that systemd hands over
	Shares     Kind = "shares"     // under shares that several people hold
	Token      Kind = "pkcs11"     // in a PKCS#11 token, which it never leaves
)

// Kinds lists them all.
func Kinds() []Kind { return []Kind{File, Passphrase, Credential, Shares, Token} }

// Entry is one site key.
type Entry struct {
	Provider Kind            `json:"provider"`
	Public   json.RawMessage `json:"public"`          // tink keyset
	Lock     *lock.Lock      `json:"lock,omitempty"`  // passphrase, credential, shares: the private half
	Token    []byte          `json:"token,omitempty"` // pkcs11: CKA_ID of the key in the token

	// Made is set once the private half is durable where it belongs. Nothing is
	// wrapped to a key before.
	Made bool `json:"made"`
}

func (e *Entry) public(site uuid.UUID) (*seal.PublicKey, error) {
	return seal.ParsePublicKey(site, e.Public)
}

// id is the key's id, 0 if there is none.
func (e *Entry) id(site uuid.UUID) uint32 {
	if e == nil {
		return 0
	}
	k, err := e.public(site)
	if err != nil {
		return 0
	}
	return k.Recipient().Key
}

// ring is the content of the file "ring": which site keys there are. It is
// replaced as a whole, so each step of a rekey is one rename.
type ring struct {
	Version int    `json:"version"`
	Current *Entry `json:"current"`        // data keys are wrapped to it
	Next    *Entry `json:"next,omitempty"` // a rekey leads to it: data keys are wrapped to both
	Old     *Entry `json:"old,omitempty"`  // nothing needs it any more; it is being destroyed
}

const ringVersion = 1

func readRing(path string) (*ring, error) {
	b, err := seal.ReadFile(path, false)
	if err != nil {
		return nil, fmt.Errorf("read the ring of site keys: %w", err)
	}
	r := &ring{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read %s: %w; restore it from a backup", path, err)
	}
	if r.Version != ringVersion || r.Current == nil {
		return nil, fmt.Errorf("read %s: it is not a ring of site keys of this version; restore it from a backup", path)
	}
	for _, e := range []*Entry{r.Current, r.Next, r.Old} {
		if e == nil {
			continue
		}
		if _, err := e.public(uuid.Nil); err != nil {
			return nil, fmt.Errorf("read %s: %w; restore it from a backup", path, err)
		}
	}
	return r, nil
}

func (r *ring) write(path string) error {
	r.Version = ringVersion
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = seal.ReplaceFile(path, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the ring of site keys: %w", err)
	}
	return nil
}

// adopt makes the ring of a site from before there were rings: its key is in the
// key file, the public half in site.pub.
func adopt(sitePub string, site uuid.UUID) (*ring, error) {
	public, err := seal.ReadPublicKeyFile(sitePub, site)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is neither a ring of site keys nor %s; restore the directory from a backup: %w", sitePub, err)
	}
	if err != nil {
		return nil, err
	}
	return &ring{Current: &Entry{Provider: File, Public: public.Bytes(), Made: true}}, nil
}
