package commands_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// dispatcher replaces the world's dispatcher by one with another writer.
func (w *world) dispatcher(writer commands.Writer, after func([]events.Record)) {
	w.d = commands.NewDispatcher(commands.DispatcherConfig{
		Writer: writer, State: w.state, After: after, Now: func() time.Time { return w.now },
	})
}

type writerFunc func(ctx context.Context, drafts ...events.Draft) ([]events.Record, error)

func (f writerFunc) Append(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
	return f(ctx, drafts...)
}

func TestNothingTakesEffectBeforeItIsDurable(t *testing.T) {
	w := newWorld(t)
	var told []string
	w.dispatcher(writerFunc(func(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
		w.d.View(func(s *aggregate.State) { // reading does not wait for the disk
			if _, err := s.UserByName("eve"); !errors.Is(err, aggregate.ErrUnknown) {
				t.Error("the user is there before its event is durable")
			}
		})
		return w.site.Append(ctx, drafts...)
	}), func(r []events.Record) {
		told = types(r)
		w.d.View(func(s *aggregate.State) {
			if _, err := s.UserByName("eve"); err != nil {
				t.Error("the user is not there when others are told")
			}
		})
	})
	w.do("ada", commands.AddUser{Name: "eve", Role: events.Operator, Key: key("eve")})
	if !slices.Equal(told, []string{"user.added", "user.key_added"}) {
		t.Errorf("told of %v", told)
	}
}

func TestAFailedAppendChangesNothing(t *testing.T) {
	for _, cause := range []error{store.ErrFull, store.ErrClosed, store.ErrFenced, errors.New("disk on fire")} {
		w := newWorld(t)
		w.dispatcher(w.site, func([]events.Record) { t.Error("somebody was told") })
		digest := w.state.Digest()
		w.site.Fail = fmt.Errorf("append: %w", cause)
		_, err := w.d.Do(t.Context(), w.actor("ada"), commands.DisableUser{User: "olaf"})
		var r *commands.Refusal
		if !errors.As(err, &r) || r.Code != commands.Unavailable || !errors.Is(err, cause) {
			t.Errorf("%v: got %v", cause, err)
		}
		if errors.Is(cause, store.ErrFull) != strings.Contains(err.Error(), "space") {
			t.Errorf("%v: the hint is %q", cause, err)
		}
		if w.state.Digest() != digest {
			t.Errorf("%v: the state changed", cause)
		}
	}
}

// A denial that can't be recorded is still a denial, and says that it was not recorded.
func TestADenialHoldsWithoutItsEvent(t *testing.T) {
	w := newWorld(t)
	w.site.Fail = store.ErrFull
	_, err := w.d.StartSession(t.Context(), w.actor("olaf"), w.start("olaf", "root", "web1"))
	var r *commands.Refusal
	if !errors.As(err, &r) || r.Code != commands.Denied || !errors.Is(err, store.ErrFull) {
		t.Errorf("got %v", err)
	}
}

func TestHeadroomIsForWhatMustStillBeWritten(t *testing.T) {
	w := newWorld(t)
	granted(w)
	var may bool
	w.dispatcher(writerFunc(func(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
		may = store.MayUseHeadroom(ctx)
		return w.site.Append(ctx, drafts...)
	}), nil)
	s := w.session("olaf")
	if may {
		t.Error("an ordinary session start may use the head-room")
	}
	_, _ = w.d.Do(t.Context(), w.actor("olaf"), commands.DisableUser{User: "ada"})
	if may {
		t.Error("a refusal may use the head-room, so that anybody could fill it")
	}
	w.do("site", commands.DenyAccess{Reason: events.UnknownKey})
	if may {
		t.Error("a denial at the door may use the head-room")
	}
	for by, c := range map[string]commands.Command{
		"site": commands.EndSession{Session: s.Session}, "ada": commands.DisableUser{User: "olaf"},
	} {
		if w.do(by, c); !may {
			t.Errorf("%T may not use the head-room", c)
		}
	}
}

// Whoever gives up waiting must not leave an event that is durable and not applied.
func TestACommitUnderWayIsSeenThrough(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.dispatcher(writerFunc(func(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
		cancel()
		return w.site.Append(ctx, drafts...)
	}), nil)
	if _, err := w.d.Do(ctx, w.actor("ada"), commands.DisableUser{User: "olaf"}); err != nil {
		t.Fatalf("the commit was given up: %v", err)
	}
	before := len(w.site.Records)
	if _, err := w.d.Do(ctx, w.actor("ada"), commands.DisableUser{User: "aud"}); !errors.Is(err, context.Canceled) || len(w.site.Records) != before {
		t.Errorf("a command under an ended context: %v", err)
	}
}

