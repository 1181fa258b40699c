package site

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// A site has two authorities, each with a key of its own.
//
// The host authority vouches for the names of targets towards people who jump.
// Its key is a file beside the host key, mode 0600 like that one, and not sealed
// under the site's key. Whoever can read either can stand in for the gateway
// towards its people, so one of them sealed would guard nothing; and a sealed
// site must still be able to tell somebody who jumps why it can't let them
// through, for which it has to prove the name first. It signs nothing but host
// certificates, and no user's certificate is ever taken on its word.
//
// The user authority signs the certificates that the site presents to targets, so
// it opens them. Its key is sealed like any secret: a sealed site signs none.

// openCA reads the keys that vouch for the names of targets, or makes the first
// one, and makes the first user authority.
func (s *Site) openCA(ctx context.Context) error {
	on := s.hostCAs()
	if len(on) == 0 {
		signer, err := loadKey("site's certificate authority", s.data.caKey(), true)
		if err != nil {
			return err
		}
		if _, err := s.commands.Do(ctx, s.actor(), commands.CreateCA{Key: authorizedKey(signer.PublicKey())}); err != nil {
			return err
		}
		on = s.hostCAs()
	}
	for i, a := range on {
		if !a.Holds(WallClock()) {
			continue
		}
		signer, err := loadKey("site's certificate authority", s.data.caKeyAt(i), false)
		if err != nil {
			return err
		}
		if authorizedKey(signer.PublicKey()) != a.Key {
			return fmt.Errorf("site's certificate authority %s is not the one on record (%s); restore it from a backup", s.data.caKeyAt(i), a.Key)
		}
		s.caKeys.Store(a.Key, signer)
	}
	var users int
	s.commands.View(func(state *aggregate.State) {
		if t, ok := state.Site(s.who.ID); ok {
			users = len(t.UserCAs())
		}
	})
	if users > 0 {
		return nil
	}
	_, err := s.RotateUserCA(ctx, s.actor(), 0, "")
	return err
}

func (s *Site) hostCAs() (all []aggregate.Authority) {
	s.commands.View(func(state *aggregate.State) {
		if t, ok := state.Site(s.who.ID); ok {
			all = t.HostCAs()
		}
	})
	return all
}

// caKeyAt is the file of the n-th host authority, from 0.
func (d data) caKeyAt(n int) string {
	if n == 0 {
		return d.caKey()
	}
	return filepath.Join(d.keys(), fmt.Sprintf("ca.%d.key", n+1))
}

// hostCA is what vouches for the names of targets now: the oldest authority that
// is still believed, since people's known_hosts may lack the later ones.
func (s *Site) hostCA() ssh.Signer {
	for _, a := range s.hostCAs() {
		if signer, ok := s.caKeys.Load(a.Key); ok && a.Holds(WallClock()) {
			return signer.(ssh.Signer)
		}
	}
	return nil
}

// RotateHostCA gives the site another key to vouch for the names of targets. The
// one before signs for as long as both are believed.
func (s *Site) RotateHostCA(ctx context.Context, by events.Actor, overlap time.Duration, reason string) (events.Record, error) {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	signer, err := loadKey("site's next certificate authority", s.data.caKeyAt(len(s.hostCAs())), true)
	if err != nil {
		return events.Record{}, err
	}
	key := authorizedKey(signer.PublicKey())
	s.caKeys.Store(key, signer)
	records, err := s.commands.Do(ctx, by, commands.RotateCA{Site: s.who.ID, Key: key, Overlap: overlap, Reason: reason})
	if err != nil {
		return events.Record{}, err
	}
	return records[0], nil
}

// RotateUserCA gives the site a key to sign user certificates with. Those before
// are used, where a target does not take the new one, for as long as both are
// believed.
func (s *Site) RotateUserCA(ctx context.Context, by events.Actor, overlap time.Duration, reason string) (events.Record, error) {
	ca, err := vault.NewCA(ctx, s.sealer)
	if err != nil {
		return events.Record{}, err
	}
	records, err := s.commands.Do(ctx, by, commands.CreateUserCA{Site: s.who.ID, CA: ca, Overlap: overlap, Reason: reason})
	if err != nil {
		return events.Record{}, errors.Join(err, s.sealer.Erase(ca.ID.UUID))
	}
	return records[0], nil
}
