package projections

import (
	"database/sql"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// disclosures tells who was shown which version of a secret, and for how long
// they had it to themselves. Each row is one event by its place: others may say
// something under the same id, and hide nothing by that.
var _ = register(projection{
	name:    "disclosures",
	version: 2,
	reads:   events.Ctl,
	schema: `
CREATE TABLE disclosures (
	stamp BLOB PRIMARY KEY,
	id BLOB NOT NULL, credential BLOB, version BLOB, user BLOB, at INTEGER, reason TEXT NOT NULL, until INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX disclosures_credential ON disclosures (credential);
CREATE TABLE disclosures_ends (
	id BLOB PRIMARY KEY, stamp BLOB, ended INTEGER, expired INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;`,
	on: []handler{on(secretRevealed), on(secretCheckedOut), on(secretCheckedIn)},
})

const addDisclosure = "INSERT INTO disclosures (stamp, id, credential, version, user, at, reason, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

var endDisclosure = keepFirst("disclosures_ends", "id", "stamp", "ended", "expired")

func secretRevealed(w *writer, r *record, e events.SecretRevealed) error {
	return w.exec(addDisclosure, r.stamp(), r.Header.ID[:], r.stream(), e.Version.UUID[:], blob(r.Header.Actor.ID), r.Header.Wall, e.Reason, nil)
}

func secretCheckedOut(w *writer, r *record, e events.SecretCheckedOut) error {
	return w.exec(addDisclosure, r.stamp(), r.Header.ID[:], r.stream(), e.Version.UUID[:], blob(r.Header.Actor.ID), r.Header.Wall, e.Reason, e.Until.UnixMicro())
}

func secretCheckedIn(w *writer, r *record, e events.SecretCheckedIn) error {
	return w.exec(endDisclosure, e.Lease.UUID[:], r.stamp(), r.Header.Wall, e.Expired)
}

// Disclosure says that a person was shown a version of a secret.
type Disclosure struct {
	Event   events.LeaseID  `json:"event"` // that says so; of a check-out also its lease
	Version events.SecretID `json:"version"`
	User    string          `json:"user"`
	UserID  events.UserID   `json:"user_id"`
	At      time.Time       `json:"at"`
	Reason  string          `json:"reason"`
	Until   time.Time       `json:"until,omitzero"`    // of a check-out
	Ended   time.Time       `json:"ended,omitzero"`    // when a check-out was checked in
	Expired bool            `json:"expired,omitempty"` // by its time
}

func (q *query) disclosures(id events.CredentialID) ([]Disclosure, error) {
	return list(q, scanDisclosure, `SELECT d.id, d.version, COALESCE(u.name, ''), d.user, d.at, d.reason, d.until, e.ended, COALESCE(e.expired, 0)
		FROM disclosures d LEFT JOIN disclosures_ends e ON e.id = d.id LEFT JOIN users u ON u.id = d.user WHERE d.credential = ? ORDER BY d.stamp`, id.UUID[:])
}

func scanDisclosure(row scanner) (d Disclosure, err error) {
	var shown, until, ended sql.NullInt64
	err = row.Scan(&d.Event, &d.Version, &d.User, &d.UserID, &shown, &d.Reason, &until, &ended, &d.Expired)
	d.User, d.At, d.Until, d.Ended = named(d.User, d.UserID.UUID), at(shown), at(until), at(ended)
	return d, err
}
