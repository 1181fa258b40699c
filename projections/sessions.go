package projections

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "sessions",
	version: 5,
	reads:   events.Ctl,
	schema: `
CREATE TABLE sessions (
	id BLOB, site BLOB, -- each site tells of its own sessions: two of one id are two, and one of the sites betrays
	start_stamp BLOB, knew TEXT NOT NULL DEFAULT '', user BLOB, account BLOB, target BLOB, credential BLOB, secret BLOB, grant_id BLOB,
	request BLOB, why TEXT NOT NULL DEFAULT '', ticket TEXT NOT NULL DEFAULT '', approvals TEXT NOT NULL DEFAULT '[]', glass INTEGER NOT NULL DEFAULT 0,
	source TEXT NOT NULL DEFAULT '', client TEXT NOT NULL DEFAULT '', fingerprint TEXT NOT NULL DEFAULT '', started INTEGER,
	connect_stamp BLOB, server TEXT NOT NULL DEFAULT '', host_key TEXT NOT NULL DEFAULT '',
	cipher TEXT NOT NULL DEFAULT '', kex TEXT NOT NULL DEFAULT '', connected INTEGER,
	end_stamp BLOB, reason TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', complete INTEGER NOT NULL DEFAULT 0,
	bytes_in INTEGER NOT NULL DEFAULT 0, bytes_out INTEGER NOT NULL DEFAULT 0,
	received_in INTEGER NOT NULL DEFAULT 0, committed_in INTEGER NOT NULL DEFAULT 0, delivered_in INTEGER NOT NULL DEFAULT 0,
	received_out INTEGER NOT NULL DEFAULT 0, committed_out INTEGER NOT NULL DEFAULT 0, delivered_out INTEGER NOT NULL DEFAULT 0,
	forwards INTEGER NOT NULL DEFAULT 0, forwarded_in INTEGER NOT NULL DEFAULT 0, forwarded_out INTEGER NOT NULL DEFAULT 0,
	files TEXT NOT NULL DEFAULT '{}',
	ended INTEGER,
	kill_stamp BLOB, killed_by BLOB, kill_reason TEXT NOT NULL DEFAULT '', kill_asked INTEGER,
	refused INTEGER NOT NULL DEFAULT 0, reads INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (id, site)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_start ON sessions (start_stamp);
CREATE INDEX sessions_user ON sessions (user, start_stamp);
CREATE INDEX sessions_target ON sessions (target, start_stamp);
CREATE INDEX sessions_live ON sessions (start_stamp) WHERE end_stamp IS NULL;`,
	on: []handler{
		onHeader(sessionStarted), on(sessionConnected), onHeader(sessionEnded), onHeader(sessionKillRequested),
		onHeader(sessionRefused), onHeader(sessionRead),
	},
})

var (
	startSession = keepLast("sessions", "id, site", "start_stamp",
		"knew", "user", "account", "target", "credential", "secret", "grant_id", "request", "why", "ticket", "approvals", "glass", "source", "client", "fingerprint", "started")
	connectSession = keepLast("sessions", "id, site", "connect_stamp", "server", "host_key", "cipher", "kex", "connected")
	endSession     = keepLast("sessions", "id, site", "end_stamp", "reason", "detail", "complete", "bytes_in", "bytes_out",
		"received_in", "committed_in", "delivered_in", "received_out", "committed_out", "delivered_out", "forwards", "forwarded_in", "forwarded_out", "files", "ended")
	killSession   = keepFirst("sessions", "id, site", "kill_stamp", "killed_by", "kill_reason", "kill_asked")
	countRefusals = "INSERT INTO sessions (id, site, refused) VALUES (?, ?, 1) ON CONFLICT (id, site) DO UPDATE SET refused = refused + 1"
	countReads    = "INSERT INTO sessions (id, site, reads) VALUES (?, ?, 1) ON CONFLICT (id, site) DO UPDATE SET reads = reads + 1"
)

func sessionStarted(w *writer, r *record, e events.SessionStarted) error {
	return w.exec(startSession, r.stream(), r.site(), r.stamp(), r.clock.With(r.Header.Origin(), r.Header.Position-1).String(), blob(e.User.UUID), blob(e.Account.UUID), blob(e.Target.UUID),
		blob(e.Credential.UUID), blob(e.Secret.UUID), blob(e.Grant.UUID), blob(e.Request.UUID), e.Reason, e.Ticket, texts(idTexts(e.Approvals)), e.BreakGlass, e.Source, e.Client, e.Fingerprint, r.Header.Wall)
}

