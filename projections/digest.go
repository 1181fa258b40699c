package projections

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
)

// Digest is the SHA-256, in hex, of everything that the projections hold, and
// the clock that they stand at. Views that stand at one clock have one digest,
// however they got there. It fails while the projections stand at different
// places.
func (p *Projections) Digest(ctx context.Context) (string, events.Clock, error) {
	var digest string
	var at events.Clock
	err := p.read(ctx, func(q *query) error {
		var err error
		if at, err = q.checkpoint(p.defs); err != nil {
			return err
		}
		digest, err = q.digest(p.defs)
		return err
	})
	if err != nil {
		return "", events.Clock{}, fmt.Errorf("digest of the projections: %w", err)
	}
	return digest, at, nil
}

// checkpoint is the clock that all projections stand at.
func (q *query) checkpoint(defs []*projection) (events.Clock, error) {
	places := map[string]events.Clock{}
	rows, err := q.tx.QueryContext(q.ctx, "SELECT projection, site, epoch, kind, position FROM checkpoint")
	if err != nil {
		return events.Clock{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var e events.ClockEntry
		if err := rows.Scan(&name, &e.Origin.Site, &e.Origin.Epoch, &e.Origin.Kind, &e.Position); err != nil {
			return events.Clock{}, err
		}
		places[name] = places[name].With(e.Origin, e.Position)
	}
	byKind := map[events.Kind]events.Clock{}
	for _, def := range defs {
		at, seen := byKind[def.reads]
		if here := places[def.name]; seen && at.Compare(here) != events.Equal {
			return events.Clock{}, fmt.Errorf("projection %s stands at %s and another at %s: one is catching up or has stopped", def.name, here, at)
		}
		byKind[def.reads] = places[def.name]
	}
	return byKind[events.Ctl].Merge(byKind[events.Rec]), rows.Err()
}

// digest hashes the tables of all projections: in the order of their names,
// rows in the order of their primary keys, each value with its type and length.
func (q *query) digest(defs []*projection) (string, error) {
	h := sha256.New()
	for _, def := range defs {
		for _, table := range tablesOf(def) {
			key, err := q.primaryKey(table)
			if err != nil {
				return "", err
			}
			if err := q.dump(h, table, key); err != nil {
				return "", fmt.Errorf("table %s: %w", table, err)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (q *query) primaryKey(table string) (string, error) {
	columns, err := list(q, func(row scanner) (name string, err error) {
		err = row.Scan(&name)
		return name, err
	}, "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", table)
	if err == nil && len(columns) == 0 {
		err = fmt.Errorf("table %s has no primary key", table)
	}
	return strings.Join(columns, ", "), err
}

func (q *query) dump(h hash.Hash, table, key string) error {
	rows, err := q.tx.QueryContext(q.ctx, "SELECT * FROM "+table+" ORDER BY "+key)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	if err := hashValue(h, table+" "+strings.Join(columns, " ")); err != nil {
		return err
	}
	values, places := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		places[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(places...); err != nil {
			return err
		}
		for _, v := range values {
			if err := hashValue(h, v); err != nil {
				return err
			}
		}
	}
	return rows.Err()
}

func hashValue(h hash.Hash, v any) error {
	var b []byte
	switch v := v.(type) {
	case nil:
		b = []byte{'n'}
	case int64:
		b = binary.BigEndian.AppendUint64([]byte{'i'}, uint64(v))
	case float64:
		b = binary.BigEndian.AppendUint64([]byte{'f'}, math.Float64bits(v))
	case string:
		b = append(binary.BigEndian.AppendUint64([]byte{'s'}, uint64(len(v))), v...)
	case []byte:
		b = append(binary.BigEndian.AppendUint64([]byte{'b'}, uint64(len(v))), v...)
	default:
		return fmt.Errorf("a value of type %T has no canonical form", v)
	}
	_, err := h.Write(b)
	return err
}
