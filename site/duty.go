package site

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// drainTime is how long giving duties away waits for rotations under way.
const drainTime = 5 * time.Minute

// yieldDuties takes note of duties that others took from this site: from then on
// it does not carry them out, and its log says since when.
func (s *Site) yieldDuties(ctx context.Context) {
	lost := 0
	s.commands.View(func(state *aggregate.State) { lost = len(state.Lost(s.who.ID)) })
	if lost == 0 {
		return
	}
	records, err := s.commands.Do(ctx, s.actor(), commands.YieldDuties{})
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("that other sites took over from this one could not be recorded", "error", err)
		}
		return
	}
	for _, r := range records {
		s.log.Warn("another site has taken over what this one carried out", "of", r.Header.Stream.String(), "event", r.Header.ID.String())
	}
}

// GiveDuties moves what this site carries out to another one, once no rotation
// of it is under way.
func (s *Site) GiveDuties(ctx context.Context, by events.Actor, c commands.GiveDuties) ([]events.Record, error) {
	deadline := WallClock().Add(drainTime)
	for {
		records, err := s.commands.Do(ctx, by, c)
		var r *commands.Refusal
		busy := false
		s.commands.View(func(state *aggregate.State) { busy = len(state.UnderWayAt(s.who.ID)) > 0 })
		if err == nil || !busy || !errors.As(err, &r) || r.Code != commands.Conflict || WallClock().After(deadline) {
			return records, err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// worksAt names the site that carries out what another one began, or the
// rotations of that.
func worksAt(state *aggregate.State, m *aggregate.MeshSite, rotations bool) string {
	d, moved := state.Holder(m.Site, events.TargetID{})
	if rotations {
		d, moved = state.RotationHolder(m.Site, events.TargetID{})
	}
	if !moved || d.Holder == m.Site {
		return m.Name
	}
	if holder, ok := state.MeshSite(d.Holder); ok {
		return holder.Name
	}
	return d.Holder.String()
}
