// Package aggregatetest makes ctl records for tests, as the writer of a site's
// log would: numbered, stamped with clocks, encoded and decoded again.
package aggregatetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Epoch is when the clocks of all test sites begin.
var Epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Site writes one ctl log. Its wall clock moves on by a millisecond a record,
// plus Skew. Not safe for concurrent use.
type Site struct {
	ID      events.SiteID
	Epoch   uint32 // of the log; 0 for the first one
	Records []events.Record
	Skew    time.Duration
	Fail    error                // what Append returns, having written nothing
	Knows   func() events.Clock  // what the site has applied; nil for nothing but its own log
	OnWrite func([]events.Draft) // called before each append, nil for nothing

	ticker events.Ticker
	coder  events.ClockCoder
}

// NewSite makes site number n; the same n gives the same ids.
func NewSite(n int) *Site {
	s := &Site{ID: events.SiteID{UUID: ID("site", n)}}
	s.ticker.Now = func() time.Time { return s.now() }
	return s
}

// Back is the site as it was after its first n records.
func (s *Site) Back(n int) *Site {
	old := &Site{ID: s.ID, Epoch: s.Epoch, Records: s.Records[:n:n]}
	old.ticker.Now = func() time.Time { return old.now() }
	for _, r := range old.Records {
		old.Observe(r)
		if _, err := old.coder.Apply(r.Header.Clock); err != nil {
			panic(err)
		}
	}
	return old
}

// ID is a valid UUIDv7 made from a name and a number.
func ID(name string, n int) uuid.UUID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(name), uint64(n)))
	id := uuid.UUID(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}

// Origin is the site's ctl log.
func (s *Site) Origin() events.Origin {
	return events.Origin{Site: s.ID, Epoch: max(s.Epoch, 1), Kind: events.Ctl}
}

func (s *Site) now() time.Time {
	return Epoch.Add(time.Duration(len(s.Records))*time.Millisecond + s.Skew)
}

// Observe takes note of a record from elsewhere, for the hybrid clock.
func (s *Site) Observe(r events.Record) {
	if err := s.ticker.Observe(r.Header.HLC); err != nil {
		panic(err)
	}
}

// Append writes the drafts and returns their records, or fails with Fail.
func (s *Site) Append(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.OnWrite != nil {
		s.OnWrite(drafts)
	}
	if s.Fail != nil {
		return nil, s.Fail
	}
	first := len(s.Records)
	for _, d := range drafts {
		r, err := s.record(d)
		if err != nil {
			return nil, err
		}
		s.Records = append(s.Records, r)
	}
	return s.Records[first:len(s.Records):len(s.Records)], nil
}

func (s *Site) record(d events.Draft) (events.Record, error) {
	t, err := events.TypeOf(d.Event)
	if err != nil {
		return events.Record{}, err
	}
	payload, err := events.EncodeEvent(d.Event)
	if err != nil {
		return events.Record{}, err
	}
	delta, err := s.delta()
	if err != nil {
		return events.Record{}, err
	}
	h := events.Header{
		V: events.HeaderVersion, ID: d.ID, Site: s.ID, Epoch: s.Origin().Epoch, Kind: events.Ctl, Position: uint64(len(s.Records)) + 1,
		Type: t.Name, TypeVersion: t.Version, Stream: d.Stream, Actor: d.Actor, Command: d.Command, Parent: d.Parent,
		HLC: s.ticker.Next(), Wall: s.now().UnixMicro(), Clock: delta,
		PayloadHash: sha256.Sum256(payload), PayloadSize: uint64(len(payload)),
	}
	header, err := events.EncodeHeader(&h)
	if err != nil {
		return events.Record{}, err
	}
	return events.DecodeEntry(events.Entry{Header: header, Payload: payload})
}

// delta is the step of the clock; the site's own log is not a part of it.
func (s *Site) delta() ([]byte, error) {
	if s.Knows == nil {
		return nil, nil
	}
	return s.coder.Delta(s.Knows().With(s.Origin(), 0))
}

// Draft makes a draft with an id that depends on the site and the place only.
func (s *Site) Draft(stream uuid.UUID, by events.Actor, e events.Event) events.Draft {
	return events.Draft{
		ID: ID("event of "+s.ID.String(), len(s.Records)), Stream: stream, Actor: by,
		Command: fmt.Sprintf("%T", e), Event: e,
	}
}
