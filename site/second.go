package site

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	// copyWait bounds the wait for another site to hold a new secret.
	copyWait = 5 * time.Second
	// copyPause is how often it is looked whether one does.
	copyPause = 5 * time.Millisecond
	// keyPause is after how long a data key is sent again that nobody says to hold.
	keyPause = time.Second
)

// seconds are the other sites of the mesh as holders of a second copy of new secrets
// (rule R1). It implements [rotation.Copies].
type seconds struct {
	site *Site

	mu   sync.Mutex
	kept map[uuid.UUID]map[events.SiteID]bool // data keys that are asked for now, and who says to hold them
	asks map[uuid.UUID]int                    // how many ask for a key
}

func newSeconds(s *Site) *seconds {
	return &seconds{site: s, kept: map[uuid.UUID]map[events.SiteID]bool{}, asks: map[uuid.UUID]int{}}
}

// Reachable implements [rotation.Copies]. It may be called in a View.
func (c *seconds) Reachable() bool { return len(c.linked()) > 0 }

// linked lists the other custodians that there is a link to.
func (c *seconds) linked() []events.SiteID {
	n := c.site.mesh.running.Load()
	if n == nil {
		return nil
	}
	all := c.site.mesh.custodians.Load()
	if all == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(*all), func(site events.SiteID) bool { return !n.Linked(site) })
}

// Held implements [rotation.Copies].
func (c *seconds) Held(ctx context.Context, version vault.Sealed, staged events.ClockEntry) bool {
	n := c.site.mesh.running.Load()
	if n == nil || staged.Position == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	key := version.DataKey()
	c.ask(key)
	defer c.answered(key)
	var sent time.Time
	for ctx.Err() == nil {
		linked := c.linked()
		if len(linked) == 0 {
			return false
		}
		if time.Since(sent) > keyPause {
			for _, site := range linked {
				c.site.send(ctx, site, []uuid.UUID{key})
			}
			sent = time.Now()
		}
		holders, err := n.Holders(ctx, staged.Origin, staged.Position)
		if err != nil {
			return false
		}
		if slices.ContainsFunc(holders, func(site events.SiteID) bool { return slices.Contains(linked, site) && c.keeps(site, key) }) {
			return true
		}
		select {
		case <-time.After(copyPause):
		case <-ctx.Done():
		}
	}
	return false
}

func (c *seconds) ask(key uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asks[key]++; c.asks[key] == 1 {
		c.kept[key] = map[events.SiteID]bool{}
	}
}

func (c *seconds) answered(key uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asks[key]--; c.asks[key] == 0 {
		delete(c.asks, key)
		delete(c.kept, key)
	}
}

// said notes which data keys a site says to hold, of those that are asked for.
func (c *seconds) said(site events.SiteID, keys []uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if by := c.kept[key]; by != nil {
			by[site] = true
		}
	}
}

func (c *seconds) keeps(site events.SiteID, key uuid.UUID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept[key][site]
}
