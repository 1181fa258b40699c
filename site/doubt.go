package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/applylog"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
)

// A site that can't be sure that its disk is the one it left, at the state in
// which it left it, must not go on in its logs: a position could be used twice
// (rule R15). It sets them aside, beside the copies of other sites' logs, and
// begins others. What peers hold of those that were set aside comes back from
// them, as what other sites wrote does.
//
// A disk is in doubt when it was made out of a backup, when the marker on it
// does not fit (it is a copy), when it lost records that a signed head covers,
// and when peers hold more of the site's logs than it does.

// ErrDoubt says that the site must go on in new logs: it is to be closed and
// opened again.
var ErrDoubt = errors.New("this site's disk is not what it left")

// doubt says why the logs are set aside, and once that is done which. It stands
// in doubt.json until that is recorded.
type doubt struct {
	Why  string                         `json:"why"`
	Done map[events.Kind]store.Followed `json:"done,omitempty"` // ends of those that were written last
	HLC  events.HLC                     `json:"hlc,omitempty"`  // newest in them
}

func (d data) doubt() string  { return filepath.Join(d.dir, "doubt.json") }
func (d data) marker() string { return filepath.Join(d.dir, "instance") }

// aside is the directory of the logs of a kind that were set aside.
func (d data) aside(site events.SiteID, k events.Kind) string {
	return filepath.Join(d.others(), site.String(), string(k))
}

func (d data) writeDoubt(v doubt) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = writeDurable(d.doubt(), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note that the disk is in doubt: %w", err)
	}
	return nil
}

func (d data) loadDoubt() (v doubt, err error) {
	b, err := os.ReadFile(d.doubt())
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return v, fmt.Errorf("read %s: %w", d.doubt(), err)
	}
	return v, nil
}

// checkMarker tells why a data directory is a copy, or was put back; empty if it
// may well be the one that was left. The marker holds its own inode number, which
// a copy of the file has not.
func (d data) checkMarker() (why string, err error) {
	b, err := os.ReadFile(d.marker())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // new, or of an older version
	}
	if err != nil {
		return "", fmt.Errorf("read the marker of the data directory: %w", err)
	}
	inode, err := inodeOf(d.marker())
	if err != nil {
		return "", err
	}
	if string(b) != inode+"\n" {
		return "the data directory is a copy", nil
	}
	return "", nil
}

// mark makes the marker of a data directory.
func (d data) mark() error {
	if why, err := d.checkMarker(); err == nil && why == "" {
		if _, err := os.Stat(d.marker()); err == nil {
			return nil
		}
	}
	if err := os.Remove(d.marker()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mark the data directory: %w", err)
	}
	f, err := os.OpenFile(d.marker(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("mark the data directory: %w", err)
	}
	inode, err := inodeOf(d.marker())
	if err == nil {
		_, err = f.WriteString(inode + "\n")
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncDir(d.dir)
	}
	if err != nil {
		return fmt.Errorf("mark the data directory: %w", errors.Join(err, os.Remove(d.marker())))
	}
	return nil
}

func inodeOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("look at %s: this system tells no inode numbers", path)
	}
	return strconv.FormatUint(stat.Ino, 10), nil
}

// settleDoubt sets the site's logs aside where its disk is in doubt.
func (s *Site) settleDoubt(ctx context.Context) error {
	v, err := s.data.loadDoubt()
	if err != nil {
		return err
	}
	if v.Why == "" {
		if v.Why, err = s.data.checkMarker(); err != nil {
			return err
		}
	}
	if v.Why != "" && v.Done == nil {
		if err := s.setAside(ctx, v); err != nil {
			return fmt.Errorf("set the logs aside, since %s: %w", v.Why, err)
		}
	}
	return s.data.mark()
}

