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

// discoveries holds, for each target, which accounts it showed last.
var _ = register(projection{
	name:    "discoveries",
	version: 1,
	reads:   events.Ctl,
	schema: `
CREATE TABLE discoveries (
	target BLOB PRIMARY KEY,
	set_stamp BLOB, via BLOB, found TEXT NOT NULL DEFAULT '[]', cut INTEGER NOT NULL DEFAULT 0, at INTEGER
) STRICT, WITHOUT ROWID;`,
	on: []handler{on(accountsFound)},
})

var setDiscovery = keepLast("discoveries", "target", "set_stamp", "via", "found", "cut", "at")

func accountsFound(w *writer, r *record, e events.AccountsFound) error {
	found := e.Accounts
	if found == nil {
		found = []events.FoundAccount{}
	}
	b, err := json.Marshal(found)
	if err != nil {
		return err
	}
	return w.exec(setDiscovery, r.stream(), r.stamp(), blob(e.Via.UUID), string(b), e.Cut, r.Header.Wall)
}

// DiscoveredAccount is an account that a target showed, or should have shown.
type DiscoveredAccount struct {
	events.FoundAccount
	Target string    `json:"target"`
	State  string    `json:"state"` // "known" here too, "unknown" here, "orphaned": known here, and not on the target
	At     time.Time `json:"at"`    // when the target was asked
}

// Discovered lists the accounts that a target showed when it was last asked, and
// those known here that it did not show; ErrNotFound if it never was. Where the
// target has more than was listed, none counts as orphaned.
func (p *Projections) Discovered(ctx context.Context, ref string) (all []DiscoveredAccount, cut bool, err error) {
	err = p.read(ctx, func(q *query) error {
		id, err := q.one(targetNoun, ref)
		if err != nil {
			return err
		}
		var w where
		w.among("id", []uuid.UUID{id})
		target, err := q.targets(w, 1)
		if err != nil {
			return err
		}
		known, err := list(q, func(row scanner) (name string, err error) { return name, row.Scan(&name) },
			"SELECT name FROM accounts WHERE target = ? AND removed IS NULL ORDER BY name", id[:])
		if err != nil {
			return err
		}
		type discovery struct {
			found []byte
			cut   bool
			at    sql.NullInt64
		}
		last, err := list(q, func(row scanner) (d discovery, err error) { return d, row.Scan(&d.found, &d.cut, &d.at) },
			"SELECT found, cut, at FROM discoveries WHERE target = ?", id[:])
		if err != nil {
			return err
		}
		if len(last) == 0 {
			return fmt.Errorf("%w: it was never asked for its accounts", &NotFoundError{"discovery of target", ref})
		}
		var found []events.FoundAccount
		if err := json.Unmarshal(last[0].found, &found); err != nil {
			return fmt.Errorf("accounts found on target %s: %w", id, err)
		}
		cut = last[0].cut
		all = compared(found, known, cut, target[0].Name, at(last[0].at))
		return nil
	}, "discoveries", "accounts", "targets")
	return all, cut, err
}

func compared(found []events.FoundAccount, known []string, cut bool, target string, at time.Time) (all []DiscoveredAccount) {
	seen := map[string]bool{}
	for _, f := range found {
		d := DiscoveredAccount{FoundAccount: f, Target: target, State: "unknown", At: at}
		if slices.Contains(known, f.Name) {
			d.State = "known"
		}
		seen[f.Name] = true
		all = append(all, d)
	}
	for _, name := range slices.Compact(known) {
		if !seen[name] && !cut {
			all = append(all, DiscoveredAccount{FoundAccount: events.FoundAccount{Name: name}, Target: target, State: "orphaned", At: at})
		}
	}
	return all
}
