package projections

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// files is what sessions did to files of their targets, as far as it made
// events.
var _ = register(projection{
	name:    "files",
	version: 2,
	reads:   events.Ctl,
	schema: `
CREATE TABLE files (
	session BLOB, site BLOB, serial INTEGER, -- a site tells of its own sessions only
	stamp BLOB, channel INTEGER, kind TEXT, direction TEXT, path TEXT, other TEXT, detail TEXT, bytes INTEGER, sha256 TEXT,
	ok INTEGER, status TEXT, note TEXT, began INTEGER, ended INTEGER, wall INTEGER,
	PRIMARY KEY (session, site, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_stamp ON files (stamp);
CREATE INDEX files_path ON files (path, stamp);
CREATE INDEX files_hash ON files (sha256, stamp) WHERE sha256 <> '';`,
	on: []handler{on(fileAccessed)},
})

var addFile = keepFirst("files", "session, site, serial", "stamp", "channel", "kind", "direction", "path", "other", "detail", "bytes", "sha256",
	"ok", "status", "note", "began", "ended", "wall")

func fileAccessed(w *writer, r *record, e events.SessionFileAccessed) error {
	return w.exec(addFile, r.stream(), r.Header.Site.UUID[:], count(e.Serial), r.stamp(), count(e.Channel), e.Kind, e.Direction, e.Path, e.Target, e.Detail, count(e.Bytes), e.SHA256,
		e.OK, e.Status, e.Note, count(e.Started), count(e.Ended), r.Header.Wall)
}

// File is one thing that a session did to a file. User, Account and Target are
// names, or ids where no name is known.
type File struct {
	Time      time.Time        `json:"time"` // when it was told
	Session   events.SessionID `json:"session"`
	Serial    uint64           `json:"serial"` // in the session
	User      string           `json:"user"`
	Account   string           `json:"account"`
	Target    string           `json:"target"`
	Channel   uint64           `json:"channel"`
	Kind      string           `json:"kind"`
	Direction string           `json:"direction,omitempty"`
	Path      string           `json:"path"`
	Other     string           `json:"other,omitempty"` // second name, or paths of the command
	Detail    string           `json:"detail,omitempty"`
	Bytes     uint64           `json:"bytes"`
	SHA256    string           `json:"sha256,omitempty"`
	OK        bool             `json:"ok"`
	Status    string           `json:"status,omitempty"`
	Note      string           `json:"note,omitempty"`
	Started   uint64           `json:"started"` // microseconds since session start
	Ended     uint64           `json:"ended"`

	stamp []byte
}

// FileFilter narrows a list of files. Of Filter it uses everything but Live.
type FileFilter struct {
	Filter
	Session events.SessionID
	Kind    string // "upload", "download", "remove", ...
	Path    string // the whole of it, with * for any text and ? for one character
	SHA256  string // hex, lower case
}

const selectFile = `SELECT f.wall, f.session, f.serial, COALESCE(u.name, ''), s.user, COALESCE(a.name, ''), s.account, COALESCE(t.name, ''), s.target,
	f.channel, f.kind, f.direction, f.path, f.other, f.detail, f.bytes, f.sha256, f.ok, f.status, f.note, f.began, f.ended, f.stamp
	FROM files f LEFT JOIN sessions s ON s.id = f.session AND s.site = f.site LEFT JOIN users u ON u.id = s.user
	LEFT JOIN accounts a ON a.id = s.account LEFT JOIN targets t ON t.id = s.target`

// Files lists what sessions did to files, the newest first.
func (p *Projections) Files(ctx context.Context, f FileFilter) (found Page[File], err error) {
	err = p.read(ctx, func(q *query) error {
		w, err := q.filesWhere(f)
		if err != nil {
			return err
		}
		end, err := w.pageBy("f.stamp", f.Filter)
		if err != nil {
			return err
		}
		all, err := list(q, scanFile, selectFile+w.String()+end, w.args...)
		found = page(all, f.Filter, func(e File) []byte { return e.stamp })
		return err
	}, "files", "sessions", "users", "accounts", "targets")
	return found, err
}

func (q *query) filesWhere(f FileFilter) (w where, err error) {
	w.add("(s.start_stamp IS NOT NULL OR NOT EXISTS (SELECT 1 FROM sessions o WHERE o.id = f.session))") // of no session of another site
	if !f.Session.IsZero() {
		w.among("f.session", []uuid.UUID{f.Session.UUID})
	}
	for column, value := range map[string]string{"f.kind": f.Kind, "f.sha256": f.SHA256} {
		if value != "" {
			w.add(column+" = ?", value)
		}
	}
	if f.Path != "" {
		w.add("f.path GLOB ?", strings.ReplaceAll(f.Path, "[", "[[]")) // * and ? alone are special
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

func scanFile(row scanner) (f File, err error) {
	var wall sql.NullInt64
	var user, account, target uuid.UUID
	err = row.Scan(&wall, &f.Session, &f.Serial, &f.User, &user, &f.Account, &account, &f.Target, &target,
		&f.Channel, &f.Kind, &f.Direction, &f.Path, &f.Other, &f.Detail, &f.Bytes, &f.SHA256, &f.OK, &f.Status, &f.Note, &f.Started, &f.Ended, &f.stamp)
	f.Time, f.stamp = at(wall), slices.Clone(f.stamp)
	f.User, f.Account, f.Target = named(f.User, user), named(f.Account, account), named(f.Target, target)
	return f, err
}

// FilesTold counts the operations on files of a session that are behind the
// last one with an event, that one included.
func (p *Projections) FilesTold(ctx context.Context, session events.SessionID) (n uint64, err error) {
	err = p.read(ctx, func(q *query) error {
		return q.tx.QueryRowContext(q.ctx, "SELECT COALESCE(MAX(serial) + 1, 0) FROM files WHERE session = ?", session.UUID[:]).Scan(&n)
	}, "files")
	return n, err
}
