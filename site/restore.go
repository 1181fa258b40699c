package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
	"github.com/holdfast-pam/holdfast/site/backup"
)

// Restored is what a backup was found to hold.
type Restored struct {
	About backup.About
	Logs  []backup.LogSize
}

// CheckBackup reads a whole backup and checks it: every byte, the root hash of
// each log, and the signed heads. It writes nothing.
func CheckBackup(ctx context.Context, r io.Reader, identities ...age.Identity) (Restored, error) {
	c := check{trees: map[events.Origin]*evidence.Tree{}, keys: map[events.Origin]string{}, files: map[string][]byte{}}
	return readBackup(ctx, r, identities, receiver{
		about: func(a *backup.About) error { c.site = a.Site; return nil },
		chunk: c.chunk,
		file:  func(f *backup.File) error { c.files[f.Path] = f.Content; return nil },
		end:   c.end,
	})
}

// check is what was read of a backup so far.
type check struct {
	site  events.SiteID
	trees map[events.Origin]*evidence.Tree
	keys  map[events.Origin]string // that logs name for their heads
	files map[string][]byte
}

// chunk takes records in order into their log's tree, each as it should be.
func (k *check) chunk(c *backup.Chunk) error {
	t := k.trees[c.Origin]
	if t == nil {
		t = &evidence.Tree{}
		k.trees[c.Origin] = t
	}
	if c.First != t.Size()+1 {
		return fmt.Errorf("%w: log %s goes on at %d after %d records", backup.ErrBad, c.Origin, c.First, t.Size())
	}
	for _, e := range c.Entries {
		r, err := events.DecodeEntry(e)
		if err == nil && (r.Header.Origin() != c.Origin || r.Header.Position != t.Size()+1) {
			err = fmt.Errorf("it says that it is position %d of log %s", r.Header.Position, r.Header.Origin())
		}
		if err != nil {
			return fmt.Errorf("%w: position %d of log %s: %w", backup.ErrBad, t.Size()+1, c.Origin, err)
		}
		if r.Header.Position == 1 {
			if opened, err := r.Event(); err == nil {
				if opened, ok := opened.(events.LogOpened); ok {
					k.keys[c.Origin] = opened.Key
				}
			}
		}
		t.Append(evidence.LeafHash(e.Header))
	}
	return nil
}

// end holds what the end says against what was read, and the signed heads of
// the site's own logs against both.
func (k *check) end(e *backup.End) error {
	for _, l := range e.Logs {
		t := k.trees[l.Origin]
		if t == nil {
			t = &evidence.Tree{}
		}
		if t.Size() != l.Records || t.Root() != l.Root {
			return fmt.Errorf("%w: log %s is not what it says at its end", backup.ErrBad, l.Origin)
		}
		note := k.files[fmt.Sprintf("log/%s/%d/head", l.Origin.Kind, l.Origin.Epoch)]
		if l.Origin.Site != k.site || note == nil {
			continue
		}
		head, err := evidence.OpenHead(note, k.keys[l.Origin])
		if err == nil && (head.Origin != l.Origin || head.Size == l.Records && head.Root != l.Root) {
			err = evidence.ErrInconsistent
		}
		if err != nil {
			return fmt.Errorf("%w: head of log %s: %w", backup.ErrBad, l.Origin, err)
		}
	}
	return nil
}

