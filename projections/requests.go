package projections

import (
	"context"
	"database/sql"
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// What was said of a request, by whom and when. What it is worth now depends on
// policies, groups and people, and is decided where access is decided. Each making and
// each word is a row by its place: others may say something under the same ids, and
// hide nothing by that.
var _ = register(projection{
	name:    "requests",
	version: 2,
	reads:   events.Ctl,
	schema: `
CREATE TABLE requests (
	stamp BLOB PRIMARY KEY,
	id BLOB NOT NULL, user BLOB, account BLOB, reason TEXT NOT NULL, ticket TEXT NOT NULL, starts INTEGER,
	lasts INTEGER NOT NULL, uses INTEGER NOT NULL, decide INTEGER, glass INTEGER NOT NULL, review INTEGER, made INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_id ON requests (id);
CREATE INDEX requests_user ON requests (user, stamp);
CREATE TABLE requests_ends (
	id BLOB PRIMARY KEY,
	off_stamp BLOB, off INTEGER, off_by BLOB, off_how TEXT NOT NULL DEFAULT '', off_reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE TABLE requests_words (
	stamp BLOB PRIMARY KEY, event BLOB NOT NULL, request BLOB NOT NULL, kind TEXT NOT NULL, by BLOB, at INTEGER NOT NULL,
	uses INTEGER NOT NULL, verdict TEXT NOT NULL, note TEXT NOT NULL, session BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_words_of ON requests_words (request, stamp);`,
	on: []handler{
		on(requestMade), on(accessBreakGlass), onHeader(requestDenied), onHeader(requestWithdrawn),
		on(requestApproved), onHeader(approvalRedeemed), on(requestReviewed),
	},
})

var endRequest = keepFirst("requests_ends", "id", "off_stamp", "off", "off_by", "off_how", "off_reason")

const (
	addRequest = `INSERT INTO requests (id, stamp, user, account, reason, ticket, starts, lasts, uses, decide, glass, review, made)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	addWord = `INSERT INTO requests_words (event, request, stamp, kind, by, at, uses, verdict, note, session) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

func requestMade(w *writer, r *record, e events.RequestMade) error {
	return w.exec(addRequest, r.stream(), r.stamp(), blob(e.User.UUID), blob(e.Account.UUID), e.Reason, e.Ticket, micros(e.From),
		count(e.For), e.Uses, micros(e.Decide), false, nil, r.Header.Wall)
}

func accessBreakGlass(w *writer, r *record, e events.AccessBreakGlass) error {
	return w.exec(addRequest, r.stream(), r.stamp(), blob(e.User.UUID), blob(e.Account.UUID), e.Reason, e.Ticket, nil,
		count(e.For), 0, nil, true, micros(e.Review), r.Header.Wall)
}

func requestDenied(w *writer, r *record, e events.RequestDenied) error {
	return w.exec(endRequest, r.stream(), r.stamp(), r.Header.Wall, blob(r.Header.Actor.ID), "denied", e.Reason)
}

func requestWithdrawn(w *writer, r *record, e events.RequestWithdrawn) error {
	return w.exec(endRequest, r.stream(), r.stamp(), r.Header.Wall, blob(r.Header.Actor.ID), "withdrawn", e.Reason)
}

func requestApproved(w *writer, r *record, e events.RequestApproved) error {
	return w.exec(addWord, r.Header.ID[:], r.stream(), r.stamp(), "approval", blob(r.Header.Actor.ID), r.Header.Wall, e.Uses, "", e.Note, nil)
}

func approvalRedeemed(w *writer, r *record, e events.ApprovalRedeemed) error {
	return w.exec(addWord, r.Header.ID[:], r.stream(), r.stamp(), "use", blob(r.Header.Actor.ID), r.Header.Wall, 1, "", "", blob(e.Session.UUID))
}

func requestReviewed(w *writer, r *record, e events.RequestReviewed) error {
	return w.exec(addWord, r.Header.ID[:], r.stream(), r.stamp(), "review", blob(r.Header.Actor.ID), r.Header.Wall, 0, string(e.Verdict), e.Note, nil)
}

// Request is access that was asked for, or taken by breaking the glass.
type Request struct {
	ID         events.RequestID `json:"id"`
	User       string           `json:"user"`
	Account    string           `json:"account"` // ACCOUNT+TARGET
	Reason     string           `json:"reason"`
	Ticket     string           `json:"ticket,omitempty"`
	Made       time.Time        `json:"made"`
	From       time.Time        `json:"from,omitzero"` // as asked for; zero is from the last approval on
	For        uint64           `json:"for"`           // seconds
	Uses       uint32           `json:"uses"`          // as asked for; 0 of break-glass, which counts none
	Decide     time.Time        `json:"decide,omitzero"`
	BreakGlass bool             `json:"break_glass"`
	Review     time.Time        `json:"review,omitzero"` // when the review is due
	Ended      time.Time        `json:"ended,omitzero"`  // when it was denied or withdrawn first
	EndedBy    string           `json:"ended_by,omitempty"`
	EndedHow   string           `json:"ended_how,omitempty"` // "denied" or "withdrawn"
	EndReason  string           `json:"end_reason,omitempty"`
	Approvals  []Word           `json:"approvals"`
	Used       []Word           `json:"used"` // once for each session
	Reviews    []Word           `json:"reviews"`
	UserID     events.UserID    `json:"user_id"`
	AccountID  events.AccountID `json:"account_id"`

	stamp []byte
}

// Place is where a list goes on after this request (see [Filter.After]).
func (r Request) Place() string { return hex.EncodeToString(r.stamp) }

// Word is what somebody said of a request, or a use of it.
type Word struct {
	Event   uuid.UUID        `json:"event"`
	By      string           `json:"by"`
	At      time.Time        `json:"at"`
	Uses    uint32           `json:"uses,omitempty"`
	Verdict events.Verdict   `json:"verdict,omitempty"`
	Note    string           `json:"note,omitempty"`
	Session events.SessionID `json:"session,omitzero"`
}

const selectRequest = `SELECT r.id, r.user, COALESCE(u.name, ''), r.account, COALESCE(a.name, ''), a.target, COALESCE(t.name, ''), r.reason, r.ticket,
	r.made, r.starts, r.lasts, r.uses, r.decide, r.glass, r.review, e.off, e.off_by, COALESCE(o.name, ''), COALESCE(e.off_how, ''), COALESCE(e.off_reason, ''), r.stamp
	FROM requests r LEFT JOIN users u ON u.id = r.user LEFT JOIN accounts a ON a.id = r.account LEFT JOIN targets t ON t.id = a.target
	LEFT JOIN requests_ends e ON e.id = r.id LEFT JOIN users o ON o.id = e.off_by`

// Requests lists requests, the newest first. Of the filter it uses everything
// but Live.
func (p *Projections) Requests(ctx context.Context, f Filter) (found Page[Request], err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		if f.User != "" {
			_, ids, err := q.lookup(userNoun, f.User)
			if err != nil {
				return err
			}
			w.among("r.user", ids)
		}
		if f.Target != "" {
			_, ids, err := q.lookup(targetNoun, f.Target)
			if err != nil {
				return err
			}
			w.among("a.target", ids)
		}
		end, err := w.pageBy("r.stamp", f)
		if err != nil {
			return err
		}
		all, err := list(q, scanRequest, selectRequest+w.String()+end, w.args...)
		found = page(all, f, func(r Request) []byte { return r.stamp })
		return q.addWords(found.Items, err)
	}, "requests", "users", "accounts", "targets")
	return found, err
}

