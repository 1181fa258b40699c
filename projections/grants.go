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
	version: 4,
	reads:   events.Ctl,
	schema: `
CREATE TABLE grants (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, user BLOB, grp BLOB, account BLOB, selector TEXT NOT NULL DEFAULT '', starts INTEGER, expires INTEGER,
	windows TEXT NOT NULL DEFAULT '[]', terms TEXT NOT NULL DEFAULT '{}', added INTEGER, added_by BLOB,
	off_stamp BLOB, removed INTEGER, removed_by BLOB, reason TEXT NOT NULL DEFAULT '',
	gone INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_right ON grants (user, account);
CREATE INDEX grants_group ON grants (grp);
CREATE INDEX grants_account ON grants (account);
CREATE TABLE grants_removals (
	user BLOB, grp BLOB, account BLOB, selector TEXT, stamp BLOB, epoch INTEGER NOT NULL, position INTEGER NOT NULL, site BLOB NOT NULL,
	removed INTEGER NOT NULL, removed_by BLOB, reason TEXT NOT NULL,
	PRIMARY KEY (user, grp, account, selector, stamp)
) STRICT, WITHOUT ROWID;
CREATE TABLE grants_accounts (
	account BLOB, target BLOB, site BLOB, epoch INTEGER, position INTEGER,
	PRIMARY KEY (account, site, epoch, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_accounts_target ON grants_accounts (target);
CREATE TABLE grants_archive (
	id BLOB, site BLOB, epoch INTEGER, position INTEGER,
	PRIMARY KEY (id, site, epoch, position)
) STRICT, WITHOUT ROWID;`,
	on: []handler{on(grantAdded), onHeader(grantRemoved), on(grantAccount), onHeader(grantAccountRemoved), onHeader(grantTargetRemoved)},
})

var (
	setGrant    = keepLast("grants", "id", "set_stamp", "user", "grp", "account", "selector", "starts", "expires", "windows", "terms", "added", "added_by")
	removeGrant = keepFirst("grants", "id", "off_stamp", "removed", "removed_by", "reason")
)

// grantAdded makes a grant, which is removed at once where the right between
// its user and its account was removed by an event that it did not know of
// (rule R8).
func grantAdded(w *writer, r *record, e events.GrantAdded) error {
	terms, err := json.Marshal(e.Terms)
	if err != nil {
		return err
	}
	windows, err := json.Marshal(e.Windows)
	if err != nil {
		return err
	}
	err = w.exec(setGrant, r.stream(), r.stamp(), blob(e.User.UUID), blob(e.Group.UUID), blob(e.Account.UUID), string(e.Selector),
		micros(e.From), micros(e.Expires), string(windows), string(terms), r.Header.Wall, blob(r.Header.Actor.ID))
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
	}, "SELECT site, epoch, position, stamp, removed, removed_by, reason FROM grants_removals WHERE user = ? AND grp = ? AND account = ? AND selector = ?",
		e.User.UUID[:], e.Group.UUID[:], e.Account.UUID[:], string(e.Selector))
	for _, m := range unknown {
		if err == nil {
			err = m.apply(w, r.stream())
		}
	}
	if err != nil || e.Account.IsZero() {
		return err
	}
	known, err := w.unopposed(r, `SELECT site, epoch, position FROM grants_archive WHERE id = ?1 OR id IN (SELECT target FROM grants_accounts WHERE account = ?1)
		UNION ALL SELECT site, epoch, position FROM grants_accounts WHERE account = ?1`, e.Account.UUID[:])
	if err != nil || known {
		return err
	}
	return w.exec("UPDATE grants SET gone = 1 WHERE id = ?", r.stream())
}

// A grant for an account is gone for good with its account, or the target of that: it
// does not come back with it. What was applied before can't have known of the removal;
// nor of the account, whose grant it was then not.

func grantAccount(w *writer, r *record, e events.AccountAdded) error {
	err := w.exec("INSERT INTO grants_accounts (account, target, site, epoch, position) VALUES (?, ?, ?, ?, ?)",
		r.stream(), blob(e.Target.UUID), r.site(), r.Header.Epoch, count(r.Header.Position))
	if err != nil {
		return err
	}
	return w.exec("UPDATE grants SET gone = 1 WHERE account = ?", r.stream())
}

