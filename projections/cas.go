package projections

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "cas",
	version: 1,
	reads:   events.Ctl,
	schema: `
CREATE TABLE cas (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, name TEXT NOT NULL DEFAULT '', key TEXT NOT NULL DEFAULT '', fingerprint TEXT NOT NULL DEFAULT '',
	comment TEXT NOT NULL DEFAULT '', added INTEGER,
	off_stamp BLOB, removed INTEGER, reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX cas_name ON cas (name);
CREATE TABLE cas_revoked (
	stamp BLOB PRIMARY KEY, ca BLOB NOT NULL, serial TEXT NOT NULL, key_id TEXT NOT NULL, fingerprint TEXT NOT NULL,
	reason TEXT NOT NULL, revoked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX cas_revoked_ca ON cas_revoked (ca);`,
	on: []handler{on(caTrusted), onHeader(caDistrusted), onHeader(certificateRevoked)},
})

var (
	setCA    = keepLast("cas", "id", "set_stamp", "name", "key", "fingerprint", "comment", "added")
	removeCA = keepFirst("cas", "id", "off_stamp", "removed", "reason")
)

func caTrusted(w *writer, r *record, e events.CATrusted) error {
	return w.exec(setCA, r.stream(), r.stamp(), e.Name, e.Key, e.Fingerprint, e.Comment, r.Header.Wall)
}

func caDistrusted(w *writer, r *record, e events.CADistrusted) error {
	return w.exec(removeCA, r.stream(), r.stamp(), r.Header.Wall, e.Reason)
}

func certificateRevoked(w *writer, r *record, e events.CertificateRevoked) error {
	serial := "" // text: serial numbers use all 64 bits
	if e.Serial != 0 {
		serial = strconv.FormatUint(e.Serial, 10)
	}
	return w.exec("INSERT OR IGNORE INTO cas_revoked (stamp, ca, serial, key_id, fingerprint, reason, revoked) VALUES (?, ?, ?, ?, ?, ?, ?)",
		r.stamp(), r.stream(), serial, e.KeyID, e.Fingerprint, e.Reason, r.Header.Wall)
}

// CA is a certificate authority whose user certificates say who somebody is.
type CA struct {
	ID          events.CAID  `json:"id"`
	Name        string       `json:"name"`
	Fingerprint string       `json:"fingerprint"`
	Key         string       `json:"key"` // authorized_keys form
	Comment     string       `json:"comment,omitempty"`
	State       string       `json:"state"` // "trusted" or "removed"
	Added       time.Time    `json:"added,omitzero"`
	Removed     time.Time    `json:"removed,omitzero"`
	Reason      string       `json:"reason,omitempty"`   // of the removal
	Conflict    bool         `json:"conflict,omitempty"` // another trusted one has this name
	Revoked     []Revocation `json:"revoked"`
}

// Revocation says which certificates of an authority are not taken any more.
// All three fields empty means that it can't be read here, and stands for
// every certificate.
type Revocation struct {
	Serial      string    `json:"serial,omitempty"` // decimal
	KeyID       string    `json:"key_id,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"` // of the certified key
	Reason      string    `json:"reason,omitempty"`
	Revoked     time.Time `json:"revoked"`
}

var caNoun = noun{
	name:    "user-ca",
	byID:    "SELECT id, removed IS NULL FROM cas WHERE id = ?",
	holders: "SELECT id, removed IS NULL FROM cas WHERE name = ? ORDER BY id",
}

const selectCA = `SELECT id, name, fingerprint, key, comment, added, removed, reason,
	removed IS NULL AND EXISTS (SELECT 1 FROM cas o WHERE o.name = c.name AND o.id <> c.id AND o.removed IS NULL)
	FROM cas c`

// CAs lists the authorities by name. Of the filter it uses Since and Until
// (added), Live and Limit.
func (p *Projections) CAs(ctx context.Context, f Filter) (all []CA, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("added", f)
		if f.Live {
			w.add("removed IS NULL")
		}
		all, err = q.cas(w, f.limit())
		return err
	}, "cas")
	return all, err
}

// CA finds one authority by id or name.
func (p *Projections) CA(ctx context.Context, ref string) (a CA, err error) {
	err = p.read(ctx, func(q *query) error {
		id, err := q.one(caNoun, ref)
		if err != nil {
			return err
		}
		var w where
		w.among("id", []uuid.UUID{id})
		all, err := q.cas(w, 1)
		if err == nil {
			a = all[0]
		}
		return err
	}, "cas")
	return a, err
}

func (q *query) cas(w where, limit int) ([]CA, error) {
	all, err := list(q, scanCA, selectCA+w.String()+" ORDER BY name, id LIMIT ?", append(slices.Clone(w.args), limit)...)
	for i := range all {
		if err != nil {
			return nil, err
		}
		all[i].Revoked, err = list(q, scanRevocation,
			"SELECT serial, key_id, fingerprint, reason, revoked FROM cas_revoked WHERE ca = ? ORDER BY stamp", all[i].ID.UUID[:])
	}
	return all, err
}

func scanCA(row scanner) (a CA, err error) {
	var added, removed sql.NullInt64
	err = row.Scan(&a.ID, &a.Name, &a.Fingerprint, &a.Key, &a.Comment, &added, &removed, &a.Reason, &a.Conflict)
	a.Added, a.Removed, a.State = at(added), at(removed), "trusted"
	if removed.Valid {
		a.State = "removed"
	}
	return a, err
}

func scanRevocation(row scanner) (r Revocation, err error) {
	var revoked sql.NullInt64
	err = row.Scan(&r.Serial, &r.KeyID, &r.Fingerprint, &r.Reason, &revoked)
	r.Revoked = at(revoked)
	return r, err
}
