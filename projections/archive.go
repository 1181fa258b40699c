package projections

import "bytes"

// archive keeps the removals of what can be restored, in the columns off_stamp, removed
// and reason of a table and in a table of those that stand.
type archive struct{ table, remove string }

func (a archive) put(w *writer, r *record, reason string) error {
	if err := w.exec("INSERT INTO "+a.table+"_removals (id, stamp, removed, reason) VALUES (?, ?, ?, ?)", r.stream(), r.stamp(), r.Header.Wall, reason); err != nil {
		return err
	}
	return w.exec(a.remove, r.stream(), r.stamp(), r.Header.Wall, reason)
}

// takeBack drops the removals that the record knew of; one that comes later it can't
// have known.
func (a archive) takeBack(w *writer, r *record) error {
	var known [][]byte
	err := w.each(func(scan func(...any) error) error {
		var stamp []byte
		err := scan(&stamp)
		if o, position, ok := placeOf(stamp); ok && r.covers(o, position) {
			known = append(known, bytes.Clone(stamp))
		}
		return err
	}, "SELECT stamp FROM "+a.table+"_removals WHERE id = ?", r.stream())
	for _, stamp := range known {
		if err == nil {
			err = w.exec("DELETE FROM "+a.table+"_removals WHERE id = ? AND stamp = ?", r.stream(), stamp)
		}
	}
	if err != nil {
		return err
	}
	return w.exec("UPDATE "+a.table+` SET (off_stamp, removed, reason) = (SELECT min(stamp), removed, COALESCE(reason, '') FROM `+a.table+`_removals WHERE id = ?1)
		WHERE id = ?1`, r.stream())
}