// setAside moves all epochs of the site's own logs beside those of other sites.
// Cut short at any step, it goes on at the next start.
func (s *Site) setAside(ctx context.Context, v doubt) error {
	if err := s.data.writeDoubt(doubt{Why: v.Why}); err != nil {
		return err
	}
	if err := s.salvageLogs(ctx); err != nil {
		return err
	}
	ends, err := s.asideEnds(ctx)
	if err != nil {
		return err
	}
	if err := s.asideOrder(ends); err != nil {
		return err
	}
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		to := s.data.aside(s.who.ID, kind)
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		epochs, err := store.Epochs(s.data.log(kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, n := range epochs {
			name := strconv.FormatUint(uint64(n), 10)
			if err := os.Rename(filepath.Join(s.data.log(kind), name), filepath.Join(to, name)); err != nil {
				return err
			}
		}
		for _, dir := range []string{to, filepath.Dir(to), s.data.others(), filepath.Dir(s.data.others())} {
			if err := syncDir(dir); err != nil {
				return err
			}
		}
		if len(epochs) > 0 {
			if err := syncDir(s.data.log(kind)); err != nil {
				return err
			}
		}
	}
	if err := s.data.saveEpochs(&s.who, nil); err != nil {
		return err
	}
	v.Done = map[events.Kind]store.Followed{}
	for _, l := range ends {
		v.HLC = max(v.HLC, l.hlc)
		if l.origin.Epoch > v.Done[l.origin.Kind].Epoch {
			v.Done[l.origin.Kind] = store.Followed{Epoch: l.origin.Epoch, Size: l.size, Root: l.root[:]}
		}
	}
	s.log.Warn("this site goes on in new logs; what peers hold of the old ones comes back from them", "why", v.Why)
	return s.data.writeDoubt(v)
}

// asideEnd is how far a log that is set aside is here.
type asideEnd struct {
	origin events.Origin
	size   uint64
	root   events.Hash
	hlc    events.HLC // of the last record
}

// asideEnds opens the site's own logs as copies, which takes away what was never
// acknowledged, wherever they stand already.
func (s *Site) asideEnds(ctx context.Context) (ends []asideEnd, err error) {
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		for _, dir := range []string{s.data.log(kind), s.data.aside(s.who.ID, kind)} {
			epochs, err := store.Epochs(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			for _, n := range epochs {
				path := filepath.Join(dir, strconv.FormatUint(uint64(n), 10))
				if _, err := os.Stat(filepath.Join(path, "key")); errors.Is(err, fs.ErrNotExist) {
					continue // it came from peers: not of this disk
				}
				o := events.Origin{Site: s.who.ID, Epoch: n, Kind: kind}
				opened, err := otherEngine.Open(path, o, 0)
				if err != nil {
					return nil, err
				}
				end := asideEnd{origin: o}
				end.size, end.root = opened.Log.Size()
				for entry, err2 := range opened.Log.Headers(ctx, max(end.size, 1)) {
					h, err3 := events.DecodeHeader(entry.Header)
					err, end.hlc = errors.Join(err2, err3), h.HLC
				}
				if err := errors.Join(err, opened.Log.Close()); err != nil {
					return nil, err
				}
				ends = append(ends, end)
			}
		}
	}
	return ends, ctx.Err()
}

// asideOrder brings the order of application to what the logs hold: of what they
// lost it says nothing, and what this site's own hold beyond it was applied last;
// unless other sites' logs have lost something, which may be what that knew of.
func (s *Site) asideOrder(ends []asideEnd) error {
	order, err := applylog.Open(s.data.order())
	if err != nil {
		return err
	}
	none, held, err := s.notHeld(order.Clock())
	othersLost := slices.ContainsFunc(order.Clock().Entries(), func(e events.ClockEntry) bool {
		return e.Origin.Site != s.who.ID && held.At(e.Origin) < e.Position
	})
	if err := errors.Join(err, order.Close()); err != nil {
		return err
	}
	b, err := os.ReadFile(s.data.order())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		kept, err := applylog.Prefix(b, held, none...)
		if err == nil && len(kept) < len(b) {
			err = writeDurable(s.data.order(), kept, 0o600)
		}
		if err != nil {
			return err
		}
	}
	if order, err = applylog.Open(s.data.order()); err != nil {
		return err
	}
	for _, l := range ends {
		if known := order.Clock().At(l.origin); err == nil && l.origin.Kind == events.Ctl && l.size > known && !othersLost && !s.movedAside(l.origin) {
			err = order.Append(l.origin, l.size)
		}
	}
	return errors.Join(err, order.Close())
}

// movedAside reports whether a log was set aside before.
func (s *Site) movedAside(o events.Origin) bool {
	_, err := os.Stat(s.data.other(o))
	return err == nil
}

// afterDoubt fills in where a history begins whose predecessors were set aside:
// with a number that no other copy of this disk can have chosen.
func (s *Site) afterDoubt(cfg *store.HistoryConfig) error {
	epochs, err := store.Epochs(s.data.aside(s.who.ID, cfg.Kind))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(epochs) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	v, err := s.data.loadDoubt()
	cfg.Aside, cfg.After = epochs, v.Done[cfg.Kind]
	cfg.Writer.Ticker.Resume(v.HLC)
	cfg.First = slices.Max(epochs) + 2 + rand.Uint32N(1<<20) //nolint:gosec // only to differ
	return err
}

// recordDoubt records that the site goes on in new logs, if it does.
func (s *Site) recordDoubt(ctx context.Context) error {
	v, err := s.data.loadDoubt()
	if err != nil || v.Done == nil {
		return err
	}
	if _, err := s.commands.Do(ctx, s.actor(), commands.RecordDoubt{Why: v.Why}); err != nil {
		return err
	}
	return os.Remove(s.data.doubt())
}

// doubted has the site end, to be opened again in new logs.
func (s *Site) doubted(why string) {
	if err := s.data.writeDoubt(doubt{Why: why}); err != nil {
		s.fail(err)
		return
	}
	s.fail(fmt.Errorf("%w: %s", ErrDoubt, why))
}

// verifyAside checks the logs that were set aside.
func verifyAside(ctx context.Context, d data, site events.SiteID, kind events.Kind) (*store.VerifyReport, error) {
	epochs, err := store.Epochs(d.aside(site, kind))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(epochs) == 0 {
		return &store.VerifyReport{Kind: kind}, nil
	}
	if err != nil {
		return nil, err
	}
	return store.VerifyAside(ctx, segment.Engine{}, d.aside(site, kind), kind)
}
