package site

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
)

// Recording gives what the log holds of a session, as far as it is durable and
// the views know of it (see [Site.CaughtUp]). It needs an unsealed site.
func (s *Site) Recording(ctx context.Context, id events.SessionID) replay.Source {
	return s.items(ctx, id, func(yield func(events.Record, error) bool) {
		extents, err := s.views.Extents(ctx, id)
		if err != nil {
			yield(events.Record{}, err)
			return
		}
		s.records(ctx, id, extents)(yield)
	})
}

// items opens the records of a session.
func (s *Site) items(ctx context.Context, id events.SessionID, records iter.Seq2[events.Record, error]) replay.Source {
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
			if err == nil && key == nil {
				if key, err = s.sealer.Key(ctx, id.UUID); err != nil {
					err = fmt.Errorf("open the recording of session %s: %w", id, err)
				}
			}
			var record replay.Record
			if err == nil {
				record, err = gateway.OpenRecord(r, key)
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
