package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/bus"
	"github.com/holdfast-pam/holdfast/gateway"
)

const (
	// shutdownTime is how long an orderly stop may take.
	shutdownTime = 20 * time.Second
	// spaceCheck is how often the logs are asked whether they are full.
	spaceCheck = time.Second
)

// ErrNoAdmin says that the gateway may not listen beyond loopback yet.
var ErrNoAdmin = errors.New("the site has no administrator yet, so its gateway listens on loopback addresses only")

// Lacks reports whether a first administrator of that name is to be made. Not where
// there is or was one: who was disabled must not come back with the next start. Nor
// where the site has joined a mesh: then the mesh says who they are, here as well.
func (s *Site) Lacks(admin string) bool {
	known := s.mesh.joined.Load() != nil
	s.commands.View(func(state *aggregate.State) {
		known = known || slices.ContainsFunc(state.Users(), func(u *aggregate.User) bool { return u.Name == admin })
	})
	return !known
}

// AddAdmin makes an administrator with a key in authorized_keys form.
func (s *Site) AddAdmin(ctx context.Context, name, key string) error {
	_, err := s.commands.Do(ctx, s.actor(), commands.AddUser{Name: name, Role: events.Admin, Key: strings.TrimSpace(key)})
	if err != nil {
		return fmt.Errorf("make administrator %s: %w", name, err)
	}
	return nil
}

// Listen opens the gateway's door. Who logs in without naming a target gets
// console. The start is recorded and made known to local programs.
func (s *Site) Listen(ctx context.Context, console gateway.Console) error {
	if !Loopback(s.cfg.SSH.Listen) && !s.hasAdmin() && s.mesh.joined.Load() == nil {
		return fmt.Errorf("listen on %s: %w", s.cfg.SSH.Listen, ErrNoAdmin)
	}
	var err error
	s.gateway, err = gateway.New(gateway.Config{
		Site: s.who.ID, Dispatcher: s.commands, Rec: s.rec.Writer(), RecLog: s.rec.Log(), Release: s.releaseRec(), KeysHeld: s.releaseKeys(), Sealer: s.sealer, Keeper: s.keeper,
		HostKeys: []ssh.Signer{s.hostKey}, CA: s.hostCA, Console: console, Log: s.log, Now: WallClock,
		Limits: gateway.Limits{
			LoginGrace: s.cfg.SSH.LoginGrace, Unauthenticated: s.cfg.SSH.MaxUnauthenticated,
			PerSource: s.cfg.SSH.MaxUnauthenticatedPerSource, SourceRate: s.cfg.SSH.MaxRatePerSource,
			TargetDial: s.cfg.SSH.DialTimeout, TargetLogin: 2 * s.cfg.SSH.DialTimeout, StoragePause: s.cfg.SSH.StoragePause,
			PeerTimeout: s.cfg.SSH.PeerTimeout,
		},
	})
	if err != nil {
		return err
	}
	if err := s.openMesh(); err != nil {
		return err
	}
	if s.listener, err = net.Listen("tcp", s.cfg.SSH.Listen); err != nil {
		return fmt.Errorf("listen for SSH: %w", err)
	}
	start := commands.StartSite{Version: s.version, Listen: s.Addr(), Mesh: s.reachedAt(), Sealed: s.sealer.Sealed()}
	if anyHost(start.Mesh) {
		start.Mesh = "" // what was known of before stands
	}
	_, err = s.commands.Do(ctx, s.actor(), start)
	if err != nil {
		return errors.Join(err, s.listener.Close())
	}
	b, err := json.Marshal(runInfo{SSH: s.Addr(), HostKey: s.HostKey()})
	if err == nil {
		err = writeDurable(s.data.runFile(), append(b, '\n'), 0o600)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("tell local programs where the site is: %w", err), s.listener.Close())
	}
	return nil
}

func (s *Site) hasAdmin() (yes bool) {
	s.commands.View(func(state *aggregate.State) {
		yes = slices.ContainsFunc(state.Users(), func(u *aggregate.User) bool { return u.Role == events.Admin && state.UserStands(u.ID) == nil })
	})
	return yes
}

// Addr is the address of the gateway once it listens.
func (s *Site) Addr() string { return s.listener.Addr().String() }

// SameAddresses has a configuration listen where the site did, also where it left
// the choice of a port to the system.
func (s *Site) SameAddresses(cfg Config) Config {
	if s.listener != nil {
		cfg.SSH.Listen = s.Addr()
	}
	if addr := s.MeshAddr(); addr != "" {
		cfg.Mesh.Listen = addr
	}
	return cfg
}

