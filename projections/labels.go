package projections

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Each row is a head: a label set or taken away by an event that no other one
// on the same label knew of.
var _ = register(projection{
	name:    "labels",
	version: 1,
	reads:   events.Ctl,
	schema: `
CREATE TABLE labels (
	target BLOB, key TEXT, site BLOB, epoch INTEGER, position INTEGER, value TEXT NOT NULL, off INTEGER NOT NULL,
	PRIMARY KEY (target, key, site, epoch, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_value ON labels (key, value);`,
	on: []handler{on(targetLabelSet), on(targetLabelRemoved)},
})

func targetLabelSet(w *writer, r *record, e events.TargetLabelSet) error {
	return putLabel(w, r, e.Key, e.Value, false)
}

func targetLabelRemoved(w *writer, r *record, e events.TargetLabelRemoved) error {
	return putLabel(w, r, e.Key, "", true)
}

func putLabel(w *writer, r *record, key, value string, off bool) error {
	type place struct {
		site     uuid.UUID
		epoch    uint32
		position uint64
	}
	var known []place
	err := w.each(func(scan func(...any) error) error {
		var at place
		err := scan(&at.site, &at.epoch, &at.position)
		if r.covers(events.Origin{Site: events.SiteID{UUID: at.site}, Epoch: at.epoch, Kind: events.Ctl}, at.position) {
			known = append(known, at)
		}
		return err
	}, "SELECT site, epoch, position FROM labels WHERE target = ? AND key = ?", r.stream(), key)
	for _, at := range known {
		if err == nil {
			err = w.exec("DELETE FROM labels WHERE target = ? AND key = ? AND site = ? AND epoch = ? AND position = ?",
				r.stream(), key, at.site[:], at.epoch, count(at.position))
		}
	}
	if err != nil {
		return err
	}
	return w.exec("INSERT INTO labels (target, key, site, epoch, position, value, off) VALUES (?, ?, ?, ?, ?, ?, ?)",
		r.stream(), key, r.Header.Site.UUID[:], r.Header.Epoch, count(r.Header.Position), value, off)
}

// labels gives the labels of all targets: those on whose value all heads agree.
func (q *query) labels() (map[events.TargetID]map[string]string, error) {
	all := map[events.TargetID]map[string]string{}
	_, err := list(q, func(row scanner) (none struct{}, err error) {
		var id events.TargetID
		var key, value string
		if err = row.Scan(&id, &key, &value); err == nil {
			if all[id] == nil {
				all[id] = map[string]string{}
			}
			all[id][key] = value
		}
		return none, err
	}, "SELECT target, key, MIN(value) FROM labels GROUP BY target, key HAVING MAX(off) = 0 AND MIN(value) = MAX(value)")
	return all, err
}
