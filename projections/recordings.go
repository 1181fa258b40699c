package projections

import (
	"context"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
)

// recordings tells where in the rec logs a session's records are, so that
// reading a recording does not scan everything that was recorded meanwhile. It
// is built from headers: no payload is read for it, and a range is widened in
// place, so that it has a few rows a session and not one a keystroke.
var _ = register(projection{
	name:    "recordings",
	version: 1,
	reads:   events.Rec,
	schema: `
CREATE TABLE recordings (
	session BLOB, site BLOB, epoch INTEGER, first INTEGER,
	last INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
	PRIMARY KEY (session, site, epoch, first)
) STRICT, WITHOUT ROWID;`,
	every: sessionRecorded,
})

// extentGap is how many records of others may lie between two records of a
// session in one extent: reading over them costs less than a seek.
const extentGap = 1024

const (
	widenExtent = `UPDATE recordings SET last = ?1, records = records + 1, bytes = bytes + ?2
		WHERE session = ?3 AND site = ?4 AND epoch = ?5 AND first =
			(SELECT max(first) FROM recordings WHERE session = ?3 AND site = ?4 AND epoch = ?5)
		AND last >= ?1 - ?6 RETURNING 1`
	beginExtent = "INSERT INTO recordings (session, site, epoch, first, last, records, bytes) VALUES (?, ?, ?, ?, ?, 1, ?)"
)

// sessionRecorded takes in one record of a session. It needs records of one log
// in order and nothing else.
func sessionRecorded(w *writer, r *record) error {
	h := &r.Header
	if !strings.HasPrefix(h.Type, "session.") {
		return nil
	}
	widened := false
	err := w.each(func(func(...any) error) error { widened = true; return nil }, widenExtent,
		count(h.Position), count(h.PayloadSize), r.stream(), h.Site.UUID[:], h.Epoch, extentGap)
	if err != nil || widened {
		return err
	}
	return w.exec(beginExtent, r.stream(), h.Site.UUID[:], h.Epoch, count(h.Position), count(h.Position), count(h.PayloadSize))
}

// Extent is a range of a rec log that holds records of one session, and perhaps
// of others between them.
type Extent struct {
	Origin  events.Origin `json:"origin"`
	First   uint64        `json:"first"`   // position of the first record of the session
	Last    uint64        `json:"last"`    // position of the last one
	Records uint64        `json:"records"` // of the session
	Bytes   uint64        `json:"bytes"`   // of their payloads, as stored
}

// Extents lists where the records of a site's session are, in the order of the logs.
// What other sites wrote under its id is none of it. It is empty for a session of
// which nothing was recorded. What was recorded after the projections' checkpoint is
// not in it: see [Projections.WaitFor].
func (p *Projections) Extents(ctx context.Context, session events.SessionID, site events.SiteID) (all []Extent, err error) {
	err = p.read(ctx, func(q *query) error {
		all, err = list(q, scanExtent,
			"SELECT site, epoch, first, last, records, bytes FROM recordings WHERE session = ? AND site = ? ORDER BY epoch, first", session.UUID[:], site.UUID[:])
		return err
	}, "recordings")
	return all, err
}

// Foreign is what a site recorded of a session that it does not run.
type Foreign struct {
	Site    events.SiteID
	Records uint64
	Last    events.Origin
	At      uint64 // position of the last one
}

// Foreign lists by site what is recorded of sessions that are known to run
// elsewhere, and not at that site.
func (p *Projections) Foreign(ctx context.Context) (all []Foreign, err error) {
	err = p.read(ctx, func(q *query) error {
		all, err = list(q, func(row scanner) (f Foreign, err error) {
			f.Last.Kind = events.Rec
			err = row.Scan(&f.Site, &f.Records, &f.Last.Epoch, &f.At)
			f.Last.Site = f.Site
			return f, err
		}, `SELECT r.site, sum(r.records), r.epoch, max(r.last) FROM recordings r
			WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = r.session AND s.site = r.site AND s.start_stamp IS NOT NULL)
			AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = r.session AND s.start_stamp IS NOT NULL) GROUP BY r.site ORDER BY r.site`)
		return err
	}, "recordings", "sessions")
	return all, err
}

func scanExtent(row scanner) (e Extent, err error) {
	e.Origin.Kind = events.Rec
	err = row.Scan(&e.Origin.Site, &e.Origin.Epoch, &e.First, &e.Last, &e.Records, &e.Bytes)
	return e, err
}
