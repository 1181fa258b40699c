package commands_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/bus"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
)

// realWorld is a world whose dispatcher writes through the real writer to a log.
func realWorld(t *testing.T) (*world, *memory.Log) {
	t.Helper()
	id := events.SiteID{UUID: aggregatetest.ID("site", 0)}
	log, err := memory.New(events.Origin{Site: id, Epoch: 1, Kind: events.Ctl}).Open()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, site: aggregatetest.NewSite(0), state: aggregate.New(), now: time.Now()}
	var d *commands.Dispatcher
	writer, err := store.NewWriter(log, store.WriterConfig{
		Ticker: &events.Ticker{Now: time.Now}, Now: time.Now,
		Clock: func() (c events.Clock) { d.View(func(s *aggregate.State) { c = s.Clock() }); return c },
	})
	if err != nil {
		t.Fatal(err)
	}
	d = commands.NewDispatcher(commands.DispatcherConfig{Writer: writer, State: w.state})
	w.d = d
	t.Cleanup(func() {
		if err := errors.Join(writer.Close(), log.Close()); err != nil {
			t.Error(err)
		}
	})
	w.do("site", commands.CreateSite{Name: "here", HostKey: key("host")})
	w.do("site", commands.AddUser{Name: "ada", Role: events.Admin, Key: key("ada")})
	w.do("site", commands.AddUser{Name: "olaf", Role: events.Operator, Key: key("olaf")})
	w.do("ada", commands.AddTarget{Name: "web1", Addr: "web1.example:22", HostKeys: []string{key("web1")}})
	w.do("ada", commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(1)})
	granted(w)
	return w, log
}

// A process manager sees the event that takes a right away and ends what was
// open under it, naming the event as the cause; seen twice, it acts once.
func TestDisablingAUserEndsTheirSessionsThroughTheBus(t *testing.T) {
	w, log := realWorld(t)
	w.session("olaf")
	w.session("olaf")
	sub, err := bus.NewSubscriber(bus.SubscriberConfig{
		Consumer: "ender", Cursors: &bus.MemoryCursors{}, Wants: bus.Types("user.disabled"),
		Logs:   func(string) ([]bus.Log, error) { return []bus.Log{log}, nil },
		Failed: func(_ string, err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	router, err := bus.NewRouter(bus.RouterConfig{First: time.Millisecond, Close: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	site, done := w.actor("site"), make(chan uuid.UUID, 1)
	failOnce := errors.New("once")
	end := func(ctx context.Context, at events.Record, _ events.UserDisabled) error {
		var open []events.SessionID
		w.d.View(func(s *aggregate.State) {
			for _, n := range s.LiveSessions() {
				if n.User.UUID == at.Header.Stream {
					open = append(open, n.ID)
				}
			}
		})
		for _, id := range open {
			if _, err := w.d.Do(ctx, site, commands.EndSession{Session: id, Reason: events.EndedByPolicy, Because: at.Header.ID}); err != nil {
				return err
			}
			if err := failOnce; err != nil {
				failOnce = nil
				return err
			}
		}
		done <- at.Header.ID
		return nil
	}
	if err := bus.Handle(router, "ender", "ctl", sub, end); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- router.Run(ctx) }()
	w.do("ada", commands.DisableUser{User: "olaf"})
	cause := <-done
	cancel()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	ends := 0
	again := aggregate.New()
	for entry, err := range log.Read(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := events.DecodeEntry(entry)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Apply(r); err != nil {
			t.Fatal(err)
		}
		if r.Header.Type == "session.ended" && r.Header.Parent == cause {
			ends++
		}
	}
	if ends != 2 || len(w.state.LiveSessions()) != 0 {
		t.Errorf("%d of 2 sessions were ended because of it", ends)
	}
	if again.Digest() != w.state.Digest() {
		t.Error("the state is not that of the log")
	}
}
