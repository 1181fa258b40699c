package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// projection defines one view: its tables and what each event does to them.
type projection struct {
	name    string      // literal; its tables and indexes are named after it: "users", "users_keys"
	version int         // bumped when a handler changes what it makes of an event
	reads   events.Kind // the logs that it is built from; of rec logs the headers
	schema  string      // STRICT tables with a primary key, and their indexes
	on      []handler
	every   func(*writer, *record) error // called for every record, of whatever type; may be nil
}

// handler applies the events of one type. It must commute with itself and the
// other handlers under causal delivery, and may touch only its projection's
// own tables, since each projection has its own checkpoint.
type handler struct {
	typ            events.Type
	apply          func(*writer, *record) error
	headerSuffices bool
}

// on makes the handler of an event type.
func on[E any](f func(*writer, *record, E) error) handler {
	var zero E
	typ, err := events.TypeOf(zero)
	if err != nil {
		panic("projections: " + err.Error())
	}
	return handler{typ: typ, apply: func(w *writer, r *record) error {
		e, ok := r.event.(E)
		if !ok && r.event != nil {
			return fmt.Errorf("%s version %d decodes to %T, the handler takes %T", r.Header.Type, r.Header.TypeVersion, r.event, zero)
		}
		return f(w, r, e)
	}}
}

// onHeader is on for events that mean something even when their payload is
// absent: the handler then gets the zero value.
func onHeader[E any](f func(*writer, *record, E) error) handler {
	h := on(f)
	h.headerSuffices = true
	return h
}

// record is a record as handlers see it.
type record struct {
	events.Record
	event   events.Event // nil where missing says why, and for rec records
	missing error        // events.ErrPayloadAbsent, events.ErrUnknownType, or why the payload does not decode
	clock   events.Clock // what its site had applied when it was written; ctl only
	masked  string       // why it is kept without effect: then only the timeline shows it
}

// covers reports whether the record's site had applied that position of that
// log when it wrote the record.
func (r *record) covers(o events.Origin, position uint64) bool {
	if o == r.Header.Origin() {
		return position < r.Header.Position
	}
	return r.clock.At(o) >= position
}

// stream is the aggregate's id as stored.
func (r *record) stream() []byte { return r.Header.Stream[:] }

// site is the id of who wrote the record, as stored.
func (r *record) site() []byte { return r.Header.Site.UUID[:] }

// stampSize is the length of a stamp.
const stampSize = 8 + 16 + 4 + 8

// stamp is the record's place in the one order that all sites agree on and
// that never contradicts causality: HLC, origin, position, big-endian, so that
// SQLite's comparison of blobs is the order.
func (r *record) stamp() []byte {
	b := make([]byte, 0, stampSize)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Header.HLC))
	b = append(b, r.Header.Site.UUID[:]...)
	b = binary.BigEndian.AppendUint32(b, r.Header.Epoch)
	return binary.BigEndian.AppendUint64(b, r.Header.Position)
}

// placeOf gives the place in a ctl log of what has a stamp.
func placeOf(stamp []byte) (o events.Origin, position uint64, ok bool) {
	if len(stamp) != stampSize {
		return o, 0, false
	}
	o = events.Origin{Site: events.SiteID{UUID: uuid.UUID(stamp[8:24])}, Epoch: binary.BigEndian.Uint32(stamp[24:28]), Kind: events.Ctl}
	return o, binary.BigEndian.Uint64(stamp[28:]), true
}

// blob is an id as stored; a zero id is NULL.
func blob(id uuid.UUID) any {
	if id == uuid.Nil {
		return nil
	}
	return id[:]
}

// count bounds a number from an event to what an SQLite integer holds.
func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// keepLast is the statement that sets columns of one row, unless the row was
// set by an event with a greater stamp. Its arguments are key, stamp, columns.
func keepLast(table, key, stamp string, columns ...string) string {
	return keep(table, key, stamp, ">", columns)
}

// keepFirst is keepLast for what happens once: the smallest stamp stays.
func keepFirst(table, key, stamp string, columns ...string) string {
	return keep(table, key, stamp, "<", columns)
}

func keep(table, key, stamp, better string, columns []string) string {
	set := append([]string{stamp}, columns...)
	all := append(strings.Split(key, ", "), set...)
	for i, c := range set {
		set[i] = c + " = excluded." + c
	}
	return fmt.Sprintf("INSERT INTO %[1]s (%[2]s) VALUES (?%[3]s) ON CONFLICT (%[4]s) DO UPDATE SET %[5]s WHERE %[1]s.%[6]s IS NULL OR excluded.%[6]s %[7]s %[1]s.%[6]s",
		table, strings.Join(all, ", "), strings.Repeat(", ?", len(all)-1), key, strings.Join(set, ", "), stamp, better)
}

// registry is filled by package-level register calls and read-only afterwards.
var registry = map[string]*projection{}

var validName = regexp.MustCompile(`^[a-z]+$`)

// register declares a projection. It is called from package-level variables
// only and panics on a mistake in the source.
func register(p projection) struct{} {
	switch {
	case !validName.MatchString(p.name) || registry[p.name] != nil:
		panic(fmt.Sprintf("projections: the name %q is taken or not of letters only", p.name))
	case p.version < 1 || !p.reads.Valid() || p.schema == "" || len(p.on) == 0 && p.every == nil:
		panic(fmt.Sprintf("projections: %s lacks a version, a kind of log, a schema or a handler", p.name))
	}
	registry[p.name] = &p
	return struct{}{}
}

// registered lists the projections by name.
func registered() []*projection {
	var all []*projection
	for _, p := range registry {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *projection) int { return strings.Compare(a.name, b.name) })
	return all
}

// handlers are p's handlers by stored type name.
func (p *projection) handlers() map[string]handler {
	all := map[string]handler{}
	for _, h := range p.on {
		all[h.typ.Name] = h
	}
	return all
}

// fingerprint changes when the tables of p have to be built again: with its
// version, its schema, and the event types that it understands, so that events
// of a type that was not known before are not missed.
func (p *projection) fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n%s\n%s\n", p.name, p.version, p.reads, p.schema)
	types := events.Catalogue()
	if p.every == nil {
		types = nil
		for _, c := range p.on {
			types = append(types, c.typ)
		}
	}
	for _, t := range types {
		fmt.Fprintf(h, "%s %d\n", t.Name, t.Version)
	}
	return hex.EncodeToString(h.Sum(nil))
}
