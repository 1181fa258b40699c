package projections

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "accounts",
	version: 1,
	reads:   events.Ctl,
	schema: `
CREATE TABLE accounts (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, name TEXT NOT NULL DEFAULT '', target BLOB, credential BLOB, added INTEGER,
	off_stamp BLOB, removed INTEGER, reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX accounts_name ON accounts (name);`,
	on: []handler{on(accountAdded), onHeader(accountRemoved)},
})

var (
	setAccount    = keepLast("accounts", "id", "set_stamp", "name", "target", "credential", "added")
	removeAccount = keepFirst("accounts", "id", "off_stamp", "removed", "reason")
)

func accountAdded(w *writer, r *record, e events.AccountAdded) error {
	return w.exec(setAccount, r.stream(), r.stamp(), e.Name, blob(e.Target.UUID), blob(e.Credential.UUID), r.Header.Wall)
}

func accountRemoved(w *writer, r *record, e events.AccountRemoved) error {
	return w.exec(removeAccount, r.stream(), r.stamp(), r.Header.Wall, e.Reason)
}

// Account is a login that exists on a target.
type Account struct {
	ID         events.AccountID    `json:"id"`
	Name       string              `json:"name"`   // login name on the target
	Target     string              `json:"target"` // name
	TargetID   events.TargetID     `json:"target_id"`
	Credential events.CredentialID `json:"credential"`
	State      string              `json:"state"` // "active", "removed" or "target removed"
	Added      time.Time           `json:"added,omitzero"`
	Removed    time.Time           `json:"removed,omitzero"`
	Reason     string              `json:"reason,omitempty"`   // of the removal
	Conflict   bool                `json:"conflict,omitempty"` // the target has another active account of this name
}

var accountNoun = noun{
	name: "account",
	byID: "SELECT id, removed IS NULL FROM accounts WHERE id = ?",
	holders: `SELECT a.id, a.removed IS NULL AND t.removed IS NULL FROM accounts a JOIN targets t ON t.id = a.target
		WHERE a.name = ? AND (t.name = ? OR t.id = ?) ORDER BY a.id`,
}

// account finds one account by its id or as ACCOUNT+TARGET, where TARGET is the
// name or id of a target.
func (q *query) account(ref string) (uuid.UUID, error) {
	i := strings.LastIndexByte(ref, '+')
	if i < 0 {
		if _, err := uuid.Parse(ref); err != nil {
			return uuid.UUID{}, fmt.Errorf("%w: an account is named ACCOUNT+TARGET or by its id", &NotFoundError{"account", ref})
		}
		return q.one(accountNoun, ref, "", "", nil)
	}
	target, err := uuid.Parse(ref[i+1:])
	if err != nil {
		return q.one(accountNoun, ref, ref[:i], ref[i+1:], nil)
	}
	return q.one(accountNoun, ref, ref[:i], ref[i+1:], target[:])
}

const selectAccount = `SELECT a.id, a.name, COALESCE(t.name, ''), a.target, a.credential, a.added, a.removed, a.reason,
	a.removed IS NULL AND EXISTS (SELECT 1 FROM accounts o WHERE o.name = a.name AND o.target = a.target AND o.id <> a.id AND o.removed IS NULL),
	t.removed IS NOT NULL
	FROM accounts a LEFT JOIN targets t ON t.id = a.target`

// Accounts lists accounts by target and name. Of the filter it uses Since and
// Until (added), Target, Live and Limit.
func (p *Projections) Accounts(ctx context.Context, f Filter) (all []Account, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("a.added", f)
		if f.Live {
			w.add("a.removed IS NULL AND t.removed IS NULL")
		}
		if f.Target != "" {
			_, ids, err := q.lookup(targetNoun, f.Target)
			if err != nil {
				return err
			}
			w.among("a.target", ids)
		}
		all, err = q.accounts(w, f.limit())
		return err
	}, "accounts", "targets")
	return all, err
}

// Account finds one account by id or as ACCOUNT+TARGET.
func (p *Projections) Account(ctx context.Context, ref string) (a Account, err error) {
	err = p.read(ctx, func(q *query) error {
		id, err := q.account(ref)
		if err != nil {
			return err
		}
		var w where
		w.among("a.id", []uuid.UUID{id})
		all, err := q.accounts(w, 1)
		if err == nil {
			a = all[0]
		}
		return err
	}, "accounts", "targets")
	return a, err
}

func (q *query) accounts(w where, limit int) ([]Account, error) {
	return list(q, scanAccount, selectAccount+w.String()+" ORDER BY t.name, a.name, a.id LIMIT ?", append(slices.Clone(w.args), limit)...)
}

func scanAccount(row scanner) (a Account, err error) {
	var added, removed sql.NullInt64
	var targetRemoved bool
	err = row.Scan(&a.ID, &a.Name, &a.Target, &a.TargetID, &a.Credential, &added, &removed, &a.Reason, &a.Conflict, &targetRemoved)
	a.Target, a.Added, a.Removed, a.State = named(a.Target, a.TargetID.UUID), at(added), at(removed), "active"
	switch {
	case removed.Valid:
		a.State = "removed"
	case targetRemoved:
		a.State = "target removed"
	}
	return a, err
}
