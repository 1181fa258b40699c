package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// A log of this site that is damaged somewhere in the middle is set aside as far as
// it can be read; what follows comes back from peers. The damaged files are kept, in
// log/damaged, and looked at by nobody.

func (d data) damaged() string  { return filepath.Join(d.dir, "log", "damaged") }
func (d data) salvaged() string { return filepath.Join(d.dir, "log", "salvaged") }

// salvageLogs puts what can be read of this site's damaged logs in their place. Cut
// short at any step, it goes on at the next start.
func (s *Site) salvageLogs(ctx context.Context) error {
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		dir := s.data.log(kind)
		epochs, err := store.Epochs(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		moved, err := filepath.Glob(filepath.Join(s.data.salvaged(), string(kind)+"-*"))
		if err != nil {
			return err
		}
		for _, whole := range moved { // an earlier start got that far
			if err := s.putBack(kind, whole, dir); err != nil {
				return err
			}
		}
		for _, n := range epochs {
			path := filepath.Join(dir, strconv.FormatUint(uint64(n), 10))
			o := events.Origin{Site: s.who.ID, Epoch: n, Kind: kind}
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
	}
	return nil
}

// salvage copies what can be read of a log, and puts that in its place.
func (s *Site) salvage(ctx context.Context, path string, o events.Origin, why error) error {
	name := fmt.Sprintf("%s-%d", o.Kind, o.Epoch)
	unfinished := filepath.Join(s.data.salvaged(), "unfinished-"+name)
	if err := errors.Join(os.RemoveAll(unfinished), os.MkdirAll(unfinished, 0o700)); err != nil {
		return err
	}
	opened, err := otherEngine.Open(unfinished, o, 0)
	if err != nil {
		return err
	}
	for f, err := range otherEngine.Frames(ctx, path, o) {
		if err != nil || f.End != nil {
			break // the damage, or the payload of a record before it
		}
		size, _ := opened.Log.Size()
		if err := opened.Log.Append(ctx, size, f.Entries); err != nil {
			return errors.Join(err, opened.Log.Close())
		}
	}
	size, _ := opened.Log.Size()
	if err := errors.Join(ctx.Err(), opened.Log.Close()); err != nil {
		return err
	}
	if size == 0 {
		return why // not even who wrote it
	}
	key, err := os.ReadFile(filepath.Join(path, "key"))
	if err == nil {
		err = writeDurable(filepath.Join(unfinished, "key"), key, 0o600)
	}
	if err == nil {
		err = syncDir(unfinished)
	}
	whole := filepath.Join(s.data.salvaged(), name)
	if err == nil {
		err = os.Rename(unfinished, whole)
	}
	if err == nil {
		err = syncDir(s.data.salvaged())
	}
	if err != nil {
		return err
	}
	s.log.Warn("a damaged log is kept as far as it can be read; its files are in "+s.data.damaged(), "log", o.String(), "records", size, "error", why)
	return s.putBack(o.Kind, whole, filepath.Dir(path))
}

// putBack moves a damaged log away, and what could be read of it into its place.
func (s *Site) putBack(kind events.Kind, whole, dir string) error {
	name := filepath.Base(whole)
	path := filepath.Join(dir, name[len(kind)+1:])
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
	if err := os.Rename(whole, path); err != nil {
		return err
	}
	return errors.Join(syncDir(s.data.damaged()), syncDir(dir), syncDir(s.data.salvaged()))
}
