package commands

import (
	"cmp"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
)

// AddTarget makes a target.
type AddTarget struct {
	Name     string
	Addr     string            // host:port
	Kind     events.TargetKind // empty for an SSH one
	Params   map[string]string // what its kind needs to know (see package targetkind)
	HostKeys []string          // authorized_keys form, at least one for an SSH target and none for another
	Scanned  bool              // the keys were taken from the target itself

	ID events.TargetID // that its scan has reserved; zero for a fresh one
}

var _ = register[AddTarget]("AddTarget", byAdmin|headroom)

// Decide refuses a name that a live target has, and what its kind does not take. The new target's id is the
// stream of the event.
func (c AddTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkNewTarget(s, c.Name, c.Addr); err != nil {
		return nil, err
	}
	kind := cmp.Or(c.Kind, events.SSH)
	if err := targetkind.Check(kind, c.Params); err != nil {
		return nil, badParams(err)
	}
	keys, err := c.hostKeys(kind)
	if err != nil {
		return nil, err
	}
	if _, taken := s.Target(c.ID); taken {
		return nil, conflict("scan again", "target %s exists", c.ID)
	}
	d := newDecision(by, env)
	id := c.ID.UUID
	if c.ID.IsZero() {
		id = d.id()
	}
	d.add(id, events.TargetAdded{
		Name: c.Name, Addr: c.Addr, HostKeys: keys, Scanned: c.Scanned, Kind: kind, Params: targetkind.Sorted(c.Params),
	})
	return d.done()
}

func (c AddTarget) hostKeys(kind events.TargetKind) ([]string, error) {
	switch {
	case kind == events.SSH:
		return parseHostKeys(c.HostKeys)
	case len(c.HostKeys) > 0:
		return nil, noHostKeys(c.Name, kind)
	}
	return nil, nil
}

// noHostKeys refuses what makes sense for SSH only.
func noHostKeys(target string, kind events.TargetKind) error {
	return invalid("leave the host key out; --param tls and ca say whom to trust", "%s is a target of kind %s, which has no SSH host key", target, kind)
}
