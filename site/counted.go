package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
)

// counted is which records the views were built with: joining a mesh and holding a
// log change what has effect, also of what was applied long ago.
type counted struct {
	moved chan struct{} // capacity 1: something may count that did not, or the other way round

	mu      sync.Mutex // guards what follows
	with    string
	changed chan struct{} // closed and renewed when with is another
}

func newCounted() *counted {
	return &counted{moved: make(chan struct{}, 1), changed: make(chan struct{})}
}

// look has the views compared with what counts now.
func (c *counted) look() {
	select {
	case c.moved <- struct{}{}:
	default: // one is due
	}
}

func (c *counted) get() (with string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.with, c.changed
}

func (c *counted) set(with string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.with = with
	close(c.changed)
	c.changed = make(chan struct{})
}

// whatCounts says which records have effect here. It is "" for a site that never
// joined a mesh and holds no log.
func (s *Site) whatCounts() string {
	var counts string
	s.commands.View(func(state *aggregate.State) { counts = state.WhatCounts() })
	return counts
}

// viewsWith keeps what the views were built with: whoever dies before they are
// built anew does that at the next start.
func (d data) viewsWith() string { return filepath.Join(d.dir, "views.with") }

// keepCounted builds the views anew whenever other records count than those that
// they were built with, until ctx ends.
func (s *Site) keepCounted(ctx context.Context) {
	b, err := os.ReadFile(s.data.viewsWith())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("it can't be read what the views leave out; they are built anew", "error", err)
		b = []byte(err.Error())
	}
	s.counted.set(string(b))
	for ctx.Err() == nil {
		want := s.whatCounts()
		if with, _ := s.counted.get(); with == want {
			select {
			case <-ctx.Done():
			case <-s.counted.moved:
			}
			continue
		}
		err := s.views.Rebuild(ctx, nil)
		if err == nil {
			err = writeDurable(s.data.viewsWith(), []byte(want), 0o600)
		}
		if err == nil {
			s.counted.set(want)
			continue
		}
		if ctx.Err() == nil {
			s.log.Error("the views could not be built anew after what counts has changed; trying again", "error", err, "in", viewsRetry.String())
		}
		select {
		case <-ctx.Done():
		case <-time.After(viewsRetry):
		}
	}
}

// viewsMatch returns once the views were built with what counts now.
func (s *Site) viewsMatch(ctx context.Context) error {
	for {
		with, changed := s.counted.get()
		if with == s.whatCounts() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the views are being built anew, since other records count than before: %w", ctx.Err())
		}
	}
}
