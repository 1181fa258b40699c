package projections

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Filter narrows a list. A field that is zero does not narrow; what a field
// means for a noun without such a thing is nothing.
type Filter struct {
	Since  time.Time     // at or after
	Until  time.Time     // before
	User   string        // id or name of a user
	Target string        // id or name of a target
	Site   events.SiteID // sessions and audit: where it happened
	Live   bool          // only what has not ended, was not removed, disabled or expired
	Limit  int           // at most this many; 0 means DefaultLimit
	After  string        // Page.Next of the page before
	Oldest bool          // sessions and audit: oldest first instead of newest first
}

// Limits of a list.
const (
	DefaultLimit = 1000
	MaxLimit     = 100_000
)

func (f Filter) limit() int {
	if f.Limit <= 0 {
		return DefaultLimit
	}
	return min(f.Limit, MaxLimit)
}

// Page is a part of a list, and where the next part begins: Next is empty after
// the last one.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// ErrNotFound is the class of [*NotFoundError].
var ErrNotFound = errors.New("not found")

// NotFoundError says that nothing has this id or name.
type NotFoundError struct {
	Noun string // "user", "target", "account", ...
	Ref  string // as asked for
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("%s %q not found; see %s ls", e.Noun, e.Ref, e.Noun)
}

// Is makes a NotFoundError match [ErrNotFound].
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// ErrConflict is the class of [*ConflictError].
var ErrConflict = errors.New("name is held more than once")

// ConflictError says that several live aggregates have one name, given at
// sites that did not know of each other. An id names one of them.
type ConflictError struct {
	Noun string   `json:"noun"`
	Name string   `json:"name"`
	IDs  []string `json:"ids"`
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s name %q is held by %d: %s; name one by its id and settle the conflict",
		e.Noun, e.Name, len(e.IDs), strings.Join(e.IDs, ", "))
}

// Is makes a ConflictError match [ErrConflict].
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// query is one consistent reading of the database.
type query struct {
	ctx context.Context
	tx  *sql.Tx
	now time.Time
}

type scanner interface{ Scan(...any) error }

// read runs f in one read transaction. It refuses when a projection named in
// needs has stopped, since its tables would answer with a state long past.
func (p *Projections) read(ctx context.Context, f func(*query) error, needs ...string) (err error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.view.stoppedAmong(needs); err != nil {
		return err
	}
	tx, err := p.view.db.reads.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("read projections: %w", err)
	}
	// Nothing was written: there is nothing to lose in an unsuccessful end.
	defer func() { _ = tx.Rollback() }()
	return f(&query{ctx: ctx, tx: tx, now: p.now()})
}

func (v *view) stoppedAmong(names []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, pr := range v.progress {
		if pr.failed != nil && slices.Contains(names, pr.def.name) {
			return pr.failed
		}
	}
	return nil
}

// list collects the rows of a query.
func list[T any](q *query, scan func(scanner) (T, error), text string, args ...any) ([]T, error) {
	rows, err := q.tx.QueryContext(q.ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("read projections: %w", err)
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("read projections: %w", err)
		}
		all = append(all, item)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read projections: %w", err)
	}
	return all, nil
}

// where gathers the conditions of a query.
type where struct {
	conditions []string
	args       []any
}

func (w *where) add(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

// among adds that a column is one of some ids.
func (w *where) among(column string, ids []uuid.UUID) {
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(ids)), ", ")
	var args []any
	for _, id := range ids {
		args = append(args, id[:])
	}
	w.add(column+" IN ("+marks+")", args...)
}

// span adds that a column of times lies in the filter's interval.
func (w *where) span(column string, f Filter) {
	if !f.Since.IsZero() {
		w.add(column+" >= ?", f.Since.UnixMicro())
	}
	if !f.Until.IsZero() {
		w.add(column+" < ?", f.Until.UnixMicro())
	}
}

// pageBy adds what the filter says of a list in the order of stamps, and gives
// the end of the query. Its interval is measured by the hybrid clock.
func (w *where) pageBy(stamp string, f Filter) (string, error) {
	if !f.Since.IsZero() {
		w.add(stamp+" >= ?", millisStamp(f.Since))
	}
	if !f.Until.IsZero() {
		w.add(stamp+" < ?", millisStamp(f.Until))
	}
	order, beyond := " DESC", " < ?"
	if f.Oldest {
		order, beyond = "", " > ?"
	}
	if f.After != "" {
		last, err := hex.DecodeString(f.After)
		if err != nil || len(last) != stampSize {
			return "", fmt.Errorf("%q is no place in a list: take the next field of the page before", f.After)
		}
		w.add(stamp+beyond, last)
	}
	return fmt.Sprintf(" ORDER BY %s%s LIMIT %d", stamp, order, f.limit()+1), nil
}

// page cuts a list that was asked for one item more than the limit.
func page[T any](items []T, f Filter, stamp func(T) []byte) Page[T] {
	if n := f.limit(); len(items) > n {
		return Page[T]{Items: items[:n], Next: hex.EncodeToString(stamp(items[n-1]))}
	}
	return Page[T]{Items: items}
}

// noun is how references to one kind of aggregate are looked up: holders
// selects id and whether it is live, by name.
type noun struct{ name, byID, holders string }

// lookup finds all that have this id or name; live is what still is in use.
func (q *query) lookup(n noun, ref string, args ...any) (live, all []uuid.UUID, err error) {
	type holder struct {
		id   uuid.UUID
		live bool
	}
	scan := func(row scanner) (h holder, err error) {
		err = row.Scan(&h.id, &h.live)
		return h, err
	}
	var found []holder
	if id, bad := uuid.Parse(ref); bad == nil {
		found, err = list(q, scan, n.byID, id[:])
	}
	if err == nil && len(found) == 0 && n.holders != "" {
		if len(args) == 0 {
			args = []any{ref}
		}
		found, err = list(q, scan, n.holders, args...)
	}
	for _, h := range found {
		all = append(all, h.id)
		if h.live {
			live = append(live, h.id)
		}
	}
	if err == nil && len(all) == 0 {
		err = &NotFoundError{n.name, ref}
	}
	return live, all, err
}

// one finds the one aggregate that a reference means: by id, or the live one
// with this name, or the only one that ever had it.
func (q *query) one(n noun, ref string, args ...any) (uuid.UUID, error) {
	live, all, err := q.lookup(n, ref, args...)
	if err != nil {
		return uuid.UUID{}, err
	}
	if len(live) > 0 {
		all = live
	}
	if len(all) == 1 {
		return all[0], nil
	}
	c := &ConflictError{Noun: n.name, Name: ref}
	for _, id := range all {
		c.IDs = append(c.IDs, id.String())
	}
	return uuid.UUID{}, c
}

// The times that RFC 3339 can write: years 1 to 9999.
var (
	firstMicros = time.Time{}.UnixMicro()
	lastMicros  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMicro()
)

// at is a stored time. One that no text form has, which only a broken clock
// can have written, becomes the nearest that has one.
func at(micros sql.NullInt64) time.Time {
	if !micros.Valid {
		return time.Time{}
	}
	return time.UnixMicro(min(max(micros.Int64, firstMicros), lastMicros)).UTC()
}

// named is a name, or the id where no name is known here.
func named(name string, id uuid.UUID) string {
	if name == "" && id != uuid.Nil {
		return id.String()
	}
	return name
}

// millisStamp is less than every stamp from that millisecond on.
func millisStamp(t time.Time) []byte {
	var r record
	r.Header.HLC = events.HLC(uint64(max(0, t.UnixMilli())) << 16)
	return r.stamp()[:8]
}
