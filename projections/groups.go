package projections

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "groups",
	version: 1,
	reads:   events.Ctl,
	schema: `
CREATE TABLE groups (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, name TEXT NOT NULL DEFAULT '', added INTEGER,
	off_stamp BLOB, removed INTEGER, reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX groups_name ON groups (name);
CREATE TABLE groups_members (
	grp BLOB, user BLOB, live INTEGER NOT NULL DEFAULT 0, set_stamp BLOB, added INTEGER, added_by BLOB,
	PRIMARY KEY (grp, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX groups_members_user ON groups_members (user);
CREATE TABLE groups_removals (
	grp BLOB, user BLOB, site BLOB, epoch INTEGER, position INTEGER,
	PRIMARY KEY (grp, user, site, epoch, position)
) STRICT, WITHOUT ROWID;`,
	on: []handler{on(groupAdded), on(groupMemberAdded), onHeader(groupMemberRemoved), onHeader(groupRemoved)},
})

var (
	setGroup    = keepLast("groups", "id", "set_stamp", "name", "added")
	removeGroup = keepFirst("groups", "id", "off_stamp", "removed", "reason")
	setMember   = keepLast("groups_members", "grp, user", "set_stamp", "added", "added_by")
)

func groupAdded(w *writer, r *record, e events.GroupAdded) error {
	return w.exec(setGroup, r.stream(), r.stamp(), e.Name, r.Header.Wall)
}

// groupMemberAdded makes a member unless they were taken out by an event that
// this one did not know of.
func groupMemberAdded(w *writer, r *record, e events.GroupMemberAdded) error {
	if err := w.exec(setMember, r.stream(), e.User.UUID[:], r.stamp(), r.Header.Wall, blob(r.Header.Actor.ID)); err != nil {
		return err
	}
	live, err := w.unopposed(r, "SELECT site, epoch, position FROM groups_removals WHERE grp = ? AND user = ?", r.stream(), e.User.UUID[:])
	if err != nil || !live {
		return err
	}
	return w.exec("UPDATE groups_members SET live = 1 WHERE grp = ? AND user = ?", r.stream(), e.User.UUID[:])
}

// unopposed reports whether the record knew of every removal that a query
// lists: site, epoch, position.
func (w *writer) unopposed(r *record, removals string, args ...any) (bool, error) {
	all := true
	err := w.each(func(scan func(...any) error) error {
		o := events.Origin{Kind: events.Ctl}
		var position uint64
		err := scan(&o.Site, &o.Epoch, &position)
		all = all && r.covers(o, position)
		return err
	}, removals, args...)
	return all, err
}

// groupMemberRemoved takes the member out as known by now: whatever was applied
// before cannot have known of this removal. Without a payload it does not say
// whom, and the group ends.
func groupMemberRemoved(w *writer, r *record, e events.GroupMemberRemoved) error {
	if e.User.IsZero() {
		return groupRemoved(w, r, events.GroupRemoved{})
	}
	err := w.exec("INSERT INTO groups_removals (grp, user, site, epoch, position) VALUES (?, ?, ?, ?, ?)",
		r.stream(), e.User.UUID[:], r.Header.Site.UUID[:], r.Header.Epoch, count(r.Header.Position))
	if err != nil {
		return err
	}
	return w.exec("UPDATE groups_members SET live = 0 WHERE grp = ? AND user = ?", r.stream(), e.User.UUID[:])
}

func groupRemoved(w *writer, r *record, e events.GroupRemoved) error {
	return w.exec(removeGroup, r.stream(), r.stamp(), r.Header.Wall, e.Reason)
}

// Group is a set of users, which grants and policies may name.
type Group struct {
	ID       events.GroupID `json:"id"`
	Name     string         `json:"name"`
	State    string         `json:"state"` // "active" or "removed"
	Added    time.Time      `json:"added,omitzero"`
	Removed  time.Time      `json:"removed,omitzero"`
	Reason   string         `json:"reason,omitempty"`   // of the removal
	Conflict bool           `json:"conflict,omitempty"` // another active group has this name
	Members  []Member       `json:"members"`
}

// Member is a user in a group.
type Member struct {
	User    string        `json:"user"` // name
	UserID  events.UserID `json:"user_id"`
	Added   time.Time     `json:"added,omitzero"`
	AddedBy string        `json:"added_by,omitempty"`
}

var groupNoun = noun{
	name:    "group",
	byID:    "SELECT id, removed IS NULL FROM groups WHERE id = ?",
	holders: "SELECT id, removed IS NULL FROM groups WHERE name = ? ORDER BY id",
}

const selectGroup = `SELECT id, name, added, removed, reason,
	removed IS NULL AND EXISTS (SELECT 1 FROM groups o WHERE o.name = g.name AND o.id <> g.id AND o.removed IS NULL)
	FROM groups g`

// Groups lists groups by name. Of the filter it uses Since and Until (added),
// User (a member), Live and Limit.
func (p *Projections) Groups(ctx context.Context, f Filter) (all []Group, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("g.added", f)
		if f.Live {
			w.add("g.removed IS NULL")
		}
		if f.User != "" {
			_, ids, err := q.lookup(userNoun, f.User)
			if err != nil {
				return err
			}
			var in where
			in.among("user", ids)
			w.add("g.id IN (SELECT grp FROM groups_members"+in.String()+" AND live = 1)", in.args...)
		}
		all, err = list(q, scanGroup, selectGroup+w.String()+" ORDER BY g.name, g.id LIMIT ?", append(w.args, f.limit())...)
		for i := range all {
			if err == nil {
				all[i].Members, err = q.members(all[i].ID)
			}
		}
		return err
	}, "groups", "users")
	return all, err
}

// Group finds one group by its name or id.
func (p *Projections) Group(ctx context.Context, ref string) (g Group, err error) {
	err = p.read(ctx, func(q *query) error {
		id, err := q.one(groupNoun, ref)
		if err != nil {
			return err
		}
		all, err := list(q, scanGroup, selectGroup+" WHERE g.id = ?", id[:])
		if err == nil && len(all) == 1 {
			g = all[0]
			g.Members, err = q.members(g.ID)
		}
		return err
	}, "groups", "users")
	return g, err
}

func (q *query) members(group events.GroupID) ([]Member, error) {
	return list(q, func(row scanner) (m Member, err error) {
		var added sql.NullInt64
		var by uuid.UUID
		err = row.Scan(&m.UserID, &m.User, &added, &by, &m.AddedBy)
		m.User, m.AddedBy, m.Added = named(m.User, m.UserID.UUID), named(m.AddedBy, by), at(added)
		return m, err
	}, `SELECT m.user, COALESCE(u.name, ''), m.added, m.added_by, COALESCE(b.name, '') FROM groups_members m
		LEFT JOIN users u ON u.id = m.user LEFT JOIN users b ON b.id = m.added_by
		WHERE m.grp = ? AND m.live = 1 ORDER BY 2, m.user`, group.UUID[:])
}

func scanGroup(row scanner) (g Group, err error) {
	var added, removed sql.NullInt64
	err = row.Scan(&g.ID, &g.Name, &added, &removed, &g.Reason, &g.Conflict)
	g.Name = named(g.Name, g.ID.UUID)
	g.Added, g.Removed, g.State = at(added), at(removed), "active"
	if removed.Valid {
		g.State = "removed"
	}
	return g, err
}