func grantAccountRemoved(w *writer, r *record, _ events.AccountRemoved) error {
	if err := w.archived(r); err != nil {
		return err
	}
	return w.exec("UPDATE grants SET gone = 1 WHERE account = ?", r.stream())
}

func grantTargetRemoved(w *writer, r *record, _ events.TargetRemoved) error {
	if err := w.archived(r); err != nil {
		return err
	}
	return w.exec("UPDATE grants SET gone = 1 WHERE account IN (SELECT account FROM grants_accounts WHERE target = ?)", r.stream())
}

func (w *writer) archived(r *record) error {
	return w.exec("INSERT INTO grants_archive (id, site, epoch, position) VALUES (?, ?, ?, ?)", r.stream(), r.site(), r.Header.Epoch, count(r.Header.Position))
}

// micros is a time as stored; the zero time is NULL.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
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
	user, group, account, selector := e.User.UUID, e.Group.UUID, e.Account.UUID, string(e.Selector)
	if user == uuid.Nil && group == uuid.Nil || account == uuid.Nil && selector == "" { // payload absent: the grant says what right it was
		err := w.each(func(scan func(...any) error) error { return scan(&user, &group, &account, &selector) },
			"SELECT user, grp, account, selector FROM grants WHERE id = ?", r.stream())
		if err != nil || user == uuid.Nil && group == uuid.Nil || account == uuid.Nil && selector == "" {
			return err
		}
	}
	err := w.exec(`INSERT INTO grants_removals (user, grp, account, selector, stamp, site, epoch, position, removed, removed_by, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		user[:], group[:], account[:], selector, m.stamp, r.Header.Site.UUID[:], r.Header.Epoch, count(r.Header.Position), m.wall, blob(m.by), m.reason)
	if err != nil {
		return err
	}
	var others []uuid.UUID
	err = w.each(func(scan func(...any) error) error {
		var id uuid.UUID
		err := scan(&id)
		others = append(others, id)
		return err
	}, "SELECT id FROM grants WHERE user IS ? AND grp IS ? AND account IS ? AND selector = ?", blob(user), blob(group), blob(account), selector)
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
	Account   string           `json:"account"` // ACCOUNT+TARGET, or the selector
	State     string           `json:"state"`   // "active", "not begun", "outside its time", "expired", "removed", "user disabled", "group removed", "account removed", "target removed" or "removed with its account"
	Expires   time.Time        `json:"expires,omitzero"`
	Terms     events.Terms     `json:"terms"`
	Added     time.Time        `json:"added,omitzero"`
	AddedBy   string           `json:"added_by,omitempty"` // name of a user, or id of a site
	Removed   time.Time        `json:"removed,omitzero"`
	RemovedBy string           `json:"removed_by,omitempty"`
	Reason    string           `json:"reason,omitempty"` // of the removal
	UserID    events.UserID    `json:"user_id"`
	AccountID events.AccountID `json:"account_id"`

	Group    string          `json:"group,omitempty"` // name, where the grant is to a group and not to a user
	GroupID  events.GroupID  `json:"group_id,omitzero"`
	Selector events.Selector `json:"selector,omitempty"` // where it is for what a selector takes in
	From     time.Time       `json:"from,omitzero"`
	Windows  []events.Window `json:"windows,omitempty"`
}

const selectGrant = `SELECT g.id, g.user, COALESCE(u.name, ''), g.account, COALESCE(a.name, ''), a.target, COALESCE(t.name, ''),
	g.expires, g.terms, g.added, g.added_by, COALESCE(ab.name, ''), g.removed, g.removed_by, COALESCE(rb.name, ''), g.reason,
	u.disabled IS NOT NULL, a.removed IS NOT NULL, t.removed IS NOT NULL,
	g.grp, COALESCE(gr.name, ''), gr.removed IS NOT NULL, g.selector, g.starts, g.windows, g.gone
	FROM grants g LEFT JOIN users u ON u.id = g.user LEFT JOIN groups gr ON gr.id = g.grp LEFT JOIN accounts a ON a.id = g.account LEFT JOIN targets t ON t.id = a.target
	LEFT JOIN users ab ON ab.id = g.added_by LEFT JOIN users rb ON rb.id = g.removed_by`

// Grants lists grants by user and account. Of the filter it uses Since and
// Until (added), User, Target, Live and Limit.
func (p *Projections) Grants(ctx context.Context, f Filter) (all []Grant, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("g.added", f)
		if f.Live {
			w.add("g.removed IS NULL AND g.gone = 0 AND u.disabled IS NULL AND gr.removed IS NULL AND a.removed IS NULL AND t.removed IS NULL AND (g.expires IS NULL OR g.expires > ?)", q.now.UnixMicro())
		}
		if f.User != "" {
			_, ids, err := q.lookup(userNoun, f.User)
			if err != nil {
				return err
			}
			var own, in where
			own.among("g.user", ids)
			in.among("user", ids)
			w.add("("+own.conditions[0]+" OR g.grp IN (SELECT grp FROM groups_members"+in.String()+" AND live = 1))", append(own.args, in.args...)...)
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
	}, "grants", "users", "groups", "accounts", "targets")
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
	}, "grants", "users", "groups", "accounts", "targets")
	return g, err
}

func (q *query) grants(w where, limit int) ([]Grant, error) {
	scan := func(row scanner) (Grant, error) { return scanGrant(row, q.now) }
	return list(q, scan, selectGrant+w.String()+" ORDER BY u.name, gr.name, t.name, a.name, g.selector, g.id LIMIT ?", append(slices.Clone(w.args), limit)...)
}

func scanGrant(row scanner, now time.Time) (g Grant, err error) {
	var account, target string
	var targetID, addedBy, removedBy uuid.UUID
	var starts, expires, added, removed sql.NullInt64
	var terms, windows []byte
	var userDisabled, groupRemoved, accountRemoved, targetRemoved, gone bool
	err = row.Scan(&g.ID, &g.UserID, &g.User, &g.AccountID, &account, &targetID, &target,
		&expires, &terms, &added, &addedBy, &g.AddedBy, &removed, &removedBy, &g.RemovedBy, &g.Reason,
		&userDisabled, &accountRemoved, &targetRemoved, &g.GroupID, &g.Group, &groupRemoved, &g.Selector, &starts, &windows, &gone)
	if err != nil {
		return g, err
	}
	g.User, g.Group, g.Account = named(g.User, g.UserID.UUID), named(g.Group, g.GroupID.UUID), string(g.Selector)
	if g.Selector == "" {
		g.Account = accountName(account, g.AccountID.UUID, target, targetID)
	}
	if err := json.Unmarshal(windows, &g.Windows); err != nil {
		return g, fmt.Errorf("windows of grant %s: %w", g.ID, err)
	}
	g.AddedBy, g.RemovedBy = named(g.AddedBy, addedBy), named(g.RemovedBy, removedBy)
	g.From, g.Expires, g.Added, g.Removed = at(starts), at(expires), at(added), at(removed)
	switch {
	case removed.Valid:
		g.State = "removed"
	case userDisabled: // for good: who gets the name next is another
		g.State = "user disabled"
	case groupRemoved:
		g.State = "group removed"
	case accountRemoved:
		g.State = "account removed"
	case targetRemoved:
		g.State = "target removed"
	case gone: // and restored
		g.State = "removed with its account"
	case expires.Valid && !now.Before(g.Expires):
		g.State = "expired"
	case now.Before(g.From):
		g.State = "not begun"
	default:
		g.State = "active"
		if _, open := events.OpenNow(g.Windows, now); !open {
			g.State = "outside its time"
		}
	}
	if err := json.Unmarshal(terms, &g.Terms); err != nil {
		return g, fmt.Errorf("terms of grant %s: %w", g.ID, err)
	}
	return g, nil
}