// knownSessions calls f with the site of each session under the record's id that
// its own site knew.
func knownSessions(w *writer, r *record, f func(site []byte) error) error {
	var known [][]byte
	err := w.each(func(scan func(...any) error) error {
		var stamp []byte
		if err := scan(&stamp); err != nil {
			return err
		}
		if o, position, ok := placeOf(stamp); ok && r.covers(o, position) {
			known = append(known, o.Site.UUID[:])
		}
		return nil
	}, "SELECT start_stamp FROM sessions WHERE id = ? AND start_stamp IS NOT NULL", r.stream())
	for _, site := range known {
		if err == nil {
			err = f(site)
		}
	}
	return err
}

func sessionConnected(w *writer, r *record, e events.SessionConnected) error {
	return w.exec(connectSession, r.stream(), r.site(), r.stamp(), e.Server, e.HostKey, e.Cipher, e.KeyExchange, r.Header.Wall)
}

func sessionEnded(w *writer, r *record, e events.SessionEnded) error {
	files, err := json.Marshal(e.Files)
	if err != nil {
		return err
	}
	return w.exec(endSession, r.stream(), r.site(), r.stamp(), string(e.Reason), e.Detail, e.Complete, count(e.In.Bytes), count(e.Out.Bytes),
		count(e.In.Received), count(e.In.Committed), count(e.In.Delivered),
		count(e.Out.Received), count(e.Out.Committed), count(e.Out.Delivered),
		count(e.Forwards.Channels), count(e.Forwards.In), count(e.Forwards.Out), string(files), r.Header.Wall)
}

func sessionKillRequested(w *writer, r *record, e events.SessionKillRequested) error {
	return knownSessions(w, r, func(site []byte) error {
		return w.exec(killSession, r.stream(), site, r.stamp(), blob(r.Header.Actor.ID), e.Reason, r.Header.Wall)
	})
}

func sessionRefused(w *writer, r *record, _ events.SessionRefused) error {
	return w.exec(countRefusals, r.stream(), r.site())
}

func sessionRead(w *writer, r *record, _ events.SessionRead) error {
	return knownSessions(w, r, func(site []byte) error { return w.exec(countReads, r.stream(), site) })
}

func idTexts(ids []uuid.UUID) (all []string) {
	for _, id := range ids {
		all = append(all, id.String())
	}
	return all
}

// Session is one connection of a user to an account. User, Account and Target
// are names, or ids where no name is known.
type Session struct {
	ID       events.SessionID `json:"id"`
	User     string           `json:"user"`
	Account  string           `json:"account"` // login name on the target
	Target   string           `json:"target"`
	Started  time.Time        `json:"started"`
	Ended    *time.Time       `json:"ended"`             // null while it lives
	Unheard  bool             `json:"unheard,omitempty"` // its site is gone, so nobody hears of its end; filled in by who knows
	Reason   events.EndReason `json:"reason"`            // of its end
	BytesIn  uint64           `json:"bytes_in"`          // channel data from the client; known when it has ended
	BytesOut uint64           `json:"bytes_out"`         // channel data from the target
	Complete bool             `json:"complete"`          // all that could have been delivered is in the recording

	Detail      string               `json:"detail,omitempty"`    // of its end
	Connected   time.Time            `json:"connected,omitzero"`  // when the target accepted the login
	Source      string               `json:"source"`              // client's address
	Client      string               `json:"client"`              // client's version line
	Server      string               `json:"server,omitempty"`    // target's version line
	Fingerprint string               `json:"fingerprint"`         // of the key that the user proved
	HostKey     string               `json:"host_key,omitempty"`  // fingerprint that the target proved
	Cipher      string               `json:"cipher,omitempty"`    // towards the target
	KeyExchange string               `json:"kex,omitempty"`       //
	PacketsIn   uint64               `json:"packets_in"`          // in the recording
	PacketsOut  uint64               `json:"packets_out"`         //
	Forwards    events.ForwardTotals `json:"forwards"`            // known when it has ended
	Files       events.FileTotals    `json:"files"`               // known when it has ended
	KilledBy    string               `json:"killed_by,omitempty"` // name of who asked for its end first
	KillReason  string               `json:"kill_reason,omitempty"`
	KillAsked   time.Time            `json:"kill_asked,omitzero"`
	Refused     uint64               `json:"refused"` // packets that policy refused
	Reads       uint64               `json:"reads"`   // times that somebody read the recording
	UserID      events.UserID        `json:"user_id"`
	Site        string               `json:"site,omitempty"` // name of the site at which it runs, filled in by who knows it
	SiteID      events.SiteID        `json:"site_id"`
	AccountID   events.AccountID     `json:"account_id"`
	TargetID    events.TargetID      `json:"target_id"`
	Credential  events.CredentialID  `json:"credential"`
	Secret      events.SecretID      `json:"secret"` // version that was presented
	Grant       events.GrantID       `json:"grant"`  // what allowed it

	Request    events.RequestID `json:"request,omitzero"`      // what allowed it where that was no grant
	Why        string           `json:"why,omitempty"`         // reason of the request
	Ticket     string           `json:"ticket,omitempty"`      // of the request
	Approvals  []uuid.UUID      `json:"approvals,omitempty"`   // events
	BreakGlass bool             `json:"break_glass,omitempty"` // taken without asking

	Erasure *Erasure `json:"erasure,omitempty"` // filled in by who knows it; nil if nobody asked

	stamp []byte
}