// Request finds one request by its id; of several, of which a site betrays, the one
// that sorts first.
func (p *Projections) Request(ctx context.Context, id events.RequestID) (r Request, err error) {
	err = p.read(ctx, func(q *query) error {
		all, err := list(q, scanRequest, selectRequest+" WHERE r.id = ? ORDER BY r.stamp", id.UUID[:])
		if err == nil && len(all) == 0 {
			return &NotFoundError{"request", id.String()}
		}
		if err = q.addWords(all, err); err == nil {
			r = all[0]
		}
		return err
	}, "requests", "users", "accounts", "targets")
	return r, err
}

func scanRequest(row scanner) (r Request, err error) {
	var account, target string
	var targetID, endedBy uuid.UUID
	var made, starts, decide, review, ended sql.NullInt64
	err = row.Scan(&r.ID, &r.UserID, &r.User, &r.AccountID, &account, &targetID, &target, &r.Reason, &r.Ticket,
		&made, &starts, &r.For, &r.Uses, &decide, &r.BreakGlass, &review, &ended, &endedBy, &r.EndedBy, &r.EndedHow, &r.EndReason, &r.stamp)
	r.User, r.Account, r.EndedBy = named(r.User, r.UserID.UUID), accountName(account, r.AccountID.UUID, target, targetID), named(r.EndedBy, endedBy)
	r.Made, r.From, r.Decide, r.Review, r.Ended = at(made), at(starts), at(decide), at(review), at(ended)
	return r, err
}

// addWords fills in what was said of requests.
func (q *query) addWords(all []Request, err error) error {
	for i := range all {
		if err != nil {
			return err
		}
		r := &all[i]
		r.Approvals, r.Used, r.Reviews = []Word{}, []Word{}, []Word{}
		_, err = list(q, func(row scanner) (none struct{}, err error) {
			var kind string
			var w Word
			var by uuid.UUID
			var when sql.NullInt64
			if err = row.Scan(&w.Event, &kind, &by, &w.By, &when, &w.Uses, &w.Verdict, &w.Note, &w.Session); err != nil {
				return none, err
			}
			w.By, w.At = named(w.By, by), at(when)
			switch kind {
			case "approval":
				r.Approvals = append(r.Approvals, w)
			case "use":
				r.Used = append(r.Used, w)
			case "review":
				r.Reviews = append(r.Reviews, w)
			}
			return none, nil
		}, `SELECT w.event, w.kind, w.by, COALESCE(u.name, ''), w.at, w.uses, w.verdict, w.note, w.session
			FROM requests_words w LEFT JOIN users u ON u.id = w.by WHERE w.request = ? ORDER BY w.stamp`, r.ID.UUID[:])
	}
	return err
}
