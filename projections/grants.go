package projections

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "grants",
	version: 2,
	reads:   events.Ctl,
	schema: `
CREATE TABLE grants (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, user BLOB, account BLOB, expires INTEGER, terms TEXT NOT NULL DEFAULT '{}', added INTEGER, added_by BLOB,
	off_stamp BLOB, removed INTEGER, removed_by BLOB, reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_right ON grants (user, account);
CREATE INDEX grants_account ON grants (account);
CREATE TABLE grants_removals (
	user BLOB, account BLOB, stamp BLOB, epoch INTEGER NOT NULL, position INTEGER NOT NULL, site BLOB NOT NULL,
	removed INTEGER NOT NULL, removed_by BLOB, reason TEXT NOT NULL,
	PRIMARY KEY (user, account, stamp)
) STRICT, WITHOUT ROWID;`,
	on: []handler{on(grantAdded), onHeader(grantRemoved)},
})

var (
	setGrant    = keepLast("grants", "id", "set_stamp", "user", "account", "expires", "terms", "added", "added_by")
	removeGrant = keepFirst("grants", "id", "off_stamp", "removed", "removed_by", "reason")
)

// grantAdded makes a grant, which is removed at once where the right between
// its user and its account was removed by an event that it did not know of
// (rule R8).
func grantAdded(w *writer, r *record, e events.GrantAdded) error {
	var expires any
	if !e.Expires.IsZero() {
		expires = e.Expires.UnixMicro()
	}
	terms, err := json.Marshal(e.Terms)
	if err != nil {
		return err
	}
	err = w.exec(setGrant, r.stream(), r.stamp(), blob(e.User.UUID), blob(e.Account.UUID), expires, string(terms), r.Header.Wall, blob(r.Header.Actor.ID))
	if err != nil {
		return err
	}
	var unknown []grantRemoval
	err = w.each(func(scan func(...any) error) error {
		o := events.Origin{Kind: events.Ctl}
		var position uint64
		var m grantRemoval
		err := scan(&o.Site, &o.Epoch, &position, &m.stamp, &m.wall, &m.by, &m.reason)
		if !r.covers(o, position) {
			unknown = append(unknown, m)
		}
		return err
	}, "SELECT site, epoch, position, stamp, removed, removed_by, reason FROM grants_removals WHERE user = ? AND account = ?",
		e.User.UUID[:], e.Account.UUID[:])
	for _, m := range unknown {
		if err == nil {
			err = m.apply(w, r.stream())
		}
	}
	return err
}

// grantRemoval is what a removal leaves in each grant that it ends.
type grantRemoval struct {
	stamp  []byte
	wall   int64
	by     uuid.UUID
	reason string
}

func (m *grantRemoval) apply(w *writer, grant []byte) error {
	return w.exec(removeGrant, grant, m.stamp, m.wall, blob(m.by), m.reason)
}