// A writer whose records don't continue the state ends all deciding.
func TestAStateThatLostTheLogDecidesNothing(t *testing.T) {
	w := newWorld(t)
	w.dispatcher(writerFunc(func(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
		records, err := w.site.Append(ctx, drafts...)
		for i := range records {
			records[i].Header.Position += 5
		}
		return records, err
	}), nil)
	for range 2 {
		_, err := w.d.Do(t.Context(), w.actor("ada"), commands.DisableUser{User: "olaf"})
		if !errors.Is(err, aggregate.ErrGap) {
			t.Errorf("got %v", err)
		}
	}
	if w.user("olaf").Disabled() {
		t.Error("the state changed")
	}
}

// Of many who want the same name at once, one gets it.
func TestConcurrentCommandsAreDecidedOneAfterAnother(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	commits := 0
	w.dispatcher(w.site, func([]events.Record) { mu.Lock(); commits++; mu.Unlock() })
	var wg sync.WaitGroup
	admin := w.actor("ada")
	got := make([]error, 40)
	for i := range got {
		wg.Go(func() {
			_, got[i] = w.d.Do(t.Context(), admin, commands.AddUser{Name: fmt.Sprint("n", i/10), Role: events.Operator, Key: key(fmt.Sprint("k", i))})
			w.d.View(func(s *aggregate.State) { _ = s.Users() })
		})
	}
	wg.Wait()
	added := 0
	for _, err := range got {
		if err == nil {
			added++
		}
	}
	if added != 4 || commits != 4 {
		t.Errorf("%d users of 4 names were added in %d commits", added, commits)
	}
}

func TestAppendTakesFactsOfTheSite(t *testing.T) {
	w := newWorld(t)
	if r, err := w.d.Append(t.Context()); r != nil || err != nil {
		t.Errorf("nothing: %v %v", r, err)
	}
	w.fact(uuid.New(), events.UserAdded{Name: "eve"})
	if _, err := w.state.UserByName("eve"); err != nil {
		t.Error("a fact was not applied")
	}
}

func TestUnregisteredCommandsAreRefused(t *testing.T) {
	w := newWorld(t)
	if _, err := w.d.Do(t.Context(), w.actor("ada"), rogue{}); err == nil {
		t.Error("a command that no policy knows was carried out")
	}
}

type rogue struct{}

func (rogue) Decide(*aggregate.State, events.Actor, commands.Env) ([]events.Draft, error) {
	panic("decided")
}

func TestLoad(t *testing.T) {
	w := newWorld(t)
	granted(w)
	w.session("olaf")
	loaded := aggregate.New()
	var seen uint64
	n, err := commands.Load(t.Context(), loaded, history(w.site.Records, nil), func(n uint64) { seen = n })
	if err != nil || n != uint64(len(w.site.Records)) || seen != n || loaded.Digest() != w.state.Digest() {
		t.Errorf("loaded %d (%d told) of %d: %v", n, seen, len(w.site.Records), err)
	}
	damage := errors.New("damaged")
	if n, err := commands.Load(t.Context(), aggregate.New(), history(w.site.Records[:3], damage), nil); n != 3 || !errors.Is(err, damage) {
		t.Errorf("damaged log: %d, %v", n, err)
	}
	if _, err := commands.Load(t.Context(), aggregate.New(), history(w.site.Records[1:], nil), nil); !errors.Is(err, aggregate.ErrGap) {
		t.Errorf("log with a gap: %v", err)
	}
}

func history(records []events.Record, err error) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(events.Record{}, err)
		}
	}
}

// BenchmarkLoad is what a start costs, from stored bytes to a state.
func BenchmarkLoad(b *testing.B) {
	site := aggregatetest.NewSite(1)
	by := events.SiteActor(site.ID)
	for i := range 5000 {
		id := aggregatetest.ID("session", i)
		for _, e := range []events.Event{
			events.SessionStarted{Source: "192.0.2.1:50000", Client: "SSH-2.0-OpenSSH_9.9", Fingerprint: fingerprintOfBench},
			events.SessionConnected{Server: "SSH-2.0-OpenSSH_9.9", Cipher: "aes128-gcm@openssh.com"},
			events.SessionEnded{Reason: events.EndedByClient, Complete: true},
		} {
			if _, err := site.Append(b.Context(), site.Draft(id, by, e)); err != nil {
				b.Fatal(err)
			}
		}
	}
	stored := func(yield func(events.Record, error) bool) {
		for _, r := range site.Records {
			if !yield(events.DecodeEntry(r.Raw)) {
				return
			}
		}
	}
	b.ReportAllocs()
	var n uint64
	for b.Loop() {
		got, err := commands.Load(b.Context(), aggregate.New(), stored, nil)
		if err != nil {
			b.Fatal(err)
		}
		n += got
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

const fingerprintOfBench = "SHA256:2lFhKRWmhAqYxCx8jQkBqjIwyEKKkYQ5cJGCMzUzHnE"
