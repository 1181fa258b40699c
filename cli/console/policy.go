package console

import (
	"errors"
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// right is what a verb asks of the person who uses it.
type right string

const (
	// own is everybody's: an operator sees what is theirs, auditors and
	// administrators see all.
	own right = "own"
	// read sees everything: auditors and administrators.
	read right = "read"
	// change decides things: administrators.
	change right = "change"
	// judged lets everybody ask; what the verb is about decides (a policy, a
	// grant), in its command.
	judged right = "judged"
)

// allows is the one place that says what a role may do at the console.
func allows(role events.Role, needed right) bool {
	switch role {
	case events.Admin:
		return true
	case events.Auditor:
		return needed == own || needed == judged || needed == read
	case events.Operator, events.Approver:
		return needed == own || needed == judged
	}
	return false
}

// permit lets a verb through for the caller, or writes its denial to the log
// and returns it. Only the verb's name is written: arguments may be secrets
// put in the wrong place.
func (c *call) permit(verb string, needed right) error {
	if c.unproven != nil && !(errors.Is(c.unproven, aggregate.ErrNoFactor) && slices.Contains(beforeFactor, verb)) {
		return c.denyUnproven(verb)
	}
	if allows(c.role, needed) {
		return nil
	}
	return c.deny(verb, string(c.role)+" may not use it; it needs the right to "+string(needed))
}

// beforeFactor are the verbs for those who need a second factor and have none.
var beforeFactor = []string{"user totp enroll", "user totp confirm", "whoami"}

// seesAll reports whether the caller sees what belongs to others.
func (c *call) seesAll() bool { return allows(c.role, read) }
