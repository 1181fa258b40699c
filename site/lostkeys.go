package site

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// What is erased is destroyed here, and taken in from nobody. Where the erasure stops
// counting (rule R19), who has the data keys may have sent them before that was heard
// here, and sends them again with a new link only. So they are asked for until they are
// here.

const (
	// askAgain is the time until the second ask for the same keys. It doubles with each:
	// who has them may not have heard yet, and perhaps nobody has.
	askAgain = 2 * giveEvery
	// askRarely is the longest time between two asks.
	askRarely = time.Minute
	// lookAgain is the shortest time between two looks at what is missing.
	lookAgain = 50 * time.Millisecond
)

// asking says when to ask for keys that are missing.
type asking struct {
	last  []uuid.UUID // missing at the last look
	asked int         // how many were missing when they were asked for
	pause time.Duration
	at    time.Time // of the next ask
}

// due reports whether to ask for what is missing now: at once where something is so
// since the last look, and then ever more rarely, unless some have come.
func (a *asking) due(now time.Time, missing []uuid.UUID) bool {
	more := slices.ContainsFunc(missing, func(id uuid.UUID) bool { return !slices.Contains(a.last, id) })
	a.last = missing
	if len(missing) == 0 || !more && now.Before(a.at) {
		return false
	}
	if a.pause = min(2*a.pause, askRarely); more || len(missing) < a.asked {
		a.pause = askAgain
	}
	a.asked, a.at = len(missing), now.Add(a.pause)
	return true
}

// getBack asks the custodians for the data keys of what was erased and is not any more,
// until ctx ends: when that is heard, when a member is met, and again as long as one is
// missing.
func (s *Site) getBack(ctx context.Context) {
	var a asking
	for {
		_, moved := s.commands.Applied(events.Origin{})
		now := time.Now()
		if missing := s.missingKeys(); a.due(now, missing) {
			s.askFor(missing)
		}
		wait := askRarely
		if len(a.last) > 0 {
			wait = a.at.Sub(now)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-moved:
		case <-timer.C:
		case <-s.met:
			a = asking{}
		}
		timer.Stop()
		if sleep(ctx, lookAgain) != nil {
			return
		}
	}
}

// missingKeys are the data keys that this site may have and lost to an erasure that
// does not count.
func (s *Site) missingKeys() []uuid.UUID {
	may := false
	s.commands.View(func(state *aggregate.State) { may = state.Custodian(s.who.ID) })
	if !may || s.sealer.Sealed() { // sealed, it could not tell whether one that comes opens
		return nil
	}
	return s.eraser.Lost()
}

// askFor asks the custodians for data keys. Of too many for one message it takes some
// by chance: who has none of the ones has the others.
func (s *Site) askFor(keys []uuid.UUID) {
	n := s.node()
	if n == nil {
		return
	}
	var want [][]byte
	for _, i := range rand.Perm(len(keys))[:min(len(keys), mesh.MaxWraps)] {
		want = append(want, keys[i][:])
	}
	for _, site := range s.custodianIDs() {
		n.SendWraps(site, mesh.Wraps{Want: want})
	}
}
