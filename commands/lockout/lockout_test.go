package lockout

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// log is the state of one account with a budget of two, and who writes to it.
type log struct {
	mu    sync.Mutex
	site  *aggregatetest.Site
	state *aggregate.State
	id    events.CredentialID
}

func (l *log) View(f func(*aggregate.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.state)
}

func (l *log) Do(context.Context, events.Actor, commands.Command) ([]events.Record, error) {
	return nil, errors.ErrUnsupported
}

func (l *log) write(t *testing.T, stream uuid.UUID, e events.Event) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	records, err := l.site.Append(context.Background(), l.site.Draft(stream, events.SiteActor(l.site.ID), e))
	if err == nil {
		err = l.state.Apply(records[0])
	}
	if err != nil {
		t.Error(err)
	}
}

func newLog(t *testing.T) *log {
	l := &log{site: aggregatetest.NewSite(0), state: aggregate.New(), id: events.CredentialID{UUID: aggregatetest.ID("credential", 0)}}
	account := events.AccountID{UUID: aggregatetest.ID("account", 0)}
	l.write(t, account.UUID, events.AccountAdded{Name: "root", Credential: l.id})
	l.write(t, l.id.UUID, events.CredentialAdded{Account: account, Kind: events.Password})
	return l
}

func (l *log) reject(t *testing.T) {
	l.write(t, l.id.UUID, events.SecretRejected{Version: events.SecretID{UUID: aggregatetest.ID("version", 0)}})
}

func clock() time.Time { return aggregatetest.Epoch.Add(time.Second) }

// However many log in at once with a wrong secret, the target sees no more of
// it than the budget allows.
func TestAttackManyWrongLoginsAtOnce(t *testing.T) {
	l := newLog(t)
	k := New(l.site.ID, l, clock)
	var presented, refused atomic.Int32
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			done, err := k.Present(t.Context(), l.id)
			if errors.As(err, new(*SpentError)) {
				refused.Add(1)
				return
			}
			presented.Add(1)
			l.reject(t)
			done()
		})
	}
	all.Wait()
	if presented.Load() != 2 || refused.Load() != 98 {
		t.Errorf("%d were presented and %d refused, want 2 and 98", presented.Load(), refused.Load())
	}
	if len(k.gates) != 0 {
		t.Error("a gate that nobody uses is kept")
	}
}

func TestGoodLoginsAllGetThrough(t *testing.T) {
	l := newLog(t)
	k := New(l.site.ID, l, clock)
	var all sync.WaitGroup
	var most, now atomic.Int32
	for range 100 {
		all.Go(func() {
			done, err := k.Present(t.Context(), l.id)
			if err != nil {
				t.Error(err)
				return
			}
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			now.Add(-1)
			done()
		})
	}
	all.Wait()
	if most.Load() > 2 {
		t.Errorf("%d presented at once", most.Load())
	}
}

// Nobody presents a secret while it is being changed, and a change waits for
// those who do.
func TestChangesAndPresentationsExclude(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		k := New(l.site.ID, l, clock)
		done, err := k.Present(t.Context(), l.id)
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		var all sync.WaitGroup
		all.Go(func() {
			done, err := k.Change(t.Context(), l.id, l.id)
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, "change")
			time.Sleep(time.Second)
			order = append(order, "changed")
			done()
		})
		synctest.Wait()
		done()
		synctest.Wait()
		all.Go(func() {
			done, err := k.Present(t.Context(), l.id)
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, "present")
			done()
		})
		all.Wait()
		if len(order) != 3 || order[2] != "present" {
			t.Errorf("order %v", order)
		}
	})
}

func TestWhoWaitsCanGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		k := New(l.site.ID, l, clock)
		done, err := k.Change(t.Context(), l.id)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.Present(ctx, l.id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		done()
		done() // a second time does nothing
		if _, err := k.Present(t.Context(), l.id); err != nil {
			t.Error(err)
		}
	})
}

// A window later the budget is whole again.
func TestTheWindowMovesOn(t *testing.T) {
	l := newLog(t)
	for range 2 {
		l.reject(t)
	}
	var spent *SpentError
	_, err := New(l.site.ID, l, clock).Present(t.Context(), l.id)
	if !errors.As(err, &spent) {
		t.Fatalf("got %v", err)
	}
	later := func() time.Time { return spent.Until }
	if _, err := New(l.site.ID, l, later).Present(t.Context(), l.id); err != nil {
		t.Errorf("at %s: %v", spent.Until, err)
	}
	before := func() time.Time { return spent.Until.Add(-time.Millisecond) }
	if _, err := New(l.site.ID, l, before).Present(t.Context(), l.id); err == nil {
		t.Error("a login before the window has moved on")
	}
}
