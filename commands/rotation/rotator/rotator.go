// Package rotator changes the secret of an account on its target and finds out
// which secret the target takes. One file per kind of target; what is staged,
// tried again and recorded is decided above, in package rotation.
package rotator

import (
	"context"
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
	Addr       string            // host:port
	HostKeys   []string          // of an SSH target, authorized_keys form: it must prove one of them
	Algorithms []string          // legacy ones that an SSH target is allowed
	Params     map[string]string // as the target was added with: database, tls, ...
	Verb       Verb
	Account    string
	Current    Secret // zero for [ByPrivileged]
	Via        *Login // for [ByPrivileged]; nil otherwise
	Timeout    time.Duration
}

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
