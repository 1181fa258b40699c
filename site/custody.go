package site

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// sharedKey is a wrapped data key on its way to a custodian.
type sharedKey struct {
	ID   uuid.UUID `json:"id"`
	Wrap seal.Wrap `json:"wrap"`
}

// maxSharedKey bounds the JSON of one.
const maxSharedKey = 4096

// custodians are the other sites that may open credentials and recordings.
func (s *Site) custodians() map[events.SiteID]*seal.PublicKey {
	out := map[events.SiteID]*seal.PublicKey{}
	s.commands.View(func(state *aggregate.State) {
		for _, m := range state.MeshSites() {
			if m.Site == s.who.ID || !m.Custodian || state.Fenced(m.Site) || state.Left(m.Site) || state.Left(s.who.ID) {
				continue
			}
			current := m.SealingKey
			if t, ok := state.Site(m.Site); ok && len(t.SealingKey()) > 0 {
				current = t.SealingKey() // it has rekeyed since
			}
			key, err := seal.ParsePublicKey(m.Site.UUID, current)
			if err != nil {
				s.log.Error("the sealing key of a custodian can't be used; nothing is entrusted to it", "site", m.Name, "error", err)
				continue
			}
			out[m.Site] = key
		}
	})
	return out
}

// entrust has new data keys wrapped to the custodians, and told to them.
func (s *Site) entrust(ctx context.Context) {
	all := s.custodians()
	var keys []*seal.PublicKey
	for _, k := range all {
		keys = append(keys, k)
	}
	s.sealer.Entrust(keys, s.madeKey)
	for site := range all {
		s.background.Go(func() { s.shareKeys(ctx, site) })
	}
}

// madeKey tells the custodians of a new data key.
func (s *Site) madeKey(id uuid.UUID) {
	select {
	case s.newKeys <- id:
	default: // they get all of them when they are met next
		s.log.Warn("data keys are made faster than custodians can be told", "key", id.String())
	}
}

// tellNewKeys passes new data keys on until ctx ends.
func (s *Site) tellNewKeys(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-s.newKeys:
			for site, key := range s.custodians() {
				s.send(ctx, site, key, []uuid.UUID{id})
			}
		}
	}
}

// shareKeys sends a custodian every data key that this site can open.
func (s *Site) shareKeys(ctx context.Context, site events.SiteID) {
	key := s.custodians()[site]
	if key == nil {
		return
	}
	var batch []uuid.UUID
	for id := range s.sealer.KeyIDs() {
		if batch = append(batch, id); len(batch) == mesh.MaxWraps {
			s.send(ctx, site, key, batch)
			batch = nil
		}
	}
	s.send(ctx, site, key, batch)
}

func (s *Site) send(ctx context.Context, site events.SiteID, key *seal.PublicKey, ids []uuid.UUID) {
	var out [][]byte
	for _, id := range ids {
		w, err := s.sealer.WrapFor(ctx, id, key)
		switch {
		case errors.Is(err, seal.ErrNotRecipient), errors.Is(err, seal.ErrNotFound):
			continue // not this site's to give, or erased
		case errors.Is(err, seal.ErrSealed):
			continue // once it is unsealed and meets the custodian again
		case err != nil:
			s.log.Error("a data key can't be wrapped for a custodian", "key", id.String(), "site", site.String(), "error", err)
			continue
		}
		b, err := json.Marshal(sharedKey{id, w})
		if err != nil {
			s.log.Error("a data key can't be sent", "key", id.String(), "error", err)
			continue
		}
		out = append(out, b)
	}
	if n := s.node(); n != nil && len(out) > 0 {
		n.SendWraps(site, out)
	}
}

// acceptKeys keeps the data keys that a member wrapped for this site.
// Who is known to be no custodian has none to give.
func (s *Site) acceptKeys(ctx context.Context, in mesh.GotWraps) {
	custodian := true
	s.commands.View(func(state *aggregate.State) {
		if m, known := state.MeshSite(in.Site); known {
			custodian = m.Custodian
		}
	})
	if !custodian {
		s.log.Warn("refused from the mesh", "site", in.Site.String(), "what", "data keys of a site that is no custodian")
		return
	}
	for _, b := range in.Keys {
		var k sharedKey
		if len(b) > maxSharedKey || json.Unmarshal(b, &k) != nil {
			s.log.Warn("refused from the mesh", "site", in.Site.String(), "what", "a data key that can't be read")
			continue
		}
		_, err := s.sealer.Accept(ctx, k.ID, k.Wrap)
		if errors.Is(err, seal.ErrOtherWrap) {
			err = s.contestKey(ctx, in.Site, k)
		}
		if err != nil && !errors.Is(err, seal.ErrSealed) { // it comes again with the next link
			s.log.Warn("refused from the mesh", "site", in.Site.String(), "what", "a data key", "error", err)
		}
	}
}

// contestKey finds out which of two wraps of a credential's data key is the right
// one, once: that which opens a version of its secret.
func (s *Site) contestKey(ctx context.Context, from events.SiteID, k sharedKey) error {
	if _, proven := s.provenKeys.Load(k.ID); proven {
		return nil
	}
	var versions []vault.Sealed
	s.commands.View(func(state *aggregate.State) {
		id := events.CredentialID{UUID: k.ID}
		if c, ok := state.Credential(id); ok {
			for _, v := range c.Versions() {
				if sealed, ok := commands.Sealed(state, id, v.ID); ok {
					versions = append(versions, sealed)
				}
			}
		}
	})
	if len(versions) == 0 {
		return nil // nothing here tells
	}
	replaced, err := s.sealer.Contest(ctx, k.ID, k.Wrap, func(key *seal.DataKey) bool {
		opens := slices.ContainsFunc(versions, func(v vault.Sealed) bool { return vault.Opens(key, v) })
		if opens {
			s.provenKeys.Store(k.ID, true)
		}
		return opens
	})
	if replaced {
		s.log.Error("a member had sent a wrong data key for a credential; the right one has come and takes its place",
			"credential", k.ID.String(), "from", from.String())
	}
	return err
}
