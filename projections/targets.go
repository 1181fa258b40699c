package projections

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "targets",
	version: 4,
	reads:   events.Ctl,
	schema: `
CREATE TABLE targets (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, name TEXT NOT NULL DEFAULT '', addr TEXT NOT NULL DEFAULT '', kind TEXT NOT NULL DEFAULT '', added INTEGER,
	pin_stamp BLOB, host_keys TEXT NOT NULL DEFAULT '[]', scanned INTEGER NOT NULL DEFAULT 0, pinned INTEGER,
	allow_stamp BLOB, algorithms TEXT NOT NULL DEFAULT '[]',
	limit_stamp BLOB, max_sessions INTEGER NOT NULL DEFAULT 0,
	params_stamp BLOB, params TEXT NOT NULL DEFAULT '[]',
	refuse_stamp BLOB, refused INTEGER, refused_key TEXT NOT NULL DEFAULT '',
	off_stamp BLOB, removed INTEGER, reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX targets_name ON targets (name);
CREATE TABLE targets_removals (
	id BLOB, stamp BLOB, removed INTEGER NOT NULL, reason TEXT NOT NULL,
	PRIMARY KEY (id, stamp)
) STRICT, WITHOUT ROWID;`,
	on: []handler{
		on(targetAdded), on(targetHostKeyPinned), on(targetAlgorithmsAllowed), on(targetHostKeyRefused), on(targetLimitsSet), on(targetParamsSet), onHeader(targetRemoved), on(targetRestored),
	},
})

var (
	setTarget       = keepLast("targets", "id", "set_stamp", "name", "addr", "kind", "added")
	pinTarget       = keepLast("targets", "id", "pin_stamp", "host_keys", "scanned", "pinned")
	allowTarget     = keepLast("targets", "id", "allow_stamp", "algorithms")
	limitTarget     = keepLast("targets", "id", "limit_stamp", "max_sessions")
	setTargetParams = keepLast("targets", "id", "params_stamp", "params")
	refuseTargetKey = keepLast("targets", "id", "refuse_stamp", "refused", "refused_key")
	removeTarget    = keepFirst("targets", "id", "off_stamp", "removed", "reason")
	targetArchive   = archive{table: "targets", remove: removeTarget}
)

func targetAdded(w *writer, r *record, e events.TargetAdded) error {
	if err := w.exec(setTarget, r.stream(), r.stamp(), e.Name, e.Addr, string(cmp.Or(e.Kind, events.SSH)), r.Header.Wall); err != nil {
		return err
	}
	if err := targetParamsSet(w, r, events.TargetParamsSet{Params: e.Params}); err != nil {
		return err
	}
	return targetHostKeyPinned(w, r, events.TargetHostKeyPinned{HostKeys: e.HostKeys, Scanned: e.Scanned})
}

func targetHostKeyPinned(w *writer, r *record, e events.TargetHostKeyPinned) error {
	return w.exec(pinTarget, r.stream(), r.stamp(), texts(e.HostKeys), e.Scanned, r.Header.Wall)
}

func targetAlgorithmsAllowed(w *writer, r *record, e events.TargetAlgorithmsAllowed) error {
	return w.exec(allowTarget, r.stream(), r.stamp(), texts(e.Algorithms))
}

func targetHostKeyRefused(w *writer, r *record, e events.TargetHostKeyRefused) error {
	return w.exec(refuseTargetKey, r.stream(), r.stamp(), r.Header.Wall, e.Presented)
}

func targetLimitsSet(w *writer, r *record, e events.TargetLimitsSet) error {
	return w.exec(limitTarget, r.stream(), r.stamp(), e.MaxSessions)
}

func targetParamsSet(w *writer, r *record, e events.TargetParamsSet) error {
	return w.exec(setTargetParams, r.stream(), r.stamp(), stored(e.Params))
}

// stored is a list of parameters as stored: a JSON array.
func stored(params []events.Param) string {
	if len(params) == 0 {
		return "[]"
	}
	b, err := json.Marshal(params)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(b)
}

func targetRemoved(w *writer, r *record, e events.TargetRemoved) error {
	return targetArchive.put(w, r, e.Reason)
}

func targetRestored(w *writer, r *record, _ events.TargetRestored) error {
	return targetArchive.takeBack(w, r)
}

// texts is a list of strings as stored: a JSON array.
func texts(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(b)
}

