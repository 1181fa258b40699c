// Package rotator changes the secret of an account on its target and finds out
// which secret the target takes. One file per kind of target; what is staged,
// tried again and recorded is decided above, in package rotation.
package rotator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// Secret is a secret in the clear, for the time of one call. It stays the
// caller's, to wipe.
type Secret struct {
	Kind   events.SecretKind
	Bytes  seal.Secret
	Public string // for a private key: its public half, authorized_keys form
}

// Login is an account with a secret that its target is believed to take.
type Login struct {
	Account string
	Params  map[string]string // of its target and its own, from [targetkind.Effective]
	Secret  Secret
}

// Verb is how a change is asked for.
type Verb string

const (
	// AsItself proves the old secret together with the change, so that the
	// target refuses who holds a stale one (rule R2).
	AsItself Verb = "as_itself"
	// ByPrivileged resets the secret through another account, without proof of
	// the old one.
	ByPrivileged Verb = "privileged"
)

// Job is one account on one target, and how to reach it.
type Job struct {
	Kind       events.TargetKind
	Addr       string            // host:port
	HostKeys   []string          // of an SSH target, authorized_keys form: it must prove one of them
	Algorithms []string          // legacy ones that an SSH target is allowed
	Params     map[string]string // of the target and the account, from [targetkind.Effective]
	Verb       Verb
	Account    string
	Current    Secret        // zero for [ByPrivileged]
	Via        *Login        // for [ByPrivileged]; nil otherwise
	Timeout    time.Duration // of one call, besides the end of its ctx; zero for [DefaultTimeout]
}

// DefaultTimeout bounds a call whose job says nothing.
const DefaultTimeout = 30 * time.Second

// Outcome is what is known of the target after a change was asked for.
type Outcome string

const (
	// Applied means that the target said that it holds the new secret.
	Applied Outcome = "applied"
	// Refused means that the target said no, or was certainly never asked: it
	// holds what it held before.
	Refused Outcome = "refused"
	// Unknown means that the request may or may not have taken effect, now or later.
	Unknown Outcome = "unknown"
)

// Answer is what a target says to a login.
type Answer string

const (
	// Accepted means that the login succeeded.
	Accepted Answer = "accepted"
	// Rejected means that the target looked at the secret and turned it down; it
	// counts against a lock-out budget.
	Rejected Answer = "rejected"
	// Locked means that the target says that the account takes no login now,
	// whatever the secret.
	Locked Answer = "locked"
	// NoAnswer means that nothing was learned: not reached, not the right host,
	// or a failure that says nothing about the secret.
	NoAnswer Answer = "no answer"
)

// LoginError is the error of a change whose own login did not succeed, so that
// nothing was asked for: Rejected counts against the account's lock-out budget.
type LoginError struct {
	Account string // the one that logs in: the job's or the privileged one
	Answer  Answer
	Err     error
}

func (e *LoginError) Error() string { return fmt.Sprintf("log in as %s: %v", e.Account, e.Err) }

// Unwrap gives what the target said.
func (e *LoginError) Unwrap() error { return e.Err }

// ErrNotPresented is in the error of an outcome or answer that can't have
// counted against a lock-out budget: the target was not reached, or proved
// another host key, or the exchange ended before a secret was presented. An
// error without it counts.
var ErrNotPresented = errors.New("no secret was presented")

// ErrUnfit is the class of errors for a new secret that the target's own rules
// turn down; another secret may do.
var ErrUnfit = errors.New("the target's rules turn the new secret down")

// Rotator changes and checks secrets on one kind of target. Its methods are
// safe for concurrent use, return by the end of ctx, leave nothing running, and
// their errors never repeat a secret.
type Rotator interface {
	// Change asks the target to take next in place of the account's secret. The
	// error says why for every outcome but Applied.
	Change(ctx context.Context, j Job, next Secret) (Outcome, error)
	// Verify logs in with candidate and changes nothing. The error says why for
	// every answer but Accepted.
	Verify(ctx context.Context, j Job, candidate Secret) (Answer, error)
}

// Retirer is a Rotator whose Change leaves the target accepting the old secret
// beside the new one, until Retire. A change is complete when the new secret
// was verified and the old ones are retired.
type Retirer interface {
	Rotator
	// Retire makes the target stop accepting the secrets with these public halves
	// (authorized_keys form), and keeps everything else. The job's Current is the
	// secret that stays. A half that is not there is retired already; that of
	// Current is never retired. It may be repeated.
	Retire(ctx context.Context, j Job, gone []string) (Outcome, error)
}
