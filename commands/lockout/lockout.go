// Package lockout keeps a site's logins within the lock-out budgets of the
// accounts that they are made with: sessions and rotations together never
// present so many wrong secrets in a window that a target locks the account
// (rule R3).
//
// What was spent is in the log (see [aggregate.Credential.Spent]); what is under
// way now is here. A presentation has to be in the log before its ticket is
// given back, or be known to have done no harm.
package lockout

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Site is what a keeper needs of its site; [commands.Dispatcher] is one.
type Site interface {
	View(f func(*aggregate.State))
	Do(ctx context.Context, by events.Actor, c commands.Command) ([]events.Record, error)
}

// SpentError says that one more wrong login could lock the account.
type SpentError struct {
	Until time.Time // when the oldest of those that count is over
}

func (e *SpentError) Error() string {
	return fmt.Sprintf("one more wrong login could lock the account; logins are paused until %s", e.Until.UTC().Format(time.RFC3339))
}

// Keeper hands out tickets for presentations of one site. It is safe for
// concurrent use.
type Keeper struct {
	id   events.SiteID
	site Site
	now  func() time.Time

	mu    sync.Mutex
	gates map[events.CredentialID]*gate // guarded by mu; only those in use
}

// gate is what is under way with one credential.
type gate struct {
	presenting int
	changing   bool
	users      int           // that hold or wait
	moved      chan struct{} // closed and replaced when something ended
}

// New makes the keeper of a site. now may be nil for time.Now.
func New(id events.SiteID, site Site, now func() time.Time) *Keeper {
	if now == nil {
		now = time.Now
	}
	return &Keeper{id: id, site: site, now: now, gates: map[events.CredentialID]*gate{}}
}

// Present waits for a change of the secret to end and for room in the budget,
// and gives a ticket for one presentation. Call done when what came of it is in
// the log. [*SpentError] when there is no room that others could give back.
func (k *Keeper) Present(ctx context.Context, id events.CredentialID) (done func(), err error) {
	return k.enter(ctx, id, func(g *gate) (bool, error) {
		if g.changing {
			return false, nil
		}
		left, until := k.left(id)
		switch {
		case left > g.presenting:
			g.presenting++
			return true, nil
		case g.presenting > 0:
			return false, nil
		}
		return false, &SpentError{Until: until}
	}, func(g *gate) { g.presenting-- })
}

// Change waits until nobody presents a secret of the credentials, and keeps
// everybody from it until done is called.
func (k *Keeper) Change(ctx context.Context, ids ...events.CredentialID) (done func(), err error) {
	slices.SortFunc(ids, func(a, b events.CredentialID) int { return bytes.Compare(a.UUID[:], b.UUID[:]) }) // one order for all: no dead end
	var all []func()
	done = func() {
		for _, f := range slices.Backward(all) {
			f()
		}
	}
	for _, id := range slices.Compact(ids) {
		one, err := k.enter(ctx, id, func(g *gate) (bool, error) {
			if g.changing || g.presenting > 0 {
				return false, nil
			}
			g.changing = true
			return true, nil
		}, func(g *gate) { g.changing = false })
		if err != nil {
			done()
			return nil, err
		}
		all = append(all, one)
	}
	return done, nil
}

// enter waits until try says yes or gives an error.
func (k *Keeper) enter(ctx context.Context, id events.CredentialID, try func(*gate) (bool, error), leave func(*gate)) (func(), error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g := k.gates[id]
	if g == nil {
		g = &gate{moved: make(chan struct{})}
		k.gates[id] = g
	}
	g.users++
	for {
		ok, err := try(g)
		if ok {
			return sync.OnceFunc(func() {
				k.mu.Lock()
				defer k.mu.Unlock()
				leave(g)
				k.exit(id, g)
			}), nil
		}
		moved := g.moved
		if err == nil {
			k.mu.Unlock()
			select {
			case <-moved:
			case <-ctx.Done():
				err = ctx.Err()
			}
			k.mu.Lock()
		}
		if err != nil {
			k.exit(id, g)
			return nil, err
		}
	}
}

func (k *Keeper) exit(id events.CredentialID, g *gate) {
	close(g.moved)
	g.moved = make(chan struct{})
	if g.users--; g.users == 0 {
		delete(k.gates, id)
	}
}

// left is how many presentations the log leaves, and until when if none.
func (k *Keeper) left(id events.CredentialID) (left int, until time.Time) {
	k.site.View(func(s *aggregate.State) { left, until = Left(s, id, k.id, k.now()) })
	return left, until
}

// Left is how many presentations with a credential the log leaves to a site
// now, and when there will be one more.
func Left(s *aggregate.State, id events.CredentialID, site events.SiteID, now time.Time) (left int, until time.Time) {
	c, ok := s.Credential(id)
	if !ok {
		return 0, time.Time{}
	}
	a, ok := s.Account(c.Account)
	if !ok {
		return 0, time.Time{}
	}
	return s.LoginsLeft(a, c, site, now)
}
