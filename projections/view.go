package projections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-pam/holdfast/events"
)

// view is one database with all projections in it, and how far each has come.
// Its step is called by one goroutine at a time; everything else by any.
type view struct {
	db       *database
	replaced chan struct{} // closed when another view takes its place

	mu       sync.Mutex // guards the fields of each progress
	progress []*progress

	stopped func(*FailedError) // told of each projection that stops, by whoever steps; nil for nobody
}

// progress is where one projection stands. The checkpoint in the database
// moves in the transaction that moves the state; this is its copy.
type progress struct {
	def        *projection
	handlers   map[string]handler
	at         events.Clock                        // applied, for each log of its kind
	coders     map[events.Origin]events.ClockCoder // of ctl logs, as after the record at `at`
	unknown    uint64                              // records of a type or version that is not known here
	absent     uint64                              // records that it would have used and whose payload is not held
	unreadable uint64                              // records whose payload does not decode
	failed     *FailedError                        // it stopped, alone
}

// FailedError says that a projection stopped at a record that it could not
// apply, or because its logs can't be read on. The other projections go on.
type FailedError struct {
	Projection string
	Origin     events.Origin // of the record; zero when none could be read, and Err then says where
	Position   uint64
	Type       string
	Err        error
}

// unread reports whether the projection stopped for want of records. It goes
// on when they can be read.
func (e *FailedError) unread() bool { return e.Position == 0 }

func (e *FailedError) Error() string {
	if e.unread() {
		return fmt.Sprintf("projection %s stopped: %v; it goes on when the log can be read: see log verify", e.Projection, e.Err)
	}
	return fmt.Sprintf("projection %s stopped at %s position %d (%s): %v; the log is not touched: run projection rebuild, or a holdfast that reads this record",
		e.Projection, e.Origin, e.Position, e.Type, e.Err)
}

func (e *FailedError) Unwrap() error { return e.Err }

// applicationID and layout mark a file as ours, and the form of the two tables
// below. Any other layout is thrown away and built again.
const (
	applicationID = 0x686f6c64
	layout        = 1
)

const layoutSchema = `
CREATE TABLE projection (
	name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, tables TEXT NOT NULL,
	unknown INTEGER NOT NULL DEFAULT 0, absent INTEGER NOT NULL DEFAULT 0, unreadable INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoint (
	projection TEXT, site BLOB, epoch INTEGER, kind TEXT, position INTEGER NOT NULL, clock BLOB NOT NULL,
	PRIMARY KEY (projection, site, epoch, kind)
) STRICT, WITHOUT ROWID;`

// openView opens the database at path and makes the tables of every projection
// that is new or changed. The error is [ErrDamaged] when the file has to be
// thrown away.
func openView(path string, defs []*projection, scratch, unclean bool) (*view, error) {
	db, err := openDatabase(path, scratch)
	if err == nil {
		v := &view{db: db, replaced: make(chan struct{})}
		err = v.prepare(defs, unclean)
		if err == nil {
			return v, nil
		}
		err = errors.Join(err, db.close())
	}
	if isDamage(err) && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil, fmt.Errorf("open projection database %s: %w", path, err)
}

func (v *view) prepare(defs []*projection, unclean bool) error {
	if err := v.checkFile(unclean); err != nil {
		return err
	}
	return v.db.write.transaction(func() error {
		if err := v.dropUnknown(defs); err != nil {
			return err
		}
		for _, def := range defs {
			pr := &progress{def: def, handlers: def.handlers(), coders: map[events.Origin]events.ClockCoder{}}
			v.progress = append(v.progress, pr)
			if err := v.makeTables(def); err != nil {
				return fmt.Errorf("make tables of projection %s: %w", def.name, err)
			}
			if err := v.load(pr); err != nil {
				return fmt.Errorf("load checkpoint of projection %s: %w", def.name, err)
			}
		}
		return nil
	})
}

