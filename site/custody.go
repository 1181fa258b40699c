package site

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

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

// eachCustodian calls f with the other sites that may open what is sealed from now
// on: credentials, recordings, authorities, second factors. In a View.
func (s *Site) eachCustodian(state *aggregate.State, f func(m *aggregate.MeshSite)) {
	if state.Left(s.who.ID) {
		return
	}
	for _, m := range state.MeshSites() {
		if m.Site != s.who.ID && state.Custodian(m.Site) {
			f(m)
		}
	}
}

// custodians are those sites with their keys.
func (s *Site) custodians() map[events.SiteID]*seal.PublicKey {
	out := map[events.SiteID]*seal.PublicKey{}
	s.commands.View(func(state *aggregate.State) {
		s.eachCustodian(state, func(m *aggregate.MeshSite) {
			current := m.SealingKey
			if t, ok := state.Site(m.Site); ok && len(t.SealingKey()) > 0 {
				current = t.SealingKey() // it has rekeyed since
			}
			key, err := seal.ParsePublicKey(m.Site.UUID, current)
			if err != nil {
				s.log.Error("the sealing key of a custodian can't be used; nothing is entrusted to it", "site", m.Name, "error", err)
				return
			}
			out[m.Site] = key
		})
	})
	return out
}

// custodianIDs names them, in order.
func (s *Site) custodianIDs() (all []events.SiteID) {
	s.commands.View(func(state *aggregate.State) {
		s.eachCustodian(state, func(m *aggregate.MeshSite) { all = append(all, m.Site) })
	})
	return all
}

// entrust has every data key that there is told to whoever is a custodian now.
func (s *Site) entrust(ctx context.Context) {
	s.sealer.Entrust(func() []*seal.PublicKey { return slices.Collect(maps.Values(s.custodians())) }, s.madeKey)
	for _, site := range s.custodianIDs() {
		s.share(ctx, site, 0)
	}
}

// madeKey tells the custodians of a new data key.
func (s *Site) madeKey(id uuid.UUID) {
	if s.cfg.Mesh.Pair != "" && slices.ContainsFunc(s.pair(), func(site events.SiteID) bool { return slices.Contains(s.custodianIDs(), site) }) {
		s.pairKeys.made(id)
	}
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
			for _, site := range s.custodianIDs() {
				s.send(ctx, site, []uuid.UUID{id})
			}
		}
	}
}

// share sends a custodian all data keys in the background, after a while: once more
// after that, where it is called for meanwhile.
func (s *Site) share(ctx context.Context, site events.SiteID, after time.Duration) {
	s.sharing.mu.Lock()
	defer s.sharing.mu.Unlock()
	if next, under := s.sharing.next[site]; under {
		if next == nil || after < *next {
			s.sharing.next[site] = &after
		}
		return
	}
	s.sharing.next[site] = nil
	s.background.Go(func() {
		for next := &after; next != nil; {
			_ = sleep(ctx, *next) // at its end the site closes anyway
			s.shareKeys(ctx, site)
			s.sharing.mu.Lock()
			if next = s.sharing.next[site]; next != nil && ctx.Err() == nil {
				s.sharing.next[site] = nil
			} else {
				next = nil
				delete(s.sharing.next, site)
			}
			s.sharing.mu.Unlock()
		}
	})
}

// sharing says with which sites keys are being shared, and after what time they are to
// get all of them once more: nil for not.
type sharing struct {
	mu   sync.Mutex
	next map[events.SiteID]*time.Duration
}

func newSharing() *sharing { return &sharing{next: map[events.SiteID]*time.Duration{}} }

// shareKeys sends a custodian every data key that this site can open.
func (s *Site) shareKeys(ctx context.Context, site events.SiteID) {
	var batch []uuid.UUID
	for id := range s.sealer.KeyIDs() {
		if batch = append(batch, id); len(batch) == mesh.MaxWraps {
			s.send(ctx, site, batch)
			batch = nil
		}
	}
	s.send(ctx, site, batch)
}

