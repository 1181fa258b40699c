package site

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/replay"
)

// A data key of a recording comes from whichever custodian is first, and a member
// that betrays may send a wrong one. Which of several is right only a record of the
// session tells. So it is found out when the recording is read and does not open: the
// members are asked for that key, and of what comes the one counts that opens the
// record.

// wantedKeys are the data keys of recordings that are being asked for.
type wantedKeys struct {
	mu     sync.Mutex // guards what follows
	of     map[uuid.UUID]*wantedKey
	giving map[events.SiteID]bool // who is being given what it asked for
}

type wantedKey struct {
	record  events.Record // sealed under the key; a site's own record of its session
	readers int
	moved   chan struct{} // closed once another key is there
}

const (
	// wantTime is how long the reading of a recording waits for its key.
	wantTime = 10 * time.Second
	// maxWanted bounds the keys that are asked for at once.
	maxWanted = 64
	// giveEvery is the shortest time between two answers to one site.
	giveEvery = time.Second
)

// want registers a key; done takes that back.
func (w *wantedKeys) want(id uuid.UUID, r events.Record) (moved <-chan struct{}, done func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.of[id]
	if k == nil {
		if len(w.of) == maxWanted {
			return nil, nil, false
		}
		if w.of == nil {
			w.of = map[uuid.UUID]*wantedKey{}
		}
		k = &wantedKey{record: r, moved: make(chan struct{})}
		w.of[id] = k
	}
	k.readers++
	return k.moved, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if k.readers--; k.readers == 0 && w.of[id] == k {
			delete(w.of, id)
		}
	}, true
}

func (w *wantedKeys) record(id uuid.UUID) (r events.Record, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := w.of[id]; k != nil {
		return k.record, true
	}
	return r, false
}

// came says that there is another key under a name.
func (w *wantedKeys) came(id uuid.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := w.of[id]; k != nil {
		close(k.moved)
		delete(w.of, id)
	}
}

// mendKey asks the members for the data key of a recording, since the one that is
// here does not open a record of it, or there is none. It reports whether there is
// another one now.
func (s *Site) mendKey(ctx context.Context, r events.Record) bool {
	n, id := s.node(), r.Header.Stream
	if n == nil || s.sealer.Sealed() || r.Raw.Payload == nil || r.Header.Type != "session.packets" {
		return false
	}
	var ask []events.SiteID
	s.commands.View(func(state *aggregate.State) {
		if r.Header.Site != s.who.ID && !state.Custodian(s.who.ID) {
			return // nobody has one for this site
		}
		for _, m := range state.MeshSites() {
			if m.Site != s.who.ID && (state.Custodian(m.Site) || m.Site == r.Header.Site) {
				ask = append(ask, m.Site)
			}
		}
	})
	moved, done, ok := s.wanted.want(id, r)
	if !ok || len(ask) == 0 {
		return false
	}
	defer done()
	for _, site := range ask {
		n.SendWraps(site, mesh.Wraps{Want: [][]byte{id[:]}})
	}
	select {
	case <-moved:
		return true
	case <-time.After(wantTime):
	case <-ctx.Done():
	}
	return false
}

// contestRecording has a data key take the place of another one, where that of a
// recording is wanted and it opens it.
func (s *Site) contestRecording(ctx context.Context, from events.SiteID, k sharedKey) error {
	r, wanted := s.wanted.record(k.ID)
	if !wanted {
		return nil // nothing here tells, and nobody asks
	}
	replaced, err := s.sealer.Contest(ctx, k.ID, k.Wrap, func(key *seal.DataKey) bool {
		_, err := gateway.OpenRecord(r, key)
		return err == nil
	})
	if replaced {
		s.log.Error("a member had sent a wrong data key for a recording; the right one has come and takes its place",
			"session", k.ID.String(), "from", from.String())
		s.wanted.came(k.ID)
	}
	return err
}

// giveKeys sends a custodian the data keys that it asks for, one answer after the
// other.
func (s *Site) giveKeys(ctx context.Context, to events.SiteID, want [][]byte) {
	s.wanted.mu.Lock()
	defer s.wanted.mu.Unlock()
	if s.wanted.giving[to] {
		return // it asks too fast
	}
	if s.wanted.giving == nil {
		s.wanted.giving = map[events.SiteID]bool{}
	}
	s.wanted.giving[to] = true
	s.background.Go(func() {
		var ids []uuid.UUID
		for _, b := range want {
			if id, err := uuid.FromBytes(b); err == nil {
				ids = append(ids, id)
			}
		}
		s.send(ctx, to, ids)
		_ = sleep(ctx, giveEvery) // at its end the site closes anyway
		s.wanted.mu.Lock()
		defer s.wanted.mu.Unlock()
		delete(s.wanted.giving, to)
	})
}

// openRecord opens a record of a recording with its key, and gets another key where
// that one is wrong or missing. It gives the key to go on with.
func (s *Site) openRecord(ctx context.Context, r events.Record, key *seal.DataKey) (replay.Record, *seal.DataKey, error) {
	for mended := false; ; mended = true {
		var record replay.Record
		var err error
		if key == nil {
			key, err = s.sealer.Key(ctx, r.Header.Stream)
			if sealed := r.Header.Type == "session.packets"; err != nil && (sealed || errors.Is(err, seal.ErrSealed)) {
				err = fmt.Errorf("open the recording of session %s: %w", r.Header.Stream, err)
			} else {
				err = nil
			}
		}
		if err == nil {
			record, err = gateway.OpenRecord(r, key)
		}
		if erased := s.refuseErased(events.SessionID{UUID: r.Header.Stream}); err != nil && erased != nil {
			return record, key, erased // while it was read
		}
		if err == nil || mended || errors.Is(err, errors.ErrUnsupported) || !s.mendKey(ctx, r) {
			return record, key, err
		}
		if key != nil {
			key.Release()
			key = nil
		}
	}
}