// checkFile makes the layout in an empty file and checks it in any other; after
// a crash it has SQLite look through the whole file.
func (v *view) checkFile(unclean bool) error {
	w := v.db.write
	var id, version, tables int
	err := w.each(func(scan func(...any) error) error { return scan(&id, &version, &tables) },
		"SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)")
	switch {
	case err != nil:
		return err
	case id == 0 && version == 0 && tables == 0:
		return w.script(fmt.Sprintf("BEGIN IMMEDIATE; PRAGMA application_id = %d; PRAGMA user_version = %d; %s COMMIT", applicationID, layout, layoutSchema))
	case id != applicationID || version != layout:
		return fmt.Errorf("%w: it has application id %d and layout %d, not %d and %d", ErrDamaged, id, version, applicationID, layout)
	case !unclean:
		return nil
	}
	return w.each(func(scan func(...any) error) error {
		var found string
		if err := scan(&found); err != nil {
			return err
		}
		if found != "ok" {
			return fmt.Errorf("%w: %s", ErrDamaged, found)
		}
		return nil
	}, "PRAGMA quick_check(1)")
}

// dropUnknown removes the tables of projections that are no longer defined, or
// that are defined in another way.
func (v *view) dropUnknown(defs []*projection) error {
	keep := map[string]string{}
	for _, def := range defs {
		keep[def.name] = def.fingerprint()
	}
	drop := map[string]string{}
	err := v.db.write.each(func(scan func(...any) error) error {
		var name, fingerprint, tables string
		err := scan(&name, &fingerprint, &tables)
		if keep[name] != fingerprint {
			drop[name] = tables
		}
		return err
	}, "SELECT name, fingerprint, tables FROM projection")
	if err != nil {
		return err
	}
	for name, tables := range drop {
		if err := v.drop(name, strings.Fields(tables)); err != nil {
			return fmt.Errorf("drop projection %s: %w", name, err)
		}
	}
	return nil
}

func (v *view) drop(name string, tables []string) error {
	w := v.db.write
	for _, table := range tables {
		if err := w.script("DROP TABLE IF EXISTS " + table); err != nil {
			return err
		}
	}
	return errors.Join(
		w.exec("DELETE FROM checkpoint WHERE projection = ?", name),
		w.exec("DELETE FROM projection WHERE name = ?", name))
}

var createTable = regexp.MustCompile(`CREATE TABLE (\w+)`)