// send gives a site data keys that are in the table, if it is a custodian. It looks
// whether it is one after it knows which keys, and says with them who was known to be
// none any more: whoever holds a key so knows all that its maker knew of that, and
// gives it to nobody whom the maker would not have given it.
func (s *Site) send(ctx context.Context, site events.SiteID, ids []uuid.UUID) {
	key := s.custodians()[site]
	if key == nil || len(ids) == 0 {
		return
	}
	var out mesh.Wraps
	s.commands.View(func(state *aggregate.State) { out.After = state.Partings() })
	if n := len(out.After); n > mesh.MaxAfter {
		out.After = out.After[n-mesh.MaxAfter:]
	}
	for _, id := range ids {
		w, err := s.sealer.WrapFor(ctx, id, key)
		switch {
		case errors.Is(err, seal.ErrNotRecipient), errors.Is(err, seal.ErrNotFound), errors.Is(err, seal.ErrErased):
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
		out.Keys = append(out.Keys, b)
	}
	if n := s.node(); n != nil && len(out.Keys) > 0 {
		n.SendWraps(site, out)
	}
}

// maxWaiting bounds the messages of one site with data keys that wait for what they
// name.
const maxWaiting = 64

// waitingKeys are data keys that came before what their sender knew, by sender.
type waitingKeys struct {
	mu   sync.Mutex
	got  map[events.SiteID][]mesh.Wraps
	owed map[events.SiteID]bool // who is to send its keys again, since there was no room
}

func newWaitingKeys() *waitingKeys {
	return &waitingKeys{got: map[events.SiteID][]mesh.Wraps{}, owed: map[events.SiteID]bool{}}
}

// acceptKeys keeps the data keys that a member wrapped for this site, once it has
// applied what they name. Until then it would not know of a site that must not get
// them. No keys at all ask for all of this site's.
func (s *Site) acceptKeys(ctx context.Context, in mesh.GotWraps) {
	switch {
	case len(in.Keys) == 0 && len(in.Want) > 0:
		s.giveKeys(ctx, in.Site, in.Want)
		return
	case len(in.Keys) == 0:
		s.share(ctx, in.Site, giveEvery) // it may ask in a loop
		return
	}
	s.waiting.mu.Lock()
	if len(s.waiting.got[in.Site]) < maxWaiting {
		s.waiting.got[in.Site] = append(s.waiting.got[in.Site], in.Wraps)
	} else {
		s.waiting.owed[in.Site] = true
	}
	s.waiting.mu.Unlock()
	s.acceptWaiting(ctx)
}

// acceptWaiting keeps the data keys that have waited long enough, and asks for those
// that found no room. It is called whenever something was applied.
func (s *Site) acceptWaiting(ctx context.Context) {
	s.waiting.mu.Lock()
	defer s.waiting.mu.Unlock()
	for site, got := range s.waiting.got {
		got = slices.DeleteFunc(got, func(in mesh.Wraps) (due bool) {
			s.commands.View(func(state *aggregate.State) { due = state.Covers(in.After) })
			if due {
				s.keepKeys(ctx, site, in.Keys)
			}
			return due
		})
		if s.waiting.got[site] = got; len(got) > 0 {
			continue
		}
		delete(s.waiting.got, site)
		if n := s.mesh.running.Load(); n != nil && s.waiting.owed[site] {
			delete(s.waiting.owed, site)
			n.SendWraps(site, mesh.Wraps{})
		}
	}
}

// keepKeys keeps data keys. Who is known to be no custodian has none to give.
func (s *Site) keepKeys(ctx context.Context, from events.SiteID, keys [][]byte) {
	custodian := true
	s.commands.View(func(state *aggregate.State) {
		if m, known := state.MeshSite(from); known {
			custodian = m.Custodian // one that is gone may have made what is read here for long
		}
	})
	refuse := func(what string, err error) {
		if n := s.mesh.running.Load(); n != nil { // it bounds the lines
			n.Refuse(from, what, err)
		}
	}
	if !custodian {
		refuse("data keys of a site that is no custodian", nil)
		return
	}
	var kept []uuid.UUID
	for _, b := range keys {
		var k sharedKey
		if len(b) > maxSharedKey || json.Unmarshal(b, &k) != nil {
			refuse("a data key that can't be read", nil)
			continue
		}
		added, err := s.sealer.Accept(ctx, k.ID, k.Wrap)
		if errors.Is(err, seal.ErrErased) {
			continue // its sender has not heard of that yet
		}
		if err == nil {
			kept = append(kept, k.ID)
		}
		if errors.Is(err, seal.ErrOtherWrap) {
			err = s.contestKey(ctx, from, k)
			if _, proven := s.provenKeys.Load(k.ID); err == nil && proven {
				kept = append(kept, k.ID) // of another maker's wrap, it opens what there is
			}
		} else if added {
			s.wanted.came(k.ID)
		}
		if err != nil && !errors.Is(err, seal.ErrSealed) { // it comes again with the next link
			refuse("a data key", err)
		}
	}
	if n := s.mesh.running.Load(); n != nil && len(kept) > 0 {
		n.SendKept(from, kept)
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
		for _, c := range state.SealedUnder(k.ID) {
			for _, v := range c.Versions() {
				if sealed, ok := commands.Sealed(state, c.ID, v.ID); ok && v.Key == k.ID {
					versions = append(versions, sealed)
				}
			}
		}
	})
	if len(versions) == 0 {
		return s.contestRecording(ctx, from, k)
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