// Restore makes a data directory out of a backup. dir must not exist, or be
// empty; it appears whole or not at all. The site's private key is not in a
// backup. The site that is started there sets the logs of the backup aside and goes
// on in new ones, since the one before may have written more than the backup
// holds; what peers hold of that comes back from them.
func Restore(ctx context.Context, r io.Reader, dir string, identities ...age.Identity) (Restored, error) {
	if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
		return Restored{}, fmt.Errorf("restore to %s: it is not empty; name another directory", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	making := filepath.Clean(dir) + ".restoring"
	if err := os.RemoveAll(making); err != nil {
		return Restored{}, fmt.Errorf("restore: remove what an earlier try left: %w", err)
	}
	got, err := restoreInto(ctx, r, data{making}, identities)
	if err != nil {
		return got, errors.Join(err, os.RemoveAll(making))
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return got, fmt.Errorf("restore: %w", err)
	}
	if err := os.Rename(making, dir); err != nil {
		return got, fmt.Errorf("restore: %w", err)
	}
	return got, syncDir(filepath.Dir(filepath.Clean(dir)))
}

func restoreInto(ctx context.Context, r io.Reader, d data, identities []age.Identity) (got Restored, err error) {
	var about backup.About
	logs := map[events.Origin]store.Log{}
	defer func() {
		for _, log := range logs {
			err = errors.Join(err, log.Close())
		}
	}()
	return readBackup(ctx, r, identities, receiver{
		about: func(a *backup.About) error { about = *a; return os.MkdirAll(d.dir, 0o700) },
		chunk: func(c *backup.Chunk) error {
			log := logs[c.Origin]
			if log == nil {
				var err error
				if log, err = restoreLog(d, about.Site, c.Origin); err != nil {
					return err
				}
				logs[c.Origin] = log
			}
			return log.Append(ctx, c.First-1, c.Entries)
		},
		file: func(f *backup.File) error {
			path := filepath.Join(d.dir, filepath.FromSlash(f.Path))
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			return writeDurable(path, f.Content, 0o600)
		},
		end: func(e *backup.End) error {
			for _, l := range e.Logs {
				if err := finishLog(logs[l.Origin], l); err != nil {
					return err
				}
			}
			mark, err := json.Marshal(restoredMark{Backup: about.ID, Made: about.Made})
			if err != nil {
				return err
			}
			if err := writeDurable(d.restored(), append(mark, '\n'), 0o600); err != nil {
				return err
			}
			return d.writeDoubt(doubt{Why: "it was restored from a backup"})
		},
	})
}

// restoreLog makes the log of an origin where a site of that id keeps it.
func restoreLog(d data, site events.SiteID, o events.Origin) (store.Log, error) {
	dir, engine := filepath.Join(d.log(o.Kind), strconv.FormatUint(uint64(o.Epoch), 10)), segment.Engine{}
	if o.Site != site {
		dir, engine = d.other(o), otherEngine
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	opened, err := engine.Open(dir, o, 0)
	if err != nil {
		return nil, err
	}
	return opened.Log, nil
}

// finishLog checks a log.
func finishLog(log store.Log, want backup.LogSize) error {
	if log == nil {
		if want.Records == 0 {
			return nil
		}
		return fmt.Errorf("%w: log %s is missing", backup.ErrBad, want.Origin)
	}
	if size, root := log.Size(); size != want.Records || root != want.Root {
		return fmt.Errorf("%w: log %s is not what it says at its end", backup.ErrBad, want.Origin)
	}
	return nil
}

// receiver is told the parts of a backup; functions may be nil.
type receiver struct {
	about func(*backup.About) error
	chunk func(*backup.Chunk) error
	file  func(*backup.File) error
	end   func(*backup.End) error
}

func readBackup(ctx context.Context, r io.Reader, identities []age.Identity, to receiver) (Restored, error) {
	var got Restored
	for item, err := range backup.Read(r, identities...) {
		if err == nil {
			err = ctx.Err()
		}
		switch {
		case err != nil:
		case item.About != nil:
			if got.About = *item.About; to.about != nil {
				err = to.about(item.About)
			}
		case item.Chunk != nil:
			err = to.chunk(item.Chunk)
		case item.File != nil:
			err = to.file(item.File)
		case item.End != nil:
			got.Logs = slices.Clone(item.End.Logs)
			err = to.end(item.End)
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// restoredMark is left in a data directory that was made out of a backup until
// the site has recorded it.
type restoredMark struct {
	Backup uuid.UUID `json:"backup"`
	Made   time.Time `json:"made"`
}

// recordRestore records that the site goes on from a backup, if it does.
func (s *Site) recordRestore(ctx context.Context) error {
	b, err := os.ReadFile(s.data.restored())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var mark restoredMark
	if err == nil {
		err = json.Unmarshal(b, &mark)
	}
	if err != nil {
		return fmt.Errorf("read what this site was restored from: %w", err)
	}
	if _, err := s.commands.Do(ctx, s.actor(), commands.RestoreSite{Backup: mark.Backup, Made: mark.Made}); err != nil {
		return err
	}
	return os.Remove(s.data.restored())
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