// tablesOf lists the tables that a schema makes.
func tablesOf(def *projection) []string {
	var names []string
	for _, m := range createTable.FindAllStringSubmatch(def.schema, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

func (v *view) makeTables(def *projection) error {
	w := v.db.write
	exists := false
	err := w.each(func(func(...any) error) error { exists = true; return nil }, "SELECT 1 FROM projection WHERE name = ?", def.name)
	if err != nil || exists {
		return err
	}
	if err := w.script(def.schema); err != nil {
		return err
	}
	return w.exec("INSERT INTO projection (name, fingerprint, tables) VALUES (?, ?, ?)",
		def.name, def.fingerprint(), strings.Join(tablesOf(def), " "))
}

// load reads the checkpoint and the counts of one projection.
func (v *view) load(pr *progress) error {
	err := v.db.write.each(func(scan func(...any) error) error {
		return scan(&pr.unknown, &pr.absent, &pr.unreadable)
	}, "SELECT unknown, absent, unreadable FROM projection WHERE name = ?", pr.def.name)
	if err != nil {
		return err
	}
	return v.db.write.each(func(scan func(...any) error) error {
		var o events.Origin
		var position uint64
		var clock []byte
		if err := scan(&o.Site, &o.Epoch, &o.Kind, &position, &clock); err != nil {
			return err
		}
		var coder events.ClockCoder
		if _, err := coder.Apply(clock); err != nil {
			return fmt.Errorf("%w: checkpoint of %s: %w", ErrDamaged, o, err)
		}
		pr.at = pr.at.With(o, position)
		pr.coders[o] = coder
		return nil
	}, "SELECT site, epoch, kind, position, clock FROM checkpoint WHERE projection = ?", pr.def.name)
}

// within checks that the source holds everything that the view has applied.
func (v *view) within(source Source) error {
	for _, pr := range v.progress {
		if over := distance(source.Held(pr.def.reads), pr.at); over > 0 {
			return fmt.Errorf("%w: projection %s is %d records ahead of the logs: they are another copy than it was built from", ErrDamaged, pr.def.name, over)
		}
	}
	return nil
}

// Bounds of one batch.
const (
	batchRecords = 1000
	batchBytes   = 8 << 20
)

// step applies one batch of a kind of log to every projection that runs, with
// again also to those that stopped because their records could not be read. It
// reports how many records it read and whether there may be more. A group whose
// records can't be read stops before the first such one; the error is that of
// ctx or of the database.
func (v *view) step(ctx context.Context, source Source, kind events.Kind, again bool) (read int, more bool, err error) {
	for _, group := range v.groups(kind, again) {
		batch, full, unread := collect(ctx, source, kind, group[0])
		if err := ctx.Err(); err != nil {
			return read, false, err
		}
		if len(batch.records) > 0 {
			if err := v.apply(group, batch); err != nil {
				return read, false, fmt.Errorf("apply events to %s: %w", v.db.path, err)
			}
		}
		v.served(group, unread)
		read, more = read+len(batch.records), more || full
	}
	return read, more, nil
}

// groups are the running projections of a kind by their checkpoint: those that
// stand at one place share the reading. One that starts anew is a group of its
// own until it has caught up, and holds nobody up. With again, those that
// stopped for want of records are among them.
func (v *view) groups(kind events.Kind, again bool) [][]*progress {
	v.mu.Lock()
	defer v.mu.Unlock()
	byPlace := map[string][]*progress{}
	for _, pr := range v.progress {
		if pr.def.reads == kind && (pr.failed == nil || again && pr.failed.unread()) {
			place := pr.at.String()
			byPlace[place] = append(byPlace[place], pr)
		}
	}
	var groups [][]*progress
	for _, place := range slices.Sorted(maps.Keys(byPlace)) {
		groups = append(groups, byPlace[place])
	}
	return groups
}

// served notes whether a group could be given its records.
func (v *view) served(group []*progress, unread error) {
	var news []*FailedError
	v.mu.Lock()
	for _, pr := range group {
		switch {
		case pr.failed != nil && !pr.failed.unread():
		case unread == nil:
			pr.failed = nil
		case pr.failed == nil:
			pr.failed = &FailedError{Projection: pr.def.name, Err: unread}
			news = append(news, pr.failed)
		}
	}
	v.mu.Unlock()
	v.tell(news)
}

// tell tells of projections that stopped just now.
func (v *view) tell(news []*FailedError) {
	for _, e := range news {
		if v.stopped != nil {
			v.stopped(e)
		}
	}
}

// waiting reports whether a projection of a kind stopped for want of records.
func (v *view) waiting(kind events.Kind) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.progress, func(pr *progress) bool {
		return pr.def.reads == kind && pr.failed != nil && pr.failed.unread()
	})
}

// batch is what one transaction applies, and where it leads to.
type batch struct {
	records []record
	at      events.Clock
	coders  map[events.Origin]events.ClockCoder
}

// collect reads the next batch after a projection's checkpoint. With an error
// it gives the records before what could not be read.
func collect(ctx context.Context, source Source, kind events.Kind, from *progress) (b batch, full bool, err error) {
	b = batch{at: from.at, coders: maps.Clone(from.coders)}
	size := 0
	for raw, err := range source.Records(ctx, kind, from.at) {
		if err != nil {
			return b, false, err
		}
		r, err := b.decode(raw, kind)
		if err != nil {
			return b, false, err
		}
		if kind == events.Ctl {
			r.masked = source.Masked(&r.Header, r.clock)
		}
		b.records = append(b.records, r)
		size += len(raw.Raw.Header) + len(raw.Raw.Payload)
		if len(b.records) == batchRecords || size >= batchBytes {
			return b, true, nil
		}
	}
	return b, false, nil
}

