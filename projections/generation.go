package projections

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A database file is named after its generation, and a rebuild makes the next
// one: under a name that does not count until it is complete, then synced and
// renamed. SQLite keeps a WAL beside a file by the file's name, so a new file
// must never take the name of an old one. The highest generation is the one
// that counts; whatever else lies there is left over and removed at open.
type generations struct{ dir string }

const unfinished = "unfinished.db"

func (g generations) path(n uint64) string {
	return filepath.Join(g.dir, fmt.Sprintf("views-%08d.db", n))
}

func (g generations) unfinished() string { return filepath.Join(g.dir, unfinished) }

// newest is the highest generation there, 0 if there is none.
func (g generations) newest() (uint64, error) {
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return 0, fmt.Errorf("look for projection databases: %w", err)
	}
	var newest uint64
	for _, e := range entries {
		var n uint64
		if _, err := fmt.Sscanf(e.Name(), "views-%d.db", &n); err == nil && g.path(n) == filepath.Join(g.dir, e.Name()) {
			newest = max(newest, n)
		}
	}
	return newest, nil
}

// crashed reports whether the file at path was not closed in order.
func crashed(path string) bool {
	_, err := os.Stat(path + "-wal")
	return err == nil
}

// keepOnly removes every database but generation n.
func (g generations) keepOnly(n uint64) error {
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return fmt.Errorf("look for projection databases: %w", err)
	}
	kept := filepath.Base(g.path(n))
	var errs []error
	for _, e := range entries {
		name := e.Name()
		ours := strings.HasPrefix(name, "views-") || strings.HasPrefix(name, unfinished)
		if ours && !slices.Contains([]string{kept, kept + "-wal", kept + "-shm"}, name) {
			errs = append(errs, remove(filepath.Join(g.dir, name)))
		}
	}
	return errors.Join(errs...)
}

// removeDatabase removes a database file and what SQLite keeps beside it.
func removeDatabase(path string) error {
	return errors.Join(remove(path), remove(path+"-wal"), remove(path+"-shm"))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old projection database: %w", err)
	}
	return nil
}

// publish makes the finished file generation n: durable before it gets the
// name, and the name durable before it returns.
func (g generations) publish(n uint64) error {
	if err := syncFile(g.unfinished()); err != nil {
		return err
	}
	if err := os.Rename(g.unfinished(), g.path(n)); err != nil {
		return fmt.Errorf("publish projection database: %w", err)
	}
	return syncFile(g.dir)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync projection database: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync projection database %s: %w", path, err)
	}
	return nil
}
