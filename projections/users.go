package projections

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "users",
	version: 2,
	reads:   events.Ctl,
	schema: `
CREATE TABLE users (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, name TEXT NOT NULL DEFAULT '', role TEXT NOT NULL DEFAULT '', added INTEGER,
	limit_stamp BLOB, max_sessions INTEGER NOT NULL DEFAULT 0,
	off_stamp BLOB, disabled INTEGER, reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX users_name ON users (name);
CREATE TABLE users_keys (
	user BLOB, fingerprint TEXT, live INTEGER NOT NULL DEFAULT 0,
	set_stamp BLOB, key TEXT NOT NULL DEFAULT '', comment TEXT NOT NULL DEFAULT '', added INTEGER,
	PRIMARY KEY (user, fingerprint)
) STRICT, WITHOUT ROWID;
CREATE TABLE users_removals (
	user BLOB, fingerprint TEXT, site BLOB, epoch INTEGER, position INTEGER,
	PRIMARY KEY (user, fingerprint, site, epoch, position)
) STRICT, WITHOUT ROWID;`,
	on: []handler{on(userAdded), on(userKeyAdded), on(userKeyRemoved), on(userLimitsSet), onHeader(userDisabled)},
})

var (
	setUser     = keepLast("users", "id", "set_stamp", "name", "role", "added")
	limitUser   = keepLast("users", "id", "limit_stamp", "max_sessions")
	disableUser = keepFirst("users", "id", "off_stamp", "disabled", "reason")
	setUserKey  = keepLast("users_keys", "user, fingerprint", "set_stamp", "key", "comment", "added")
)

func userAdded(w *writer, r *record, e events.UserAdded) error {
	return w.exec(setUser, r.stream(), r.stamp(), e.Name, string(e.Role), r.Header.Wall)
}

// userKeyAdded makes a key live unless it was removed by an event that this
// one did not know of: a removal wins over what is concurrent with it.
func userKeyAdded(w *writer, r *record, e events.UserKeyAdded) error {
	if err := w.exec(setUserKey, r.stream(), e.Fingerprint, r.stamp(), e.Key, e.Comment, r.Header.Wall); err != nil {
		return err
	}
	live := true
	err := w.each(func(scan func(...any) error) error {
		o := events.Origin{Kind: events.Ctl}
		var position uint64
		err := scan(&o.Site, &o.Epoch, &position)
		live = live && r.covers(o, position)
		return err
	}, "SELECT site, epoch, position FROM users_removals WHERE user = ? AND fingerprint = ?", r.stream(), e.Fingerprint)
	if err != nil || !live {
		return err
	}
	return w.exec("UPDATE users_keys SET live = 1 WHERE user = ? AND fingerprint = ?", r.stream(), e.Fingerprint)
}

// userKeyRemoved takes the key away as it is known by now: whatever was applied
// before cannot have known of this removal.
func userKeyRemoved(w *writer, r *record, e events.UserKeyRemoved) error {
	err := w.exec("INSERT INTO users_removals (user, fingerprint, site, epoch, position) VALUES (?, ?, ?, ?, ?)",
		r.stream(), e.Fingerprint, r.Header.Site.UUID[:], r.Header.Epoch, count(r.Header.Position))
	if err != nil {
		return err
	}
	return w.exec("UPDATE users_keys SET live = 0 WHERE user = ? AND fingerprint = ?", r.stream(), e.Fingerprint)
}

func userLimitsSet(w *writer, r *record, e events.UserLimitsSet) error {
	return w.exec(limitUser, r.stream(), r.stamp(), e.MaxSessions)
}

func userDisabled(w *writer, r *record, e events.UserDisabled) error {
	return w.exec(disableUser, r.stream(), r.stamp(), r.Header.Wall, e.Reason)
}

// User is a person or automation with an identity.
type User struct {
	ID       events.UserID `json:"id"`
	Name     string        `json:"name"`
	Role     events.Role   `json:"role"`
	State    string        `json:"state"` // "active" or "disabled"
	Added    time.Time     `json:"added,omitzero"`
	Disabled time.Time     `json:"disabled,omitzero"`
	Reason   string        `json:"reason,omitempty"`   // of the disabling
	Conflict bool          `json:"conflict,omitempty"` // another active user has this name
	Keys     []UserKey     `json:"keys"`

	MaxSessions uint32 `json:"max_sessions,omitempty"` // at once, on all targets
}

// UserKey is a public key that a user may log in with.
type UserKey struct {
	Fingerprint string    `json:"fingerprint"`
	Key         string    `json:"key"`
	Comment     string    `json:"comment,omitempty"`
	Added       time.Time `json:"added"`
}

var userNoun = noun{
	name:    "user",
	byID:    "SELECT id, disabled IS NULL FROM users WHERE id = ?",
	holders: "SELECT id, disabled IS NULL FROM users WHERE name = ? ORDER BY id",
}

const selectUser = `SELECT id, name, role, added, disabled, reason, max_sessions,
	disabled IS NULL AND EXISTS (SELECT 1 FROM users o WHERE o.name = u.name AND o.id <> u.id AND o.disabled IS NULL)
	FROM users u`

// Users lists users by name. Of the filter it uses Since and Until (added),
// User, Live and Limit.
func (p *Projections) Users(ctx context.Context, f Filter) (all []User, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("added", f)
		if f.Live {
			w.add("disabled IS NULL")
		}
		if f.User != "" {
			_, ids, err := q.lookup(userNoun, f.User)
			if err != nil {
				return err
			}
			w.among("id", ids)
		}
		all, err = q.users(w, f.limit())
		return err
	}, "users")
	return all, err
}

// User finds one user by id or name.
func (p *Projections) User(ctx context.Context, ref string) (u User, err error) {
	err = p.read(ctx, func(q *query) error {
		id, err := q.one(userNoun, ref)
		if err != nil {
			return err
		}
		var w where
		w.among("id", []uuid.UUID{id})
		all, err := q.users(w, 1)
		if err == nil {
			u = all[0]
		}
		return err
	}, "users")
	return u, err
}

func (q *query) users(w where, limit int) ([]User, error) {
	all, err := list(q, scanUser, selectUser+w.String()+" ORDER BY name, id LIMIT ?", append(slices.Clone(w.args), limit)...)
	for i := range all {
		if err != nil {
			return nil, err
		}
		all[i].Keys, err = list(q, scanUserKey,
			"SELECT fingerprint, key, comment, added FROM users_keys WHERE user = ? AND live = 1 ORDER BY fingerprint", all[i].ID.UUID[:])
	}
	return all, err
}

func scanUser(row scanner) (u User, err error) {
	var added, disabled sql.NullInt64
	err = row.Scan(&u.ID, &u.Name, &u.Role, &added, &disabled, &u.Reason, &u.MaxSessions, &u.Conflict)
	u.Added, u.Disabled, u.State = at(added), at(disabled), "active"
	if disabled.Valid {
		u.State = "disabled"
	}
	return u, err
}

func scanUserKey(row scanner) (k UserKey, err error) {
	var added sql.NullInt64
	err = row.Scan(&k.Fingerprint, &k.Key, &k.Comment, &added)
	k.Added = at(added)
	return k, err
}
