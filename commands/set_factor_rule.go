package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// SetFactorRule says whether a user needs a second factor, whatever their role
// says. Sessions that run go on; the next login has to keep to it.
type SetFactorRule struct {
	User  string // name or id
	Need  events.FactorNeed
	Reuse uint64 // seconds for which a code does for further logins from the same address by the same key
}

var _ = register[SetFactorRule]("SetFactorRule", byAdmin|headroom)

// Decide refuses a time for which there is no code to be used again.
func (c SetFactorRule) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if c.Need != events.FactorNeeded && c.Need != events.FactorByRole && c.Need != events.FactorExempt {
		return nil, invalid("use required, off, or role for what the user's role says", "%s says nothing of a second factor", quoted(string(c.Need)))
	}
	if err := checkReuse(c.Reuse); err != nil {
		return nil, err
	}
	if c.Reuse > 0 && c.Need != events.FactorNeeded {
		return nil, invalid("say required, or leave --reuse out", "a code can be used again only where one is needed")
	}
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(u.ID.UUID, events.UserFactorRuleSet{Need: c.Need, Reuse: c.Reuse})
	return d.done()
}

func checkReuse(seconds uint64) error {
	if seconds > uint64(aggregate.MaxFactorReuse/time.Second) {
		return invalid("give a shorter time, for example 10m", "a code can be used again for at most %s", aggregate.MaxFactorReuse)
	}
	return nil
}