func (b *batch) decode(raw events.Record, kind events.Kind) (record, error) {
	r := record{Record: raw}
	h := &r.Header
	o := h.Origin()
	if want := b.at.At(o) + 1; o.Kind != kind || h.Position != want {
		return r, fmt.Errorf("project %s: the source gave position %d where %d of a %s log follows", o, h.Position, want, kind)
	}
	coder := b.coders[o]
	if kind == events.Ctl {
		clock, err := coder.Apply(h.Clock)
		if err != nil {
			return r, fmt.Errorf("project %s position %d: %w", o, h.Position, err)
		}
		r.clock = clock
		r.event, r.missing = r.Event()
	}
	b.at, b.coders[o] = b.at.With(o, h.Position), coder
	return r, nil
}

// apply moves the projections of a group by a batch, in one transaction. A
// projection that fails keeps the state and the checkpoint that it had.
func (v *view) apply(group []*progress, b batch) error {
	w := v.db.write
	moved := make([]progress, len(group))
	err := w.transaction(func() error {
		for i, pr := range group {
			moved[i] = *pr
			moved[i].failed = nil
			err := w.attempt(func() error { return moved[i].advance(w, b) })
			if err != nil && (isStorage(err) || !errors.As(err, &moved[i].failed)) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var news []*FailedError
	v.mu.Lock()
	for i, pr := range group {
		if moved[i].failed != nil {
			pr.failed = moved[i].failed
			news = append(news, pr.failed)
			continue
		}
		*pr = moved[i]
	}
	v.mu.Unlock()
	v.tell(news)
	return nil
}

// advance applies a batch to one projection and writes its checkpoint.
func (pr *progress) advance(w *writer, b batch) error {
	for i := range b.records {
		r := &b.records[i]
		if err := pr.applyOne(w, r); err != nil {
			return &FailedError{pr.def.name, r.Header.Origin(), r.Header.Position, r.Header.Type, err}
		}
	}
	for _, e := range b.at.Entries() {
		if e.Position == pr.at.At(e.Origin) {
			continue
		}
		coder := b.coders[e.Origin]
		err := w.exec(`INSERT INTO checkpoint (projection, site, epoch, kind, position, clock) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (projection, site, epoch, kind) DO UPDATE SET position = excluded.position, clock = excluded.clock`,
			pr.def.name, e.Origin.Site.UUID[:], e.Origin.Epoch, string(e.Origin.Kind), count(e.Position), append([]byte{}, coder.Snapshot()...))
		if err != nil {
			return fmt.Errorf("%w: write checkpoint: %w", errStorage, err)
		}
	}
	pr.at, pr.coders = b.at, b.coders
	return w.exec("UPDATE projection SET unknown = ?, absent = ?, unreadable = ? WHERE name = ?",
		count(pr.unknown), count(pr.absent), count(pr.unreadable), pr.def.name)
}

func (pr *progress) applyOne(w *writer, r *record) error {
	h, handled := pr.handlers[r.Header.Type]
	suffices := handled && h.headerSuffices
	switch {
	case r.missing == nil:
	case errors.Is(r.missing, events.ErrUnknownType):
		pr.unknown++
		handled = false
	case errors.Is(r.missing, events.ErrPayloadAbsent):
		if handled || pr.def.every != nil {
			pr.absent++
		}
		handled = suffices
	default:
		if handled || pr.def.every != nil {
			pr.unreadable++
		}
		handled = suffices
	}
	if pr.def.every != nil {
		if err := pr.def.every(w, r); err != nil {
			return err
		}
	}
	if !handled || r.masked != "" {
		return nil
	}
	return h.apply(w, r)
}

// reached reports whether every running projection has applied a position.
func (v *view) reached(o events.Origin, position uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, pr := range v.progress {
		if pr.def.reads == o.Kind && pr.failed == nil && pr.at.At(o) < position {
			return false
		}
	}
	return true
}

// failures are the errors of the projections that stopped.
func (v *view) failures() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, pr := range v.progress {
		if pr.failed != nil {
			errs = append(errs, pr.failed)
		}
	}
	return errors.Join(errs...)
}
