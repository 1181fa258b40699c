package site

import (
	"context"
	"errors"
	"sync"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// damage is what this run of the site has found, so that each place makes one
// event however often it is read.
type damage struct {
	mu    sync.Mutex
	known map[damagedPlace]bool
}

type damagedPlace struct {
	origin   events.Origin
	position uint64
}

func (d *damage) isNew(e *store.DamageError) bool {
	at := damagedPlace{e.Origin, e.Position}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[at] {
		return false
	}
	if d.known == nil {
		d.known = map[damagedPlace]bool{}
	}
	d.known[at] = true
	return true
}

// noteDamage records what an error says of damaged logs. Whoever met the error
// deals with it; that it was met is for everybody to know.
func (s *Site) noteDamage(ctx context.Context, err error) {
	var found *store.DamageError
	if !errors.As(err, &found) || !s.damage.isNew(found) {
		return
	}
	s.log.Error("a log is damaged", "error", found)
	if _, err := s.commands.Do(context.WithoutCancel(ctx), s.actor(), commands.RecordDamage{Found: *found}); err != nil {
		s.log.Error("the damage of a log could not be recorded", "error", err)
	}
}
