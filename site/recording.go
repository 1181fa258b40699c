package site

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
)

// Recording gives what the log holds of a session, as far as it is durable and
// the views know of it (see [Site.CaughtUp]). It needs an unsealed site. Of an erased
// one the error says by whom and why (rule R19).
func (s *Site) Recording(ctx context.Context, id events.SessionID) replay.Source {
	return s.items(ctx, func(yield func(events.Record, error) bool) {
		if err := s.refuseErased(id); err != nil {
			yield(events.Record{}, err)
			return
		}
		shown, err := s.views.Session(ctx, id)
		var extents []projections.Extent
		if err == nil {
			extents, err = s.views.Extents(ctx, id, shown.SiteID)
		}
		if err != nil {
			yield(events.Record{}, err)
			return
		}
		got := map[events.Direction]uint64{}
		for r, err := range s.records(ctx, id, extents) {
			if err == nil && r.Header.Type == "session.packets" {
				e, bad := r.Event()
				if p, ok := e.(events.SessionPackets); ok && bad == nil {
					got[p.Direction] = max(got[p.Direction], p.First+p.Count)
				}
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
		if err := s.arrived(shown, got); err != nil {
			yield(events.Record{}, err)
		}
	})
}

// arrived tells when a recording is from another site and not all of it has come
// from there, so that a part is never taken for the whole.
func (s *Site) arrived(shown projections.Session, got map[events.Direction]uint64) error {
	if shown.SiteID == s.who.ID || shown.Ended == nil || got[events.In] >= shown.PacketsIn && got[events.Out] >= shown.PacketsOut {
		return nil
	}
	return &commands.Refusal{
		Code:    commands.Unavailable,
		Message: fmt.Sprintf("session %s ran at another site, and only %d of its %d packets have arrived here", shown.ID, got[events.In]+got[events.Out], shown.PacketsIn+shown.PacketsOut),
		Hint:    "read it at the site where it ran, or here once the rest has arrived (mesh status)",
	}
}

func (s *Site) refuseErased(id events.SessionID) (err error) {
	s.commands.View(func(state *aggregate.State) { err = commands.RefuseErased(state, id) })
	return err
}

// items opens the records of a session.
func (s *Site) items(ctx context.Context, records iter.Seq2[events.Record, error]) replay.Source {
	return replay.Items(func(yield func(replay.Record, error) bool) {
		// The key is fetched with the first record: a session that has only begun may have none yet.
		var key *seal.DataKey
		defer func() {
			if key != nil {
				key.Release()
			}
		}()
		for r, err := range records {
			if err != nil {
				s.noteDamage(ctx, err)
			}
			var record replay.Record
			if err == nil {
				record, key, err = s.openRecord(ctx, r, key)
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	})
}

// records are the session's records in its extents of the rec logs.
func (s *Site) records(ctx context.Context, id events.SessionID, extents []projections.Extent) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		for _, x := range extents {
			log := s.recLog(x.Origin)
			if log == nil {
				yield(events.Record{}, fmt.Errorf("recording of session %s: log %s is not held at this site", id, x.Origin))
				return
			}
			for r, err := range s.within(ctx, log, x) {
				if err == nil && r.Header.Stream != id.UUID {
					continue
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

func (s *Site) recLog(o events.Origin) store.Log {
	for _, log := range append(s.rec.Logs(), s.OtherLogs()...) {
		if log.Origin() == o {
			return log
		}
	}
	return nil
}

// within reads the records of one extent. Payloads that are not held here come
// from who holds them.
func (s *Site) within(ctx context.Context, log store.Log, x projections.Extent) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		at := x.First
		for entry, err := range log.Read(ctx, x.First) {
			var r events.Record
			if err == nil {
				r, err = events.DecodeEntry(entry)
			}
			if n := s.node(); err == nil && r.Raw.Payload == nil && n != nil { // held by another site
				r.Raw.Payload, err = n.Fetch(ctx, &r.Header)
			}
			if !yield(r, err) || err != nil || at == x.Last {
				return
			}
			at++
		}
	}
}
