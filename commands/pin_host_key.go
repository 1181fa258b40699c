package commands

import (
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// PinHostKey replaces the host keys that a target must prove. It also settles
// keys that sites pinned apart.
type PinHostKey struct {
	Target   string // name or id
	HostKeys []string
	Scanned  bool
}

var _ = register[PinHostKey]("PinHostKey", byAdmin|headroom)

// Decide makes no event when exactly these keys are pinned already.
func (c PinHostKey) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	t, err := findTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	if t.Kind != events.SSH {
		return nil, noHostKeys(t.Name, t.Kind)
	}
	keys, err := parseHostKeys(c.HostKeys)
	if err != nil {
		return nil, err
	}
	if slices.Equal(keys, t.HostKeys()) && t.Scanned() == c.Scanned && !t.Contested() {
		return nil, nil
	}
	d := newDecision(by, env)
	d.add(t.ID.UUID, events.TargetHostKeyPinned{HostKeys: keys, Scanned: c.Scanned})
	return d.done()
}
