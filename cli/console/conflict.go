package console

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// conflictView is what sites decided without knowing of each other.
type conflictView struct {
	What   string         `json:"what"`
	Name   string         `json:"name"`
	Heads  []conflictHead `json:"heads"`
	Ruling string         `json:"ruling"` // what holds until it is settled
	Settle string         `json:"settle"` // how to settle it
}

type conflictHead struct {
	ID    uuid.UUID     `json:"id"`              // of who holds the name; of a value, the event that set it
	Value string        `json:"value,omitempty"` // of a value
	Site  string        `json:"site"`            // that decided it
	From  events.SiteID `json:"site_id"`
	Time  time.Time     `json:"time"` // by that site's clock
}

func (h conflictHead) String() string {
	return strings.TrimSpace(h.Value+" "+h.ID.String()) + " (" + h.Site + ", " + stamp(h.Time) + ")"
}

func (v conflictView) heads() string {
	var all []string
	for _, h := range v.Heads {
		all = append(all, h.String())
	}
	return strings.Join(all, " | ")
}

var conflictColumns = []column[conflictView]{
	{"what", func(v conflictView) string { return v.What }},
	{"name", func(v conflictView) string { return v.Name }},
	{"decided", conflictView.heads},
	{"until settled", func(v conflictView) string { return v.Ruling }},
	{"settle by", func(v conflictView) string { return v.Settle }},
}

var _ = noun(func(c *call) *cobra.Command {
	return group("conflict", "What sites decided without knowing of each other", c.conflictList())
})

func (c *call) conflictList() *cobra.Command {
	cmd := c.verb("ls", "List names, keys and values that sites gave differently, and what settles each", read, func([]string) error {
		return list(c, "conflict", c.conflicts(func(aggregate.Conflict) bool { return true }), conflictColumns)
	})
	cmd.Long = cmd.Short + ".\n\nSites that can't hear each other may take the same name or set the same value. Nothing of it is lost:\n" +
		"until a person settles it, what the column says holds. Settle a name by its holders' ids."
	return cmd
}

// conflicts lists those conflicts that concern the caller.
func (c *call) conflicts(concern func(aggregate.Conflict) bool) (all []conflictView) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for _, found := range s.Conflicts() {
			if !concern(found) {
				continue
			}
			v := conflictView{What: found.What, Name: found.Name, Ruling: found.Ruling, Settle: found.Settle}
			for _, h := range found.Heads {
				at := conflictHead{ID: h.ID, Value: h.Value, From: h.At.Origin.Site, Site: h.At.Origin.Site.String(), Time: h.At.Time()}
				if t, ok := s.Site(at.From); ok {
					at.Site = t.Name
				}
				v.Heads = append(v.Heads, at)
			}
			all = append(all, v)
		}
	})
	return all
}

// conflictsOf lists what is in conflict about an item that is shown, by its id,
// to those who see all.
func (c *call) conflictsOf(item any) []conflictView {
	if !c.seesAll() {
		return nil
	}
	var shown struct{ ID uuid.UUID }
	if b, err := json.Marshal(item); err != nil || json.Unmarshal(b, &shown) != nil || shown.ID == uuid.Nil {
		return nil
	}
	return c.conflicts(func(found aggregate.Conflict) bool { return found.Concerns(shown.ID) })
}

// showSettled shows an item with what is in conflict about it.
func showSettled[T any](c *call, kind string, item T, columns []column[T]) error {
	found := c.conflictsOf(item)
	if c.json {
		a := c.answer(kind, item)
		if len(found) > 0 {
			a.Conflicts = found
		}
		return writeJSON(c.stdout, a)
	}
	for _, v := range found {
		columns = append(columns[:len(columns):len(columns)], column[T]{"conflict", func(T) string {
			return fmt.Sprintf("%s %s: %s; %s", v.What, v.Name, v.heads(), v.Ruling)
		}})
	}
	return show(c, kind, item, columns)
}