// grantRemoved ends the grant and every other one of the same right that is
// known by now: none of them can have known of this removal.
func grantRemoved(w *writer, r *record, e events.GrantRemoved) error {
	m := grantRemoval{r.stamp(), r.Header.Wall, r.Header.Actor.ID, e.Reason}
	if err := m.apply(w, r.stream()); err != nil {
		return err
	}
	user, account := e.User.UUID, e.Account.UUID
	if e.User.IsZero() || e.Account.IsZero() { // payload absent: the grant says what right it was
		err := w.each(func(scan func(...any) error) error { return scan(&user, &account) },
			"SELECT user, account FROM grants WHERE id = ?", r.stream())
		if err != nil || user == uuid.Nil || account == uuid.Nil {
			return err
		}
	}
	err := w.exec(`INSERT INTO grants_removals (user, account, stamp, site, epoch, position, removed, removed_by, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		user[:], account[:], m.stamp, r.Header.Site.UUID[:], r.Header.Epoch, count(r.Header.Position), m.wall, blob(m.by), m.reason)
	if err != nil {
		return err
	}
	var others []uuid.UUID
	err = w.each(func(scan func(...any) error) error {
		var id uuid.UUID
		err := scan(&id)
		others = append(others, id)
		return err
	}, "SELECT id FROM grants WHERE user = ? AND account = ?", user[:], account[:])
	for _, id := range others {
		if err == nil {
			err = m.apply(w, id[:])
		}
	}
	return err
}

// Grant allows a user to open sessions as an account.
type Grant struct {
	ID        events.GrantID   `json:"id"`
	User      string           `json:"user"`    // name
	Account   string           `json:"account"` // ACCOUNT+TARGET
	State     string           `json:"state"`   // "active", "expired", "removed", "user disabled", "account removed" or "target removed"
	Expires   time.Time        `json:"expires,omitzero"`
	Terms     events.Terms     `json:"terms"`
	Added     time.Time        `json:"added,omitzero"`
	AddedBy   string           `json:"added_by,omitempty"` // name of a user, or id of a site
	Removed   time.Time        `json:"removed,omitzero"`
	RemovedBy string           `json:"removed_by,omitempty"`
	Reason    string           `json:"reason,omitempty"` // of the removal
	UserID    events.UserID    `json:"user_id"`
	AccountID events.AccountID `json:"account_id"`
}

const selectGrant = `SELECT g.id, g.user, COALESCE(u.name, ''), g.account, COALESCE(a.name, ''), a.target, COALESCE(t.name, ''),
	g.expires, g.terms, g.added, g.added_by, COALESCE(ab.name, ''), g.removed, g.removed_by, COALESCE(rb.name, ''), g.reason,
	u.disabled IS NOT NULL, a.removed IS NOT NULL, t.removed IS NOT NULL
	FROM grants g LEFT JOIN users u ON u.id = g.user LEFT JOIN accounts a ON a.id = g.account LEFT JOIN targets t ON t.id = a.target
	LEFT JOIN users ab ON ab.id = g.added_by LEFT JOIN users rb ON rb.id = g.removed_by`

// Grants lists grants by user and account. Of the filter it uses Since and
// Until (added), User, Target, Live and Limit.
func (p *Projections) Grants(ctx context.Context, f Filter) (all []Grant, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("g.added", f)
		if f.Live {
			w.add("g.removed IS NULL AND u.disabled IS NULL AND a.removed IS NULL AND t.removed IS NULL AND (g.expires IS NULL OR g.expires > ?)", q.now.UnixMicro())
		}
		if f.User != "" {
			_, ids, err := q.lookup(userNoun, f.User)
			if err != nil {
				return err
			}
			w.among("g.user", ids)
		}
		if f.Target != "" {
			_, ids, err := q.lookup(targetNoun, f.Target)
			if err != nil {
				return err
			}
			w.among("a.target", ids)
		}
		all, err = q.grants(w, f.limit())
		return err
	}, "grants", "users", "accounts", "targets")
	return all, err
}

// Grant finds one grant by its id.
func (p *Projections) Grant(ctx context.Context, id events.GrantID) (g Grant, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.among("g.id", []uuid.UUID{id.UUID})
		all, err := q.grants(w, 1)
		if err == nil && len(all) == 0 {
			return &NotFoundError{"grant", id.String()}
		}
		if err == nil {
			g = all[0]
		}
		return err
	}, "grants", "users", "accounts", "targets")
	return g, err
}

func (q *query) grants(w where, limit int) ([]Grant, error) {
	scan := func(row scanner) (Grant, error) { return scanGrant(row, q.now) }
	return list(q, scan, selectGrant+w.String()+" ORDER BY u.name, t.name, a.name, g.id LIMIT ?", append(slices.Clone(w.args), limit)...)
}

func scanGrant(row scanner, now time.Time) (g Grant, err error) {
	var account, target string
	var targetID, addedBy, removedBy uuid.UUID
	var expires, added, removed sql.NullInt64
	var terms []byte
	var userDisabled, accountRemoved, targetRemoved bool
	err = row.Scan(&g.ID, &g.UserID, &g.User, &g.AccountID, &account, &targetID, &target,
		&expires, &terms, &added, &addedBy, &g.AddedBy, &removed, &removedBy, &g.RemovedBy, &g.Reason,
		&userDisabled, &accountRemoved, &targetRemoved)
	g.User, g.Account = named(g.User, g.UserID.UUID), accountName(account, g.AccountID.UUID, target, targetID)
	g.AddedBy, g.RemovedBy = named(g.AddedBy, addedBy), named(g.RemovedBy, removedBy)
	g.Expires, g.Added, g.Removed = at(expires), at(added), at(removed)
	switch {
	case removed.Valid:
		g.State = "removed"
	case userDisabled: // for good: who gets the name next is another
		g.State = "user disabled"
	case accountRemoved:
		g.State = "account removed"
	case targetRemoved:
		g.State = "target removed"
	case expires.Valid && !now.Before(g.Expires):
		g.State = "expired"
	default:
		g.State = "active"
	}
	if err != nil {
		return g, err
	}
	if err := json.Unmarshal(terms, &g.Terms); err != nil {
		return g, fmt.Errorf("terms of grant %s: %w", g.ID, err)
	}
	return g, nil
}