// Dir is the data directory.
func (s *Site) Dir() string { return s.data.dir }

// Serve serves until ctx ends, and then stops in order: sessions are told and
// ended, and the stop is recorded. A part that fails ends it with its error.
func (s *Site) Serve(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	router, err := s.processManagers(running)
	if err != nil {
		stop()
		return errors.Join(err, s.listener.Close())
	}
	s.background.Go(func() {
		if err := router.Run(running); err != nil {
			s.fail(fmt.Errorf("process managers: %w", err))
		}
	})
	endRotations := s.serveRotations(running)
	if err := s.startMesh(); err != nil { // before sessions, which may have to wait for a pair
		s.log.Error("this site can't take part in the mesh yet", "error", err)
	}
	s.background.Go(func() { s.watchSpace(running) })
	s.background.Go(func() { s.runMesh(running) })
	s.background.Go(func() { s.tellNewKeys(running) })
	s.background.Go(func() { s.eraser.Run(running) })
	s.background.Go(func() { s.getBack(running) })
	s.background.Go(func() { s.keepRecordings(running) })
	s.background.Go(func() { s.watchClock(running) })
	s.background.Go(func() { s.endReturned(running) })
	s.background.Go(func() { s.lookForStale(running) })
	s.background.Go(func() { s.keepLeases(running) })
	s.background.Go(func() { s.lookForForeign(running) })
	s.background.Go(func() {
		if err := s.deliverOthers(running); err != nil {
			s.fail(fmt.Errorf("apply what other sites decided: %w", err))
		}
	})
	s.background.Go(func() {
		if err := s.gateway.Serve(s.listener); err != nil {
			s.fail(fmt.Errorf("gateway: %w", err))
		}
	})
	reason := "asked to stop"
	select {
	case <-ctx.Done():
	case err = <-s.failed:
		reason = "a part of the site failed"
		s.log.Error("the site stops", "error", err)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	err = errors.Join(err, s.gateway.Shutdown(end), endRotations(end))
	_, stopErr := s.commands.Do(end, s.actor(), commands.StopSite{Reason: reason})
	stop()
	return errors.Join(err, stopErr, router.Close(), os.Remove(s.data.runFile()))
}

// processManagers wires what acts on decisions: the gateway ends what lost its
// right. It sees the decisions made from now on; those before were in force
// when a session started.
func (s *Site) processManagers(ctx context.Context) (*message.Router, error) {
	router, err := bus.NewRouter(bus.RouterConfig{})
	if err != nil {
		return nil, err
	}
	const name = "end-sessions"
	cursors := &bus.MemoryCursors{}
	if err := bus.AtEnd(ctx, cursors, name, s.ctl.Log()); err != nil {
		return nil, err
	}
	sub, err := bus.NewSubscriber(bus.SubscriberConfig{
		Consumer: name, Cursors: cursors, Logs: func(string) ([]bus.Log, error) { return []bus.Log{s.ctl.Log()}, nil },
		Failed: func(_ string, cause error) { s.fail(fmt.Errorf("process managers: %w", cause)) },
	})
	if err != nil {
		return nil, err
	}
	router.AddConsumerHandler(name, string(events.Ctl), sub, func(m *message.Message) error {
		r, err := bus.RecordOf(m)
		if err != nil {
			return err
		}
		if err := s.commands.WaitApplied(m.Context(), r.Header.Origin(), r.Header.Position); err != nil {
			return err
		}
		s.gateway.OnEvent(r)
		return nil
	})
	return router, s.handleRotations(ctx, router)
}

// watchSpace records when a log stops or resumes taking records.
func (s *Site) watchSpace(ctx context.Context) {
	tick := time.NewTicker(spaceCheck)
	defer tick.Stop()
	full := map[events.Kind]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, h := range s.Histories() {
			space := h.Log().Space()
			kind, now := h.Log().Origin().Kind, space.Full
			if now == full[kind] || ctx.Err() != nil {
				continue
			}
			reason := "no space left on the log's file system"
			if space.Err != nil {
				reason = space.Err.Error()
				s.log.Error("a log closed itself; start the site again once the cause is mended", "log", string(kind), "error", space.Err)
			}
			if kind == events.Ctl && space.Err != nil {
				s.fail(fmt.Errorf("nothing can be decided any more: %w", space.Err))
				return
			}
			_, err := s.commands.Do(ctx, s.actor(), commands.RecordStorage{Log: kind, Full: now, Reason: reason})
			if err != nil {
				s.log.Error("the state of storage could not be recorded", "log", string(kind), "full", now, "error", err)
				continue
			}
			full[kind] = now
		}
	}
}
