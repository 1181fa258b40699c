package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// LabelTarget gives a target labels and takes labels away.
type LabelTarget struct {
	Target string   // name or id
	Set    []string // KEY=VALUE each
	Remove []string // keys
}

var _ = register[LabelTarget]("LabelTarget", byAdmin|headroom)

const maxLabels = 64 // of one target

// Decide leaves alone what is as asked for; that may be all.
func (c LabelTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	t, err := findTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	if len(c.Set)+len(c.Remove) == 0 {
		return nil, invalid("give KEY=VALUE, or --remove KEY", "no label is given")
	}
	given := map[string]bool{}
	d := newDecision(by, env)
	for _, text := range c.Set {
		l, err := events.ParseLabel(text)
		if err != nil {
			return nil, invalid("for example env=prod", "%v", err)
		}
		if given[l.Key] {
			return nil, invalid("give each label once", "label %s is given twice", l.Key)
		}
		given[l.Key] = true
		if v, ok := s.Label(t, l.Key); !ok || v != l.Value {
			d.add(t.ID.UUID, events.TargetLabelSet(l))
		}
	}
	has := s.Labels(t)
	for _, l := range has {
		given[l.Key] = true
	}
	if len(given) > maxLabels {
		return nil, conflict("remove some", "target %s would have %d labels, the limit is %d", t.Name, len(given), maxLabels)
	}
	for _, key := range c.Remove {
		if _, ok := s.Label(t, key); !ok {
			return nil, notFound("see `target show "+t.Name+"`", "target %s has no label %s", t.Name, quoted(key))
		}
		d.add(t.ID.UUID, events.TargetLabelRemoved{Key: key})
	}
	return d.done()
}
