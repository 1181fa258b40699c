package projections

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// database is one SQLite file: one connection that writes, and some apart from
// it that only read. WAL keeps readers and the writer out of each other's way.
// synchronous=NORMAL may lose the last transactions with the power, never a
// part of one; the logs hold what was lost, and the checkpoint goes back with
// the state.
type database struct {
	path  string
	pool  *sql.DB
	write *writer // used by whoever holds Projections.applying
	reads *sql.DB
}

// openDatabase opens the file at path and makes it where there is none,
// readable by its owner only. With scratch nothing is synced: for a file that is
// synced as a whole when it is complete.
func openDatabase(path string, scratch bool) (*database, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open projection database: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, fmt.Errorf("open projection database: %w", err)
	}
	synchronous := "NORMAL"
	if scratch {
		synchronous = "OFF"
	}
	d := &database{path: path}
	d.pool, err = sql.Open("sqlite", dsn(path, "journal_mode(WAL)", "synchronous("+synchronous+")", "temp_store(MEMORY)", "journal_size_limit(67108864)"))
	if err != nil {
		return nil, fmt.Errorf("open projection database %s: %w", path, err)
	}
	conn, err := d.pool.Conn(context.Background())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open projection database %s: %w", path, err), d.pool.Close())
	}
	d.write = &writer{conn: conn, prepared: map[string]*sql.Stmt{}}
	d.reads, err = sql.Open("sqlite", dsn(path, "query_only(1)", "temp_store(MEMORY)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open projection database %s: %w", path, err), d.close())
	}
	d.reads.SetMaxOpenConns(max(4, runtime.NumCPU()))
	return d, nil
}

func dsn(path string, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{"busy_timeout(5000)"}, pragmas...)}
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()} // a relative path must not become a host
	return u.String()
}

// close closes all connections. The last one to close empties and removes the
// WAL file, so a WAL file that is found later tells of a crash.
func (d *database) close() error {
	var err error
	if d.reads != nil {
		err = d.reads.Close()
	}
	return errors.Join(err, d.write.close(), d.pool.Close())
}

// function lets SQL call a function of a text and a blob, by its name.
func function(name string, f func(text string, blob []byte) (bool, error)) struct{} {
	sqlite.MustRegisterDeterministicScalarFunction(name, 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		text, okText := args[0].(string)
		blob, okBlob := args[1].([]byte)
		if !okText || !okBlob {
			return nil, fmt.Errorf("%s takes a text and a blob, not %T and %T", name, args[0], args[1])
		}
		return f(text, blob)
	})
	return struct{}{}
}

// writer is the connection that writes. Its statements run to their end: a
// batch is short and is either kept or rolled back as a whole.
type writer struct {
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
}

func (w *writer) close() error {
	var errs []error
	for _, s := range w.prepared {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

func (w *writer) statement(query string) (*sql.Stmt, error) {
	if s := w.prepared[query]; s != nil {
		return s, nil
	}
	s, err := w.conn.PrepareContext(context.Background(), query)
	if err == nil {
		w.prepared[query] = s
	}
	return s, err
}

// exec runs one statement, whose text must be one of a fixed set.
func (w *writer) exec(query string, args ...any) error {
	s, err := w.statement(query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.Background(), args...)
	return err
}

// each calls f for each row of a query, whose text must be one of a fixed set.
func (w *writer) each(f func(scan func(...any) error) error, query string, args ...any) error {
	s, err := w.statement(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// script runs statements whose text is not kept.
func (w *writer) script(text string) error {
	_, err := w.conn.ExecContext(context.Background(), text)
	return err
}

// transaction runs f in one transaction, kept only when f returns nil.
func (w *writer) transaction(f func() error) error {
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = w.exec("COMMIT")
	}
	if err != nil {
		// A failed COMMIT may have rolled back by itself: the second error says nothing new.
		_ = w.exec("ROLLBACK")
	}
	return err
}

// attempt runs f inside a transaction; when it fails, only what f did is undone.
func (w *writer) attempt(f func() error) error {
	if err := w.exec("SAVEPOINT attempt"); err != nil {
		return err
	}
	err := f()
	if err != nil {
		if undo := w.exec("ROLLBACK TO attempt"); undo != nil {
			return errors.Join(errStorage, err, undo)
		}
	}
	if release := w.exec("RELEASE attempt"); release != nil {
		return errors.Join(errStorage, err, release)
	}
	return err
}

// errStorage marks an error of the database as such, as opposed to one of a
// single record.
var errStorage = errors.New("projection database failed")

// ErrDamaged says that the projection database is not what was written. It is
// disposable: the next start or a rebuild makes it again from the logs.
var ErrDamaged = errors.New("projection database is damaged")

// resultCode is SQLite's primary result code in err, 0 if there is none.
func resultCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isDamage(err error) bool {
	code := resultCode(err)
	return errors.Is(err, ErrDamaged) || code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// isStorage reports whether err is about the database as a whole and would
// meet any record.
func isStorage(err error) bool {
	if errors.Is(err, errStorage) || isDamage(err) {
		return true
	}
	switch resultCode(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT:
		return true
	}
	return false
}