const selectSession = `SELECT s.id, COALESCE(u.name, ''), COALESCE(a.name, ''), COALESCE(t.name, ''), s.started, s.ended, s.reason,
	s.bytes_in, s.bytes_out, s.complete, s.detail, s.connected, s.source, s.client, s.server, s.fingerprint, s.host_key, s.cipher, s.kex,
	s.committed_in, s.committed_out, s.forwards, s.forwarded_in, s.forwarded_out, s.files, s.killed_by, COALESCE(k.name, ''), s.kill_reason, s.kill_asked, s.refused, s.reads,
	s.user, s.account, s.target, s.credential, s.secret, s.grant_id, s.request, s.why, s.ticket, s.approvals, s.glass, s.site, s.start_stamp
	FROM sessions s LEFT JOIN users u ON u.id = s.user LEFT JOIN accounts a ON a.id = s.account
	LEFT JOIN targets t ON t.id = s.target LEFT JOIN users k ON k.id = s.killed_by`

// Sessions lists sessions, the one started last first. Of the filter it uses
// everything.
func (p *Projections) Sessions(ctx context.Context, f Filter) (found Page[Session], err error) {
	err = p.read(ctx, func(q *query) error {
		w, err := q.sessionsWhere(f)
		if err != nil {
			return err
		}
		end, err := w.pageBy("s.start_stamp", f)
		if err != nil {
			return err
		}
		all, err := list(q, scanSession, selectSession+w.String()+end, w.args...)
		found = page(all, f, func(s Session) []byte { return s.stamp })
		return err
	}, "sessions", "users", "accounts", "targets")
	return found, err
}

func (q *query) sessionsWhere(f Filter) (w where, err error) {
	w.add("s.start_stamp IS NOT NULL")
	if f.Live {
		w.add("s.end_stamp IS NULL")
	}
	if !f.Site.IsZero() {
		w.add("s.site = ?", f.Site.UUID[:])
	}
	if f.User != "" {
		_, ids, err := q.lookup(userNoun, f.User)
		if err != nil {
			return w, err
		}
		w.among("s.user", ids)
	}
	if f.Target != "" {
		_, ids, err := q.lookup(targetNoun, f.Target)
		if err != nil {
			return w, err
		}
		w.among("s.target", ids)
	}
	return w, nil
}

// Session finds one session by its id.
func (p *Projections) Session(ctx context.Context, id events.SessionID) (s Session, err error) {
	err = p.read(ctx, func(q *query) error {
		all, err := list(q, scanSession, selectSession+" WHERE s.id = ? AND s.start_stamp IS NOT NULL ORDER BY s.start_stamp", id.UUID[:])
		if err == nil && len(all) == 0 {
			return &NotFoundError{"session", id.String()}
		}
		if err == nil {
			s = all[0]
		}
		return err
	}, "sessions", "users", "accounts", "targets")
	return s, err
}

func scanSession(row scanner) (s Session, err error) {
	var killedBy uuid.UUID
	var approvals []byte
	var started, ended, connected, killAsked sql.NullInt64
	var files []byte
	err = row.Scan(&s.ID, &s.User, &s.Account, &s.Target, &started, &ended, &s.Reason,
		&s.BytesIn, &s.BytesOut, &s.Complete, &s.Detail, &connected, &s.Source, &s.Client, &s.Server, &s.Fingerprint, &s.HostKey, &s.Cipher, &s.KeyExchange,
		&s.PacketsIn, &s.PacketsOut, &s.Forwards.Channels, &s.Forwards.In, &s.Forwards.Out, &files, &killedBy, &s.KilledBy, &s.KillReason, &killAsked, &s.Refused, &s.Reads,
		&s.UserID, &s.AccountID, &s.TargetID, &s.Credential, &s.Secret, &s.Grant,
		&s.Request, &s.Why, &s.Ticket, &approvals, &s.BreakGlass, &s.SiteID, &s.stamp)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(approvals, &s.Approvals); err != nil {
		return s, fmt.Errorf("approvals of session %s: %w", s.ID, err)
	}
	s.User, s.Account, s.Target = named(s.User, s.UserID.UUID), named(s.Account, s.AccountID.UUID), named(s.Target, s.TargetID.UUID)
	s.KilledBy = named(s.KilledBy, killedBy)
	s.Started, s.Connected, s.KillAsked = at(started), at(connected), at(killAsked)
	if ended.Valid {
		end := at(ended)
		s.Ended = &end
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(files, &s.Files); err != nil {
		return s, fmt.Errorf("files of session %s: %w", s.ID, err)
	}
	return s, nil
}