// Target is an administrative interface that the gateway reaches.
type Target struct {
	ID          events.TargetID   `json:"id"`
	Name        string            `json:"name"`
	Addr        string            `json:"addr"` // host:port
	Kind        events.TargetKind `json:"kind"`
	Params      []events.Param    `json:"params"` // those that were given
	State       string            `json:"state"`  // "active" or "removed"
	HostKeys    []string          `json:"host_keys"`
	Scanned     bool              `json:"scanned"`                // the keys were taken from the target itself
	Pinned      time.Time         `json:"pinned,omitzero"`        // when these keys were set
	Algorithms  []string          `json:"algorithms"`             // legacy ones that are allowed
	MaxSessions uint32            `json:"max_sessions,omitempty"` // at once, of all users
	Refused     time.Time         `json:"refused,omitzero"`       // last time that it proved another host key
	RefusedKey  string            `json:"refused_key,omitempty"`
	Added       time.Time         `json:"added,omitzero"`
	Removed     time.Time         `json:"removed,omitzero"`
	Reason      string            `json:"reason,omitempty"`   // of the removal
	Conflict    bool              `json:"conflict,omitempty"` // another active target has this name

	Contested bool `json:"contested,omitempty"` // that it is removed (rule R7): not known to the views, but to who decides

	Labels map[string]string `json:"labels,omitempty"`
}

var targetNoun = noun{
	name:    "target",
	byID:    "SELECT id, removed IS NULL FROM targets WHERE id = ?",
	holders: "SELECT id, removed IS NULL FROM targets WHERE name = ? ORDER BY id",
}

const selectTarget = `SELECT id, name, addr, kind, params, host_keys, scanned, pinned, algorithms, max_sessions, refused, refused_key, added, removed, reason,
	removed IS NULL AND EXISTS (SELECT 1 FROM targets o WHERE o.name = t.name AND o.id <> t.id AND o.removed IS NULL)
	FROM targets t`

// Targets lists targets by name. Of the filter it uses Since and Until (added),
// Target, Live and Limit.
func (p *Projections) Targets(ctx context.Context, f Filter) (all []Target, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("added", f)
		if f.Live {
			w.add("removed IS NULL")
		}
		if f.Target != "" {
			_, ids, err := q.lookup(targetNoun, f.Target)
			if err != nil {
				return err
			}
			w.among("id", ids)
		}
		all, err = q.targets(w, f.limit())
		return err
	}, "targets", "labels")
	return all, err
}

// Target finds one target by id or name.
func (p *Projections) Target(ctx context.Context, ref string) (t Target, err error) {
	err = p.read(ctx, func(q *query) error {
		id, err := q.one(targetNoun, ref)
		if err != nil {
			return err
		}
		var w where
		w.among("id", []uuid.UUID{id})
		all, err := q.targets(w, 1)
		if err == nil {
			t = all[0]
		}
		return err
	}, "targets", "labels")
	return t, err
}

func (q *query) targets(w where, limit int) ([]Target, error) {
	all, err := list(q, scanTarget, selectTarget+w.String()+" ORDER BY name, id LIMIT ?", append(slices.Clone(w.args), limit)...)
	if err != nil {
		return nil, err
	}
	labels, err := q.labels()
	for i := range all {
		all[i].Labels = labels[all[i].ID]
	}
	return all, err
}

func scanTarget(row scanner) (t Target, err error) {
	var params, hostKeys, algorithms []byte
	var pinned, refused, added, removed sql.NullInt64
	err = row.Scan(&t.ID, &t.Name, &t.Addr, &t.Kind, &params, &hostKeys, &t.Scanned, &pinned, &algorithms, &t.MaxSessions, &refused, &t.RefusedKey, &added, &removed, &t.Reason, &t.Conflict)
	if err != nil {
		return t, err
	}
	t.Pinned, t.Refused, t.Added, t.Removed, t.State = at(pinned), at(refused), at(added), at(removed), "active"
	if removed.Valid {
		t.State = "removed"
	}
	if err := json.Unmarshal(params, &t.Params); err != nil {
		return t, fmt.Errorf("parameters of target %s: %w", t.ID, err)
	}
	if err := json.Unmarshal(hostKeys, &t.HostKeys); err != nil {
		return t, fmt.Errorf("host keys of target %s: %w", t.ID, err)
	}
	if err := json.Unmarshal(algorithms, &t.Algorithms); err != nil {
		return t, fmt.Errorf("algorithms of target %s: %w", t.ID, err)
	}
	return t, nil
}
