// Package erasure destroys a site's data keys of what two administrators have erased
// (rule R19). What is erased the state says; here it comes true on the disk.
package erasure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// Config of an Eraser.
type Config struct {
	Dispatcher *commands.Dispatcher
	Sealer     *seal.Sealer
	Site       events.SiteID
	Log        *slog.Logger
}

// Eraser destroys data keys and says so. Safe for concurrent use.
type Eraser struct {
	cfg Config

	turn sync.Mutex // held by who destroys
}

// New makes an eraser. From when it returns the sealer neither opens nor takes in what
// is erased, though it may not be destroyed yet.
func New(cfg Config) *Eraser {
	cfg.Sealer.Forget(func(id uuid.UUID) (erased bool) {
		cfg.Dispatcher.View(func(s *aggregate.State) { erased = s.KeyErased(id) })
		return erased
	})
	return &Eraser{cfg: cfg}
}

// due is something erased, with the data keys of it that are here.
type due struct {
	id   uuid.UUID
	keys []uuid.UUID
	say  bool // it is done then
}

// due lists what is erased and not destroyed here, or not said to be. A key that is
// there again after that came with an old key table, so it is destroyed once more.
func (e *Eraser) due() (all []due) {
	e.cfg.Dispatcher.View(func(s *aggregate.State) {
		_, held := s.HoldOf(e.cfg.Dispatcher.Log()) // then its word would not count, and be said for ever
		for _, x := range s.Erasures() {
			_, erased := s.Erased(x.ID)
			n, runs := s.Session(events.SessionID{UUID: x.ID}) // a site that betrays says so: what runs is recorded
			if !erased || runs && !s.Abandoned(n, e.cfg.Site) {
				continue
			}
			here := slices.DeleteFunc(s.KeysOf(x), func(key uuid.UUID) bool { return !e.cfg.Sealer.Has(key) })
			keys := slices.DeleteFunc(slices.Clone(here), func(key uuid.UUID) bool { return !s.KeyErased(key) })
			whole := len(keys) == len(here) // else a site that betrays says that a key seals something else, too
			if say := whole && !held; len(keys) > 0 || say && s.HasErased(x, e.cfg.Site) == nil {
				all = append(all, due{x.ID, keys, say})
			}
		}
	})
	return all
}

// Lost lists the data keys that are not here though what they seal is not erased: an
// erasure of it counted for a time, and they were destroyed or not taken in meanwhile.
func (e *Eraser) Lost() (all []uuid.UUID) {
	e.cfg.Dispatcher.View(func(s *aggregate.State) {
		for _, x := range s.Erasures() {
			_, erased := s.Erased(x.ID)
			if _, confirmed := x.Confirmed(); erased || !confirmed {
				continue
			}
			for _, key := range s.KeysOf(x) {
				if !s.KeyErased(key) && !e.cfg.Sealer.Has(key) {
					all = append(all, key)
				}
			}
		}
	})
	return all
}

// Once destroys what is due. First the keys, then the word: a crash in between has it
// said by the next start, and nothing is said that is not done.
func (e *Eraser) Once(ctx context.Context) error {
	e.turn.Lock()
	defer e.turn.Unlock()
	var errs []error
	for _, d := range e.due() {
		err := e.destroy(d.keys)
		if err == nil && d.say {
			_, err = e.cfg.Dispatcher.Do(ctx, events.SiteActor(e.cfg.Site), commands.NoteErased{ID: d.id})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("destroy the data keys of %s, which is erased: %w", d.id, err))
		}
	}
	return errors.Join(errs...)
}

func (e *Eraser) destroy(keys []uuid.UUID) error {
	for _, key := range keys {
		if err := e.cfg.Sealer.Erase(key); err != nil {
			return err
		}
	}
	return nil
}

// between is the least time between two looks at what is due, and what follows a
// failure.
const between, afterFailure = 50 * time.Millisecond, 5 * time.Second

// Run destroys what is due whenever something was decided, until ctx ends.
func (e *Eraser) Run(ctx context.Context) {
	for {
		_, moved := e.cfg.Dispatcher.Applied(events.Origin{})
		pause := between
		if err := e.Once(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Log.Error("what is erased is not destroyed here yet; trying again", "error", err, "in", afterFailure.String())
			moved, pause = nil, afterFailure
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if moved == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		}
	}
}
