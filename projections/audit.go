package projections

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// audit is the timeline: every ctl record, known to this version or not, in the
// order of the stamps.
var _ = register(projection{
	name:    "audit",
	version: 2,
	reads:   events.Ctl,
	schema: `
CREATE TABLE audit (
	stamp BLOB PRIMARY KEY,
	id BLOB NOT NULL, site BLOB NOT NULL, epoch INTEGER NOT NULL, position INTEGER NOT NULL, wall INTEGER NOT NULL,
	type TEXT NOT NULL, version INTEGER NOT NULL, stream BLOB NOT NULL, actor_kind TEXT NOT NULL, actor BLOB,
	command TEXT NOT NULL, parent BLOB, session BLOB, user BLOB, target BLOB, account BLOB,
	payload TEXT, missing TEXT NOT NULL, masked TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_id ON audit (id);
CREATE INDEX audit_position ON audit (position);
CREATE TABLE audit_refs (
	ref BLOB, stamp BLOB, PRIMARY KEY (ref, stamp)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit_parties (
	session BLOB, ref BLOB, PRIMARY KEY (session, ref)
) STRICT, WITHOUT ROWID;`,
	every: eventHappened,
})

const (
	addAudit = `INSERT INTO audit (stamp, id, site, epoch, position, wall, type, version, stream, actor_kind, actor, command, parent,
		session, user, target, account, payload, missing, masked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	addAuditRef = "INSERT OR IGNORE INTO audit_refs (ref, stamp) VALUES (?, ?)"

	// What a session is said to be between, and what is about a session: each
	// of both that arrives meets all of the other that are there, so that any
	// order ends in the same rows.
	addParty       = "INSERT OR IGNORE INTO audit_parties (session, ref) VALUES (?, ?)"
	addPartyRefs   = "INSERT OR IGNORE INTO audit_refs (ref, stamp) SELECT ?, stamp FROM audit_refs WHERE ref = ?"
	addSessionRefs = "INSERT OR IGNORE INTO audit_refs (ref, stamp) SELECT ref, ? FROM audit_parties WHERE session = ?"
)

func eventHappened(w *writer, r *record) error {
	h, stamp := &r.Header, r.stamp()
	var payload any
	if r.event != nil {
		shown, err := render(r.event)
		if err != nil {
			return err
		}
		payload = string(shown)
	}
	refs := refsOf(r)
	err := w.exec(addAudit, stamp, h.ID[:], h.Site.UUID[:], h.Epoch, count(h.Position), h.Wall, h.Type, h.TypeVersion, h.Stream[:],
		string(h.Actor.Kind), blob(h.Actor.ID), h.Command, blob(h.Parent),
		blob(refs.session), blob(refs.user), blob(refs.target), blob(refs.account), payload, missingText(r.missing), r.masked)
	for _, id := range refs.all {
		if err == nil {
			err = w.exec(addAuditRef, id[:], stamp)
		}
	}
	if err != nil || refs.session == uuid.Nil {
		return err
	}
	return partiesMeet(w, r, refs.session, stamp)
}

// partiesMeet makes everything about a session count as about its user, target
// and account too.
func partiesMeet(w *writer, r *record, session uuid.UUID, stamp []byte) error {
	if e, ok := r.event.(events.SessionStarted); ok {
		for _, id := range []uuid.UUID{e.User.UUID, e.Target.UUID, e.Account.UUID} {
			if err := w.exec(addParty, session[:], id[:]); err != nil {
				return err
			}
			if err := w.exec(addPartyRefs, id[:], session[:]); err != nil {
				return err
			}
		}
	}
	return w.exec(addSessionRefs, stamp, session[:])
}

// missingText says why an event has no payload to show.
func missingText(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, events.ErrPayloadAbsent):
		return "payload is not held at this site"
	case errors.Is(err, events.ErrUnknownType):
		return "type is not known to this version of holdfast"
	}
	return "payload does not decode"
}

// render is the payload as people see it: JSON by the event type's own tags,
// without what is sealed.
func render(e events.Event) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		return nil, fmt.Errorf("show %T: %w", e, err)
	}
	if !hasSealed(reflect.TypeOf(e)) {
		return bytes.TrimSpace(b.Bytes()), nil
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(b.Bytes(), &fields); err != nil {
		return nil, fmt.Errorf("show %T: %w", e, err)
	}
	delete(fields, sealedTag)
	return json.Marshal(fields)
}

// sealedTag is the stored name of the field in which an event type keeps what
// is sealed under a data key.
const sealedTag = "sealed"

func hasSealed(t reflect.Type) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == sealedTag && f.Type == reflect.TypeFor[[]byte]() {
			return true
		}
	}
	return false
}

// refs are the aggregates that an event is about: its stream, its actor, and
// every id in its payload.
type refs struct {
	session, user, target, account uuid.UUID
	all                            []uuid.UUID
}

func refsOf(r *record) (found refs) {
	subject, _, _ := strings.Cut(r.Header.Type, ".")
	switch subject {
	case "session":
		found.session = r.Header.Stream
	case "user":
		found.user = r.Header.Stream
	case "target":
		found.target = r.Header.Stream
	case "account":
		found.account = r.Header.Stream
	}
	found.add(r.Header.Stream)
	found.add(r.Header.Actor.ID)
	if r.event == nil {
		return found
	}
	v := reflect.ValueOf(r.event)
	for i := range v.NumField() {
		switch id := v.Field(i).Interface().(type) {
		case events.SessionID:
			found.session = id.UUID
			found.add(id.UUID)
		case events.UserID:
			found.user = id.UUID
			found.add(id.UUID)
		case events.TargetID:
			found.target = id.UUID
			found.add(id.UUID)
		case events.AccountID:
			found.account = id.UUID
			found.add(id.UUID)
		case events.CredentialID:
			found.add(id.UUID)
		case events.GrantID:
			found.add(id.UUID)
		}
	}
	return found
}

func (r *refs) add(id uuid.UUID) {
	if id != uuid.Nil && !slices.Contains(r.all, id) {
		r.all = append(r.all, id)
	}
}

// Event is one line of the audit. User, Session, Target and Account are what it
// is about, as far as it says; Actor is who caused it.
type Event struct {
	ID       uuid.UUID        `json:"id"`
	Origin   events.Origin    `json:"origin"`
	Position uint64           `json:"position"`
	Time     time.Time        `json:"time"`       // the site's wall clock
	HLC      events.HLC       `json:"hlc,string"` // what the list is sorted by
	Type     string           `json:"type"`
	Version  uint16           `json:"version"`
	Stream   uuid.UUID        `json:"stream"`
	Actor    AuditActor       `json:"actor"`
	Command  string           `json:"command,omitempty"`
	Parent   uuid.UUID        `json:"parent,omitzero"`
	Session  events.SessionID `json:"session,omitzero"`
	User     string           `json:"user,omitempty"`
	Target   string           `json:"target,omitempty"`
	Account  string           `json:"account,omitempty"`
	Site     string           `json:"site,omitempty"`    // name of the site that wrote it, filled in by who knows it
	Payload  json.RawMessage  `json:"payload"`           // null when Missing says why
	Missing  string           `json:"missing,omitempty"` // why there is no payload
	Masked   string           `json:"masked,omitempty"`  // why it has no effect

	stamp []byte
}

// AuditActor is who caused an event.
type AuditActor struct {
	Kind events.ActorKind `json:"kind"`
	ID   uuid.UUID        `json:"id,omitzero"`
	Name string           `json:"name,omitempty"` // of a user
}

const selectAudit = `SELECT e.stamp, e.id, e.site, e.epoch, e.position, e.wall, e.type, e.version, e.stream, e.actor_kind, e.actor, COALESCE(by.name, ''),
	e.command, e.parent, e.session, COALESCE(e.user, s.user), COALESCE(u.name, ''), COALESCE(e.target, s.target), COALESCE(t.name, ''),
	COALESCE(e.account, s.account), COALESCE(a.name, ''), e.payload, e.missing, e.masked
	FROM `

const joinAudit = ` LEFT JOIN users by ON by.id = e.actor LEFT JOIN sessions s ON s.id = e.session
	AND s.site = (SELECT o.site FROM sessions o WHERE o.id = e.session ORDER BY o.site <> e.site, o.start_stamp LIMIT 1)
	LEFT JOIN users u ON u.id = COALESCE(e.user, s.user) LEFT JOIN targets t ON t.id = COALESCE(e.target, s.target)
	LEFT JOIN accounts a ON a.id = COALESCE(e.account, s.account)`

// AuditFilter narrows the timeline further than [Filter].
type AuditFilter struct {
	Filter
	Session events.SessionID // only what is about this session
	Type    string           // an event type, or the part of its name before the dot
}

// Audit lists events, the newest first unless the filter says otherwise. A user
// or target narrows it to what they did, what was done to them, and what
// happened in their sessions.
func (p *Projections) Audit(ctx context.Context, f AuditFilter) (found Page[Event], err error) {
	err = p.read(ctx, func(q *query) error {
		from, stamp, w, err := q.auditWhere(f)
		if err != nil {
			return err
		}
		end, err := w.pageBy(stamp, f.Filter)
		if err != nil {
			return err
		}
		all, err := list(q, scanEvent, selectAudit+from+joinAudit+w.String()+end, w.args...)
		found = page(all, f.Filter, func(e Event) []byte { return e.stamp })
		return err
	}, "audit", "users", "targets", "accounts", "sessions")
	return found, err
}

// auditWhere says what to select from, what to order it by, and what of it. One thing that events
// must be about is walked in the order of the stamps; others are looked up in
// each event.
func (q *query) auditWhere(f AuditFilter) (from, stamp string, w where, err error) {
	var about [][]uuid.UUID
	if !f.Session.IsZero() {
		about = append(about, []uuid.UUID{f.Session.UUID})
	}
	for _, who := range []struct {
		noun noun
		ref  string
	}{{userNoun, f.User}, {targetNoun, f.Target}} {
		if who.ref == "" {
			continue
		}
		_, ids, err := q.lookup(who.noun, who.ref)
		if err != nil {
			return "", "", w, err
		}
		about = append(about, ids)
	}
	from, stamp = "audit e", "e.stamp"
	for i, ids := range about {
		var inner where
		inner.among("r.ref", ids)
		if i == 0 && len(ids) == 1 {
			from, stamp = "audit_refs r CROSS JOIN audit e ON e.stamp = r.stamp", "r.stamp"
			w.add(inner.conditions[0], inner.args...)
			continue
		}
		w.add("EXISTS (SELECT 1 FROM audit_refs r"+inner.String()+" AND r.stamp = e.stamp)", inner.args...)
	}
	if !f.Site.IsZero() {
		w.add("e.site = ?", f.Site.UUID[:])
	}
	if f.Type != "" {
		w.add("(e.type = ? OR e.type >= ? || '.' AND e.type < ? || '/')", f.Type, f.Type, f.Type)
	}
	return from, stamp, w, nil
}

// Event finds one event by its id, or by its position in a ctl log; a position
// that several logs have is a [ConflictError].
func (p *Projections) Event(ctx context.Context, ref string) (e Event, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		if id, bad := uuid.Parse(ref); bad == nil {
			w.add("e.id = ?", id[:])
		} else if position, bad := strconv.ParseInt(ref, 10, 64); bad == nil {
			w.add("e.position = ?", position)
		} else {
			return &NotFoundError{"audit", ref}
		}
		all, err := list(q, scanEvent, selectAudit+"audit e"+joinAudit+w.String()+" ORDER BY e.stamp", w.args...)
		switch {
		case err != nil:
			return err
		case len(all) == 0:
			return &NotFoundError{"audit", ref}
		case len(all) > 1:
			conflict := &ConflictError{Noun: "audit", Name: ref}
			for _, e := range all {
				conflict.IDs = append(conflict.IDs, e.ID.String())
			}
			return conflict
		}
		e = all[0]
		return nil
	}, "audit", "users", "targets", "accounts", "sessions")
	return e, err
}

func scanEvent(row scanner) (e Event, err error) {
	var wall sql.NullInt64
	var user, target, account uuid.UUID
	var payload sql.NullString
	e.Origin.Kind = events.Ctl
	err = row.Scan(&e.stamp, &e.ID, &e.Origin.Site, &e.Origin.Epoch, &e.Position, &wall, &e.Type, &e.Version, &e.Stream,
		&e.Actor.Kind, &e.Actor.ID, &e.Actor.Name, &e.Command, &e.Parent, &e.Session,
		&user, &e.User, &target, &e.Target, &account, &e.Account, &payload, &e.Missing, &e.Masked)
	if err != nil {
		return e, err
	}
	if len(e.stamp) == stampSize {
		e.HLC = events.HLC(binary.BigEndian.Uint64(e.stamp))
	}
	e.Time = at(wall)
	e.User, e.Target, e.Account = named(e.User, user), named(e.Target, target), named(e.Account, account)
	e.Payload = json.RawMessage("null")
	if payload.Valid {
		e.Payload = json.RawMessage(payload.String)
	}
	return e, nil
}
