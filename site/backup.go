package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/applylog"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/site/backup"
)

// Backup writes a backup of the site as it stands, for the recipients to open,
// while the site goes on. It has everything but the site's private key: whoever
// holds both opens all. What the site decides while it is written may be left
// out; nothing that is in it lacks what it depends on. No rekey goes on meanwhile.
func (s *Site) Backup(ctx context.Context, w io.Writer, id uuid.UUID, recipients ...age.Recipient) error {
	defer s.keys.ring.Hold()()
	b, err := backup.NewWriter(w, backup.About{
		ID: id, Site: s.who.ID, Name: s.who.Name, Version: s.version, Made: time.Now().UTC().Truncate(time.Second),
	}, recipients...)
	if err != nil {
		return err
	}
	for _, h := range s.Histories() {
		if err := h.Heads().Sign(); err != nil {
			return fmt.Errorf("sign the head of the %s log: %w", h.Log().Origin().Kind, err)
		}
	}
	// Each part holds what those before it depend on: own decisions, then the
	// order of application, then what other sites decided, the recordings, and
	// the data keys last.
	own := held(s.ctl.Logs())
	order, err := s.backedUpOrder(own)
	if err != nil {
		return err
	}
	others := s.OtherLogs()
	for _, logs := range [][]store.Log{s.ctl.Logs(), others, s.rec.Logs()} {
		for _, log := range logs {
			size, _ := log.Size()
			if n := own.At(log.Origin()); n > 0 {
				size = n
			}
			if err := b.Log(log.Origin(), size, log.Read(ctx, 1)); err != nil {
				return err
			}
		}
	}
	if err := b.File("log/order", order); err != nil {
		return err
	}
	if err := s.backUpFiles(ctx, b); err != nil {
		return err
	}
	return b.Close()
}

// held is the end of each of some logs.
func held(logs []store.Log) events.Clock {
	var c events.Clock
	for _, log := range logs {
		size, _ := log.Size()
		c = c.With(log.Origin(), size)
	}
	return c
}

func (s *Site) backedUpOrder(own events.Clock) ([]byte, error) {
	b, err := os.ReadFile(s.data.order())
	if err != nil {
		return nil, fmt.Errorf("back up the order of the logs: %w", err)
	}
	return applylog.Prefix(b, own)
}

// backUpFiles adds what stands beside the records: who the site is, keys and
// heads of the logs, and the site's keys but the private one that opens all.
func (s *Site) backUpFiles(ctx context.Context, b *backup.Writer) error {
	paths := []string{"site.json"}
	if s.mesh.joined.Load() != nil {
		paths = append(paths, "mesh.json")
	}
	for _, h := range s.Histories() {
		for _, log := range h.Logs() {
			o := log.Origin()
			paths = append(paths, fmt.Sprintf("log/%s/%d/key", o.Kind, o.Epoch), fmt.Sprintf("log/%s/%d/head", o.Kind, o.Epoch))
		}
	}
	err := s.backUpAside(b)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(s.data.keys(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || path == s.ringConfig().KeyFile || path == s.data.siteKey() || path == s.data.table() {
			return err
		}
		rel, err := filepath.Rel(s.data.dir, path)
		paths = append(paths, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return fmt.Errorf("list the site's keys: %w", err)
	}
	table, err := filepath.Rel(s.data.dir, s.data.table())
	if err != nil {
		return err
	}
	for _, path := range append(paths, filepath.ToSlash(table)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		content, err := os.ReadFile(filepath.Join(s.data.dir, filepath.FromSlash(path)))
		if err != nil {
			return fmt.Errorf("back up %s: %w", path, err)
		}
		if err := b.File(path, content); err != nil {
			return err
		}
		clear(content)
	}
	return nil
}

// backUpAside adds the keys of logs that were set aside, where a restored site has
// its own logs: it sets all of them aside once more.
func (s *Site) backUpAside(b *backup.Writer) error {
	for _, log := range s.OtherLogs() {
		o := log.Origin()
		if o.Site != s.who.ID {
			continue
		}
		content, err := os.ReadFile(filepath.Join(s.data.other(o), "key"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it came from peers
		}
		if err == nil {
			err = b.File(fmt.Sprintf("log/%s/%d/key", o.Kind, o.Epoch), content)
		}
		if err != nil {
			return fmt.Errorf("back up the key of log %s: %w", o, err)
		}
	}
	return nil
}
