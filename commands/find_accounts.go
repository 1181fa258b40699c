package commands

import (
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// SeekAccounts says that a target is about to be asked which accounts it has,
// through a privileged account on it.
type SeekAccounts struct {
	Target string // name or id
	Via    Ref
}

var _ = register[SeekAccounts]("SeekAccounts", byAdmin|headroom)

// Decide refuses what could not be asked, so that nothing is dialled in vain.
func (c SeekAccounts) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	t, err := findTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	if t.Kind == events.Exec {
		return nil, invalid("", "%s is a target of kind %s, which can't be asked for its accounts", t.Name, t.Kind)
	}
	if c.Via == (Ref{}) {
		return nil, invalid("name the account to log in with: --via ACCOUNT+"+t.Name, "the accounts of %s are read through a privileged account", t.Name)
	}
	via, err := findVia(s, c.Via, t, "")
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(t.ID.UUID, events.AccountsSought{Via: via})
	return d.done()
}

// RecordAccounts says what a target has answered. The command is the site's.
type RecordAccounts struct {
	Target   events.TargetID
	Via      events.AccountID
	Sought   uuid.UUID // event that said so
	Accounts []events.FoundAccount
	Cut      bool
}

var _ = register[RecordAccounts]("RecordAccounts", bySite)

// Bounds of one answer, which is one event.
const (
	maxFound = 2000
	maxEach  = 32
)

// Decide keeps what fits: it comes from the target.
func (c RecordAccounts) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if _, ok := s.Target(c.Target); !ok {
		return nil, lookup("target", c.Target.String(), aggregate.ErrUnknown)
	}
	e := events.AccountsFound{Via: c.Via, Cut: c.Cut || len(c.Accounts) > maxFound}
	for _, a := range c.Accounts[:min(len(c.Accounts), maxFound)] {
		a.Name, a.ID, a.Keys, a.Rights = bounded(a.Name, maxLogin), bounded(a.ID, maxText), boundedAll(a.Keys), boundedAll(a.Rights)
		e.Accounts = append(e.Accounts, a)
	}
	d := newDecision(by, env)
	d.because(c.Sought, c.Target.UUID, e)
	return d.done()
}

func boundedAll(all []string) []string {
	all = slices.Clone(all[:min(len(all), maxEach)])
	for i, s := range all {
		all[i] = bounded(s, maxText)
	}
	return all
}
