package site

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// A log that is damaged somewhere in the middle, one of this site's own or a copy of
// another one's, is kept as far as it can be read; what follows comes back from
// peers. The damaged files stay in log/damaged, and nobody looks at them.

func (d data) logs() string     { return filepath.Join(d.dir, "log") }
func (d data) damaged() string  { return filepath.Join(d.logs(), "damaged") }
func (d data) salvaged() string { return filepath.Join(d.logs(), "salvaged") }

// unfinished is how what is being salvaged is named.
const unfinished = "unfinished+"

// besideRecords are the files that a log's records are nothing without: of an own log
// its key, of a copy what proves it.
var besideRecords = []string{"key", "voucher", "heads"}

// salvageLogs puts what can be read of damaged logs in their place. Cut short at any
// step, it goes on at the next start.
func (s *Site) salvageLogs(ctx context.Context) error {
	entries, err := os.ReadDir(s.data.salvaged())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries { // an earlier start got that far
		if !strings.HasPrefix(e.Name(), unfinished) {
			if err := s.putBack(e.Name()); err != nil {
				return err
			}
		}
	}
	dirs, err := s.logDirs()
	if err != nil {
		return err
	}
	for path, o := range dirs {
		opened, err := otherEngine.Open(path, o, 0)
		if err == nil {
			err = opened.Log.Close()
		}
		if errors.Is(err, store.ErrDamaged) {
			err = s.salvage(ctx, path, o, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// logDirs are the directories of all logs that are here, with whose they are.
func (s *Site) logDirs() (map[string]events.Origin, error) {
	dirs := map[string]events.Origin{}
	add := func(dir string, site events.SiteID, kind events.Kind) error {
		epochs, err := store.Epochs(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, n := range epochs {
			dirs[filepath.Join(dir, strconv.FormatUint(uint64(n), 10))] = events.Origin{Site: site, Epoch: n, Kind: kind}
		}
		return nil
	}
	others, err := os.ReadDir(s.data.others())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		if err := add(s.data.log(kind), s.who.ID, kind); err != nil {
			return nil, err
		}
		for _, other := range others {
			id, err := uuid.Parse(other.Name())
			if err == nil {
				err = add(filepath.Join(s.data.others(), other.Name(), string(kind)), events.SiteID{UUID: id}, kind)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return dirs, nil
}

// salvage copies what can be read of a log, and puts that in its place.
func (s *Site) salvage(ctx context.Context, path string, o events.Origin, why error) error {
	rel, err := filepath.Rel(s.data.logs(), path)
	if err != nil {
		return err
	}
	name := strings.ReplaceAll(rel, "/", "+")
	dir := filepath.Join(s.data.salvaged(), unfinished+name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	size, err := copyReadable(ctx, path, dir, o)
	if err != nil {
		return err
	}
	if size == 0 && filepath.Dir(path) == s.data.log(o.Kind) {
		return why // not even who wrote it: the keys that are here are held against what it published
	}
	for _, file := range besideRecords {
		b, err := os.ReadFile(filepath.Join(path, file))
		if err == nil {
			err = writeDurable(filepath.Join(dir, file), b, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err = syncDir(dir)
	if err == nil {
		err = os.Rename(dir, filepath.Join(s.data.salvaged(), name))
	}
	if err == nil {
		err = syncDir(s.data.salvaged())
	}
	if err != nil {
		return err
	}
	s.log.Warn("a damaged log is kept as far as it can be read; its files are in "+s.data.damaged(), "log", o.String(), "records", size, "error", why)
	return s.putBack(name)
}

// copyReadable copies the records of a log up to the first one that is damaged.
func copyReadable(ctx context.Context, from, to string, o events.Origin) (size uint64, err error) {
	opened, err := otherEngine.Open(to, o, 0)
	if err != nil {
		return 0, err
	}
	for f, err := range otherEngine.Frames(ctx, from, o) {
		if err != nil || f.End != nil {
			break // the damage, or the payload of a record before it
		}
		at, _ := opened.Log.Size()
		if err := opened.Log.Append(ctx, at, f.Entries); err != nil {
			return 0, errors.Join(err, opened.Log.Close())
		}
	}
	size, _ = opened.Log.Size()
	return size, errors.Join(ctx.Err(), opened.Log.Close())
}

// putBack moves a damaged log away, and what could be read of it into its place.
func (s *Site) putBack(name string) error {
	path := filepath.Join(s.data.logs(), strings.ReplaceAll(name, "+", "/"))
	if err := os.MkdirAll(s.data.damaged(), 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		away, err := os.MkdirTemp(s.data.damaged(), name+"-")
		if err == nil {
			err = os.Rename(path, filepath.Join(away, "files"))
		}
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(filepath.Join(s.data.salvaged(), name), path); err != nil {
		return err
	}
	return errors.Join(syncDir(s.data.damaged()), syncDir(filepath.Dir(path)), syncDir(s.data.salvaged()))
}

// notHeld are the logs of which the order of application says more than is here:
// those of which nothing is here, and of the others how much is.
func (s *Site) notHeld(order events.Clock) (none []events.Origin, held events.Clock, err error) {
	dirs, err := s.logDirs()
	if err != nil {
		return nil, held, err
	}
	for path, o := range dirs {
		opened, err := otherEngine.Open(path, o, 0)
		if err != nil {
			return nil, held, err
		}
		size, _ := opened.Log.Size()
		if held = held.With(o, size); size == 0 {
			none = append(none, o)
		}
		if err := opened.Log.Close(); err != nil {
			return nil, held, err
		}
	}
	for _, e := range order.Entries() {
		if held.At(e.Origin) == 0 && !slices.Contains(none, e.Origin) {
			none = append(none, e.Origin)
		}
	}
	return none, held, nil
}
