package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/factor"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// asker asks a person in a round of keyboard-interactive.
type asker = func(name, instruction string, prompts []sshwire.Prompt) ([]string, error)

const (
	factorNext = "your key is accepted; a code of your second factor is needed as well"
	answerLate = "nothing was answered in time; log in again"
	maxTyped   = 256 // bytes of what may be a code
)

// askFactor says whether a login whose key was proven has to prove a second factor as well. Where a rule allows it, the
// code of an earlier login does.
func (l *login) askFactor(ctx context.Context, m sshwire.Meta) bool {
	s, who := l.server, l.claimed
	asked := false
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		asked = state.FactorAsked(who.user)
		if f, ok := state.FactorOf(who.user); ok && asked {
			l.factor = f.ID
		}
	})
	if !asked {
		return false
	}
	records, err := s.cfg.Dispatcher.Do(ctx, events.UserActor(who.user), commands.ReuseFactor{FactorLogin: l.factorLogin(m)})
	if err != nil || len(records) == 0 { // what is wrong is told when a code is given
		return true
	}
	if e, err := records[0].Event(); err == nil {
		who.factor = events.Factor{ID: l.factor, Kind: events.TOTP, At: e.(events.FactorReused).At, Reused: true}
		return false
	}
	return true
}

func (l *login) factorLogin(m sshwire.Meta) commands.FactorLogin {
	return commands.FactorLogin{
		Site: l.server.cfg.Site, User: l.claimed.user, Factor: l.factor, Login: l.name, Source: m.RemoteAddr().String(),
		Fingerprint: l.claimed.fingerprint,
	}
}

// proveFactor asks for one code and spends it. What a client asks for again after a wrong one is a round of its own.
func (l *login) proveFactor(ctx context.Context, m sshwire.Meta, ask asker) error {
	answers, err := ask("", "", []sshwire.Prompt{{Text: "Code of your second factor: "}})
	if err != nil {
		return err
	}
	l.tried = true
	proven, err := l.redeem(ctx, m, strings.TrimSpace(answers[0]))
	if err == nil {
		l.claimed.factor = proven
		return nil
	}
	l.complain(m, err)
	return errNotLetIn
}

// complain tells the person why a code was not taken.
func (l *login) complain(m sshwire.Meta, err error) {
	var r *commands.Refusal
	why := "this gateway can't check codes now; tell its administrator"
	switch {
	case errors.As(err, &r) && r.Cause == nil:
		why = r.Error()
	case errors.Is(err, seal.ErrSealed):
		why = "this gateway is sealed and can't check codes; a recovery code is taken, or tell its administrator"
	case errors.Is(err, errEmpty):
		why = err.Error()
	default:
		l.server.log.Error("a code of a second factor could not be checked", "user", l.claimed.user.String(), "error", err)
	}
	_ = m.Banner("holdfast: " + why + "\r\n") // a connection that can't take it is found out by the next read
}

var errEmpty = errors.New("no code was given")

// redeem spends what was typed: a code, or a recovery code, which a sealed site can check too. When it returns without
// an error, the event that spends it is durable.
func (l *login) redeem(ctx context.Context, m sshwire.Meta, typed string) (events.Factor, error) {
	kind := events.Recovery
	if factor.LooksLikeCode(typed) {
		kind = events.TOTP
	}
	var command commands.Command = commands.MissFactor{FactorLogin: l.factorLogin(m)}
	switch {
	case typed == "":
		return events.Factor{}, errEmpty
	case len(typed) > maxTyped:
	case kind == events.Recovery:
		command = commands.RecoverFactor{FactorLogin: l.factorLogin(m), Hash: factor.HashRecovery(l.factor, typed)}
	default:
		step, ok, err := l.match(ctx, typed)
		if err != nil {
			return events.Factor{}, err
		}
		if ok {
			command = commands.RedeemFactor{FactorLogin: l.factorLogin(m), Step: step}
		}
	}
	records, err := l.server.cfg.Dispatcher.Do(ctx, events.UserActor(l.claimed.user), command)
	if err != nil {
		return events.Factor{}, err
	}
	return events.Factor{ID: l.factor, Kind: kind, At: time.UnixMicro(records[0].Header.Wall).UTC().Truncate(time.Second)}, nil
}

// match opens the factor's secret and compares. A factor of another site is not opened: the command says whose it is.
func (l *login) match(ctx context.Context, typed string) (step uint64, ok bool, err error) {
	s := l.server
	sealed := factor.Sealed{Factor: l.factor}
	own := false
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		if f, ok := state.Factor(l.factor); ok {
			sealed.Bytes, own = f.Sealed, state.FactorOwner(f) == s.cfg.Site
		}
	})
	if !own {
		return 0, false, nil
	}
	secret, err := factor.Open(ctx, s.cfg.Sealer, sealed)
	if err != nil {
		return 0, false, err
	}
	defer secret.Wipe()
	step, ok = factor.Match(secret, typed, s.cfg.Now())
	return step, ok, nil
}
