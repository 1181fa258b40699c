package lockout

import (
	"context"
	"errors"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// maxPresented is how many versions one session presents: the one that is held
// to be true and the next likeliest (rule R4). What is left of the budget is for
// others, and for the rotation that settles it.
const maxPresented = 2

// ErrNoCandidate says that there is no version that was not turned down.
var ErrNoCandidate = errors.New("no version of the secret is held here that the target may take")

// Result is what came of a session's login at its target.
type Result int

// The results.
const (
	NotPresented Result = iota // the target saw no secret
	Accepted                   // and that is in the log
	Rejected                   // it looked at the secret and turned it down
	Unanswered                 // it saw the secret and said nothing
)

// Login logs a session in: present is called with the version that the target
// is held to take, and with the next likeliest one if it was rejected. Each call
// has a ticket, and what came of it is in the log when the ticket is given back.
// The error is that of the last call, or says why there was none.
func (k *Keeper) Login(ctx context.Context, session events.SessionID, credential events.CredentialID,
	present func(vault.Sealed) (Result, error)) error {
	tried := map[events.SecretID]bool{}
	var last error
	for range maxPresented {
		result, err := k.once(ctx, session, credential, tried, present)
		if last != nil && (errors.Is(err, ErrNoCandidate) || errors.As(err, new(*SpentError))) {
			return last
		}
		if result != Rejected {
			return err
		}
		last = err
	}
	return last
}

func (k *Keeper) once(ctx context.Context, session events.SessionID, credential events.CredentialID, tried map[events.SecretID]bool,
	present func(vault.Sealed) (Result, error)) (Result, error) {
	done, err := k.Present(ctx, credential)
	if err != nil {
		return NotPresented, err
	}
	told := true
	defer func() {
		if told { // else it stays spent as long as the site runs
			done()
		}
	}()
	v, ok := k.likeliest(credential, tried) // what a change made true while this waited
	if !ok {
		return NotPresented, ErrNoCandidate
	}
	tried[v.Version] = true
	result, err := present(v)
	if result == Rejected || result == Unanswered {
		say := commands.RejectSecret{Session: session, Version: v.Version, Unanswered: result == Unanswered}
		if err != nil {
			say.Detail = err.Error()
		}
		_, failed := k.site.Do(context.WithoutCancel(ctx), events.SiteActor(k.id), say)
		if told = failed == nil; !told {
			return Unanswered, errors.Join(err, failed)
		}
	}
	return result, err
}

func (k *Keeper) likeliest(credential events.CredentialID, tried map[events.SecretID]bool) (v vault.Sealed, ok bool) {
	k.site.View(func(s *aggregate.State) {
		for _, c := range commands.Candidates(s, credential) {
			if !tried[c.Version] {
				v, ok = c, true
				return
			}
		}
	})
	return v, ok
}
