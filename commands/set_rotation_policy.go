package commands

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// SetRotationPolicy replaces the policy of a target or of an account.
type SetRotationPolicy struct {
	Account string // name or id; empty for a target's policy
	Target  string // name or id; may be empty with an account's id
	Policy  events.RotationPolicy
}

var _ = register[SetRotationPolicy]("SetRotationPolicy", byAdmin|headroom)

// Bounds of a policy.
const (
	minLength, maxLength = 12, 128
	maxForbidden         = 64
	maxInterval          = 10 * 365 * 24 * time.Hour
	maxWindow            = 7 * 24 * time.Hour
	maxConcurrency       = 64
)

// CharacterClasses are the classes that a policy may ask for.
var CharacterClasses = []string{"lower", "upper", "digit", "symbol"}

// Decide refuses values that can't work.
func (c SetRotationPolicy) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkRotationPolicy(c.Policy); err != nil {
		return nil, err
	}
	stream, err := policyStream(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	if c.Account != "" && c.Policy.Concurrency != 0 {
		return nil, invalid("set it for the target", "concurrency is a matter of a target, not of an account")
	}
	d := newDecision(by, env)
	d.add(stream, events.RotationPolicySet{Policy: c.Policy})
	return d.done()
}

func policyStream(s *aggregate.State, account, target string) (uuid.UUID, error) {
	if account == "" {
		t, err := findTarget(s, target)
		if err != nil {
			return uuid.Nil, err
		}
		return t.ID.UUID, nil
	}
	a, _, err := findAccount(s, account, target)
	if err != nil {
		return uuid.Nil, err
	}
	return a.ID.UUID, nil
}

func checkRotationPolicy(p events.RotationPolicy) error {
	if p.Length != 0 && (p.Length < minLength || p.Length > maxLength) {
		return invalid("", "a password has from %d to %d characters, not %d", minLength, maxLength, p.Length)
	}
	for _, class := range p.Classes {
		if !slices.Contains(CharacterClasses, class) {
			return invalid("the classes are "+strings.Join(CharacterClasses, ", "), "%s is not a class of characters", quoted(class))
		}
	}
	if len(p.Forbidden) > maxForbidden || strings.ContainsFunc(p.Forbidden, func(r rune) bool { return r > unicode.MaxASCII || unprintable(r) }) {
		return invalid("", "the forbidden characters are at most %d printable ASCII ones", maxForbidden)
	}
	for name, n := range map[string]uint64{"every": p.Every, "max age": p.MaxAge, "after reveal": p.AfterReveal, "after use": p.AfterUse, "jitter": p.Jitter} {
		if n > uint64(maxInterval/time.Second) {
			return invalid("", "%s is longer than %s", name, maxInterval)
		}
	}
	switch {
	case p.Every != 0 && p.Every < 60, p.MaxAge != 0 && p.MaxAge < 60:
		return invalid("", "secrets are rotated at most once a minute")
	case p.LockoutThreshold == 1:
		return invalid("", "with a lock-out at the first wrong login nothing can be tested; the threshold is at least 2")
	case p.LockoutThreshold > 1000:
		return invalid("", "the lock-out threshold is at most 1000")
	case p.LockoutWindow > uint64(maxWindow/time.Second):
		return invalid("", "the lock-out window is at most %s", maxWindow)
	case p.Concurrency > maxConcurrency:
		return invalid("", "the concurrency is at most %d", maxConcurrency)
	case p.Disclose != "" && p.Disclose != events.ToAdmins && p.Disclose != events.ToGranted:
		return invalid("", "secrets are shown to %s or %s", events.ToAdmins, events.ToGranted)
	case p.Isolated != "" && p.Isolated != events.IsolatedNever && p.Isolated != events.IsolatedAsked && p.Isolated != events.IsolatedAlways:
		return invalid("", "a site that reaches no other one rotates %s, %s or %s", events.IsolatedNever, events.IsolatedAsked, events.IsolatedAlways)
	}
	return nil
}

// RotationPolicyOf tells the policy that was set for a target or an account
// itself, and what holds with what it inherits. Errors are refusals.
func RotationPolicyOf(s *aggregate.State, account, target string) (own, applies events.RotationPolicy, err error) {
	stream, err := policyStream(s, account, target)
	if err != nil {
		return own, applies, err
	}
	own = s.OwnRotationPolicy(stream)
	a, ok := s.Account(events.AccountID{UUID: stream})
	if !ok {
		a = &aggregate.Account{Target: events.TargetID{UUID: stream}} // any that sets nothing itself
	}
	return own, s.RotationPolicy(a), nil
}
