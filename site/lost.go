package site

import (
	"context"
	"errors"
	"strings"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/replay"
	"github.com/holdfast-pam/holdfast/replay/transfer"
)

// endLostSessions ends what was open when an earlier run of this site was
// lost, with what its recordings hold.
func (s *Site) endLostSessions(ctx context.Context) error {
	var lost []events.SessionID
	s.commands.View(func(state *aggregate.State) {
		for _, n := range state.LiveSessions() {
			if n.Started.Origin.Site == s.who.ID && (s.gateway == nil || n.Started.Origin != s.ctl.Log().Origin()) {
				lost = append(lost, n.ID)
			}
		}
	})
	if len(lost) == 0 {
		return nil
	}
	behind := s.CaughtUp(ctx)
	for _, id := range lost {
		end, err := s.lostEnd(ctx, id)
		if err = errors.Join(behind, err); err != nil {
			// a damaged recording must not keep the site down: the damage is told, and verified on request
			s.log.Error("the recording of a session that was open when the site was lost can't be read", "session", id.String(), "error", err)
			end.Complete, end.Detail = false, "the recording can't be read: "+strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		if _, err := s.commands.Do(ctx, s.actor(), end); err != nil {
			return err
		}
	}
	return nil
}

// lostEnd counts what is recorded of a lost session. Nothing was delivered that
// is not in the log, so a recording without gaps is complete.
func (s *Site) lostEnd(ctx context.Context, id events.SessionID) (commands.EndSession, error) {
	end := commands.EndSession{Session: id, Reason: events.EndedByCrash, Complete: true}
	extents, err := s.views.Extents(ctx, id, s.who.ID)
	if err != nil {
		return end, err
	}
	for r, err := range s.records(ctx, id, extents) {
		if err != nil {
			s.noteDamage(ctx, err)
			return end, err
		}
		e, err := r.Event()
		if err != nil {
			return end, err
		}
		packets, ok := e.(events.SessionPackets)
		if !ok {
			continue
		}
		c := &end.In
		if packets.Direction == events.Out {
			c = &end.Out
		}
		end.Complete = end.Complete && packets.First == c.Committed
		c.Committed = packets.First + packets.Count
		c.Received = c.Committed
	}
	if err = s.countBytes(ctx, &end); err == nil {
		end.Files, err = s.lostFiles(ctx, id)
	}
	if errors.Is(err, seal.ErrSealed) {
		end.Detail = "the site is sealed: the bytes of the recording were not counted"
		end.Files.Unread = true
		err = nil
	}
	return end, err
}

// countBytes fills in the channel data of both directions, which takes opening
// the recording.
func (s *Site) countBytes(ctx context.Context, end *commands.EndSession) error {
	sum, err := replay.Summarize(s.Recording(ctx, end.Session))
	end.In.Bytes, end.Out.Bytes = sum.BytesIn, sum.BytesOut
	return err
}

// lostFiles tells what the recording of a lost session says of files and no
// event does, and gives the sum of all.
func (s *Site) lostFiles(ctx context.Context, id events.SessionID) (events.FileTotals, error) {
	told, err := s.views.FilesTold(ctx, id)
	if err != nil {
		return events.FileTotals{Unread: true}, err
	}
	files := gateway.Files{Told: told}
	for o, err := range transfer.Operations(s.Recording(ctx, id)) {
		if err != nil {
			files.Totals.Unread = true
			return files.Totals, err
		}
		files.Take(&o)
	}
	if len(files.Pending) == 0 {
		return files.Totals, nil
	}
	_, err = s.commands.Do(ctx, s.actor(), commands.NoteFiles{Session: id, Files: files.Pending})
	return files.Totals, err
}
