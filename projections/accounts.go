package projections

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "accounts",
	version: 3,
	reads:   events.Ctl,
	schema: `
CREATE TABLE accounts (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, name TEXT NOT NULL DEFAULT '', target BLOB, credential BLOB, added INTEGER,
	via_stamp BLOB, via BLOB,
	params_stamp BLOB, params TEXT NOT NULL DEFAULT '[]',
	off_stamp BLOB, removed INTEGER, reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX accounts_name ON accounts (name);
CREATE TABLE accounts_removals (
	id BLOB, stamp BLOB, removed INTEGER NOT NULL, reason TEXT NOT NULL,
	PRIMARY KEY (id, stamp)
) STRICT, WITHOUT ROWID;`,
	on: []handler{on(accountAdded), on(accountViaSet), on(accountParamsSet), onHeader(accountRemoved), on(accountRestored)},
})

var (
	setAccount       = keepLast("accounts", "id", "set_stamp", "name", "target", "credential", "added")
	setAccountVia    = keepLast("accounts", "id", "via_stamp", "via")
	setAccountParams = keepLast("accounts", "id", "params_stamp", "params")
	removeAccount    = keepFirst("accounts", "id", "off_stamp", "removed", "reason")
	accountArchive   = archive{table: "accounts", remove: removeAccount}
)

func accountAdded(w *writer, r *record, e events.AccountAdded) error {
	if err := w.exec(setAccount, r.stream(), r.stamp(), e.Name, blob(e.Target.UUID), blob(e.Credential.UUID), r.Header.Wall); err != nil {
		return err
	}
	if err := accountViaSet(w, r, events.AccountViaSet{Via: e.Via}); err != nil {
		return err
	}
	return accountParamsSet(w, r, events.AccountParamsSet{Params: e.Params})
}

func accountViaSet(w *writer, r *record, e events.AccountViaSet) error {
	return w.exec(setAccountVia, r.stream(), r.stamp(), blob(e.Via.UUID))
}

func accountParamsSet(w *writer, r *record, e events.AccountParamsSet) error {
	return w.exec(setAccountParams, r.stream(), r.stamp(), stored(e.Params))
}

func accountRemoved(w *writer, r *record, e events.AccountRemoved) error {
	return accountArchive.put(w, r, e.Reason)
}

func accountRestored(w *writer, r *record, _ events.AccountRestored) error {
	return accountArchive.takeBack(w, r)
}

// Account is a login that exists on a target.
type Account struct {
	ID         events.AccountID    `json:"id"`
	Name       string              `json:"name"`   // login name on the target
	Target     string              `json:"target"` // name
	TargetID   events.TargetID     `json:"target_id"`
	Credential events.CredentialID `json:"credential"`
	Via        string              `json:"via,omitempty"` // ACCOUNT+TARGET of the privileged account that may change it
	ViaID      events.AccountID    `json:"via_id,omitzero"`
	Params     []events.Param      `json:"params"` // those that were given
	State      string              `json:"state"`  // "active", "removed" or "target removed"
	Added      time.Time           `json:"added,omitzero"`
	Removed    time.Time           `json:"removed,omitzero"`
	Reason     string              `json:"reason,omitempty"`   // of the removal
	Conflict   bool                `json:"conflict,omitempty"` // the target has another active account of this name

	Contested bool `json:"contested,omitempty"` // that it is removed (rule R7): not known to the views, but to who decides
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

const selectAccount = `SELECT a.id, a.name, COALESCE(t.name, ''), a.target, a.credential, a.via, COALESCE(v.name, ''), a.params, a.added, a.removed, a.reason,
	a.removed IS NULL AND EXISTS (SELECT 1 FROM accounts o WHERE o.name = a.name AND o.target = a.target AND o.id <> a.id AND o.removed IS NULL),
	t.removed IS NOT NULL
	FROM accounts a LEFT JOIN targets t ON t.id = a.target LEFT JOIN accounts v ON v.id = a.via`

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
	var params []byte
	var via string
	err = row.Scan(&a.ID, &a.Name, &a.Target, &a.TargetID, &a.Credential, &a.ViaID, &via, &params, &added, &removed, &a.Reason, &a.Conflict, &targetRemoved)
	a.Target, a.Added, a.Removed, a.State = named(a.Target, a.TargetID.UUID), at(added), at(removed), "active"
	switch {
	case removed.Valid:
		a.State = "removed"
	case targetRemoved:
		a.State = "target removed"
	}
	if err != nil {
		return a, err
	}
	if !a.ViaID.IsZero() {
		a.Via = named(via, a.ViaID.UUID) + "+" + a.Target
	}
	if err := json.Unmarshal(params, &a.Params); err != nil {
		return a, fmt.Errorf("parameters of account %s: %w", a.ID, err)
	}
	return a, nil
}
