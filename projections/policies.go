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
	name:    "policies",
	version: 1,
	reads:   events.Ctl,
	schema: `
CREATE TABLE policies (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, name TEXT NOT NULL DEFAULT '', account BLOB, selector TEXT NOT NULL DEFAULT '', rule TEXT NOT NULL DEFAULT '{}', added INTEGER, added_by BLOB,
	off_stamp BLOB, removed INTEGER, removed_by BLOB, reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX policies_name ON policies (name);`,
	on: []handler{on(policyAdded), onHeader(policyRemoved)},
})

var (
	setPolicy    = keepLast("policies", "id", "set_stamp", "name", "account", "selector", "rule", "added", "added_by")
	removePolicy = keepFirst("policies", "id", "off_stamp", "removed", "removed_by", "reason")
)

func policyAdded(w *writer, r *record, e events.PolicyAdded) error {
	rule, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return w.exec(setPolicy, r.stream(), r.stamp(), e.Name, blob(e.Account.UUID), string(e.Selector), string(rule), r.Header.Wall, blob(r.Header.Actor.ID))
}

func policyRemoved(w *writer, r *record, e events.PolicyRemoved) error {
	return w.exec(removePolicy, r.stream(), r.stamp(), r.Header.Wall, blob(r.Header.Actor.ID), e.Reason)
}

// Policy says who may ask for access within a scope, and who decides.
type Policy struct {
	ID         events.PolicyID `json:"id"`
	Name       string          `json:"name"`
	Scope      string          `json:"scope"` // ACCOUNT+TARGET, or the selector
	State      string          `json:"state"` // "active" or "removed"
	Requesters []string        `json:"requesters"`
	Approvers  []string        `json:"approvers"`
	Approvals  uint32          `json:"approvals"`
	MaxTime    uint64          `json:"max_time"` // seconds
	MaxUses    uint32          `json:"max_uses"`
	Ticket     bool            `json:"ticket"`
	Decide     uint64          `json:"decide"` // seconds
	Keep       bool            `json:"keep"`
	Terms      events.Terms    `json:"terms"`
	Added      time.Time       `json:"added,omitzero"`
	AddedBy    string          `json:"added_by,omitempty"`
	Removed    time.Time       `json:"removed,omitzero"`
	RemovedBy  string          `json:"removed_by,omitempty"`
	Reason     string          `json:"reason,omitempty"` // of the removal
}

var policyNoun = noun{
	name:    "policy",
	byID:    "SELECT id, removed IS NULL FROM policies WHERE id = ?",
	holders: "SELECT id, removed IS NULL FROM policies WHERE name = ? ORDER BY id",
}

const selectPolicy = `SELECT p.id, p.rule, p.account, COALESCE(a.name, ''), a.target, COALESCE(t.name, ''), p.selector,
	p.added, p.added_by, COALESCE(ab.name, ''), p.removed, p.removed_by, COALESCE(rb.name, ''), p.reason
	FROM policies p LEFT JOIN accounts a ON a.id = p.account LEFT JOIN targets t ON t.id = a.target
	LEFT JOIN users ab ON ab.id = p.added_by LEFT JOIN users rb ON rb.id = p.removed_by`

// Policies lists policies by name. Of the filter it uses Since and Until
// (added), Live and Limit.
func (p *Projections) Policies(ctx context.Context, f Filter) (all []Policy, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("p.added", f)
		if f.Live {
			w.add("p.removed IS NULL")
		}
		all, err = list(q, q.scanPolicy, selectPolicy+w.String()+" ORDER BY p.name, p.id LIMIT ?", append(w.args, f.limit())...)
		return q.nameParties(all, err)
	}, "policies", "users", "groups", "accounts", "targets")
	return all, err
}

// Policy finds one policy by its name or id.
func (p *Projections) Policy(ctx context.Context, ref string) (found Policy, err error) {
	err = p.read(ctx, func(q *query) error {
		id, err := q.one(policyNoun, ref)
		if err != nil {
			return err
		}
		all, err := list(q, q.scanPolicy, selectPolicy+" WHERE p.id = ?", id[:])
		if err = q.nameParties(all, err); err == nil {
			found = all[0]
		}
		return err
	}, "policies", "users", "groups", "accounts", "targets")
	return found, err
}

func (q *query) scanPolicy(row scanner) (p Policy, err error) {
	var rule []byte
	var account, target string
	var accountID events.AccountID
	var targetID, addedBy, removedBy uuid.UUID
	var added, removed sql.NullInt64
	var selector string
	err = row.Scan(&p.ID, &rule, &accountID, &account, &targetID, &target, &selector, &added, &addedBy, &p.AddedBy, &removed, &removedBy, &p.RemovedBy, &p.Reason)
	if err != nil {
		return p, err
	}
	var e events.PolicyAdded
	if err := json.Unmarshal(rule, &e); err != nil {
		return p, fmt.Errorf("rule of policy %s: %w", p.ID, err)
	}
	p.Name, p.Scope, p.State = named(e.Name, p.ID.UUID), selector, "active"
	if selector == "" {
		p.Scope = accountName(account, accountID.UUID, target, targetID)
	}
	p.Requesters, p.Approvers = partyRefs(e.Requesters), partyRefs(e.Approvers)
	p.Approvals, p.MaxTime, p.MaxUses, p.Ticket, p.Decide, p.Keep, p.Terms = e.Approvals, e.MaxTime, e.MaxUses, e.Ticket, e.Decide, e.Keep, e.Terms
	p.Added, p.Removed, p.AddedBy, p.RemovedBy = at(added), at(removed), named(p.AddedBy, addedBy), named(p.RemovedBy, removedBy)
	if removed.Valid {
		p.State = "removed"
	}
	return p, nil
}

// partyRefs writes parties as people name them, users and groups by id.
func partyRefs(parties []events.Party) []string {
	refs := []string{}
	for _, p := range parties {
		switch {
		case p.Anyone:
			refs = append(refs, "*")
		case p.Role != "":
			refs = append(refs, "role:"+string(p.Role))
		case !p.Group.IsZero():
			refs = append(refs, "group:"+p.Group.String())
		default:
			refs = append(refs, p.User.String())
		}
	}
	return refs
}

// nameParties puts names for the ids of users and groups.
func (q *query) nameParties(all []Policy, err error) error {
	if err != nil || len(all) == 0 {
		return err
	}
	names := map[string]string{}
	_, err = list(q, func(row scanner) (none struct{}, err error) {
		var id uuid.UUID
		var prefix, name string
		if err = row.Scan(&id, &prefix, &name); err == nil && name != "" {
			names[prefix+id.String()] = prefix + name
		}
		return none, err
	}, "SELECT id, '', name FROM users UNION ALL SELECT id, 'group:', name FROM groups")
	for i := range all {
		for _, refs := range [][]string{all[i].Requesters, all[i].Approvers} {
			for n, ref := range refs {
				if name, ok := names[ref]; ok {
					refs[n] = name
				}
			}
		}
	}
	return err
}
