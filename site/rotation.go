package site

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/bus"
)

// RotationConfig is the section "rotation".
type RotationConfig struct {
	// Exec are the programs that targets of kind exec may run, by the name that
	// their parameter "program" gives: each with its absolute path and its
	// arguments. A console argument never names a program.
	Exec map[string]rotator.Program `koanf:"exec"`
}

// openRotations makes the process manager of rotations and the keeper of
// lock-out budgets, which it shares with the gateway.
func (s *Site) openRotations() {
	s.seconds = newSeconds(s)
	s.keeper = lockout.New(s.who.ID, s.commands, WallClock)
	s.rotations = rotation.New(rotation.Config{
		Dispatcher: s.commands, Sealer: s.sealer, Keeper: s.keeper, Site: s.who.ID, Now: WallClock, Log: s.log,
		Rotator: rotator.NewSet(s.cfg.Rotation.Exec).For, Generate: generate, Lease: s.leaseLeft, Copies: s.seconds,
	})
}

// generate makes a secret that replaces old, by the account's policy.
func generate(kind events.TargetKind, p events.RotationPolicy, old rotator.Secret) (rotator.Secret, error) {
	switch old.Kind {
	case events.Password:
		policy := rotator.Policy{Length: int(p.Length), Forbidden: p.Forbidden}
		for _, class := range p.Classes {
			policy.Classes = append(policy.Classes, classes[class])
		}
		return rotator.NewPassword(kind, policy)
	case events.PrivateKey:
		if strings.HasPrefix(old.Public, ssh.KeyAlgoRSA+" ") { // the server may take no other
			return rotator.NewKey(rotator.RSA)
		}
		return rotator.NewKey(rotator.Ed25519)
	}
	return rotator.Secret{}, fmt.Errorf("secrets of kind %q are not made here", old.Kind)
}

var classes = map[string]string{"lower": rotator.Lower, "upper": rotator.Upper, "digit": rotator.Digits, "symbol": rotator.Symbols}

// Rotations is the process manager of rotations. It works while the site serves.
func (s *Site) Rotations() *rotation.Manager { return s.rotations }

// handleRotations tells the manager of every decision from now on; what was
// under way before, it finds in the state.
func (s *Site) handleRotations(ctx context.Context, router *message.Router) error {
	const name = "rotations"
	cursors := &bus.MemoryCursors{}
	if err := bus.AtEnd(ctx, cursors, name, s.ctl.Log()); err != nil {
		return err
	}
	sub, err := bus.NewSubscriber(bus.SubscriberConfig{
		Consumer: name, Cursors: cursors, Logs: func(string) ([]bus.Log, error) { return []bus.Log{s.ctl.Log()}, nil },
		Failed: func(_ string, cause error) { s.fail(fmt.Errorf("process manager of rotations: %w", cause)) },
	})
	if err != nil {
		return err
	}
	router.AddConsumerHandler(name, string(events.Ctl), sub, func(m *message.Message) error {
		r, err := bus.RecordOf(m)
		if err != nil {
			return err
		}
		if err := s.commands.WaitApplied(m.Context(), r.Header.Origin(), r.Header.Position); err != nil {
			return err
		}
		s.rotations.OnEvent(r)
		return nil
	})
	return nil
}

// serveRotations carries out rotations until the end is asked for; the end
// waits for the steps under way.
func (s *Site) serveRotations(ctx context.Context) (end func(context.Context) error) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	s.background.Go(func() {
		defer close(done)
		s.rotations.Run(ctx)
	})
	return func(within context.Context) error {
		stop()
		select {
		case <-done:
			return nil
		case <-within.Done():
			return errors.New("rotations under way did not end in time; the next start settles them")
		}
	}
}
