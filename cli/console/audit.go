package console

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

var eventColumns = []column[projections.Event]{
	{"time", func(e projections.Event) string { return stamp(e.Time) }},
	{"position", func(e projections.Event) string { return strconv.FormatUint(e.Position, 10) }},
	{"type", func(e projections.Event) string { return e.Type }},
	{"by", actorName},
	{"about", about},
	{"payload", shortPayload},
}

var eventDetails = []column[projections.Event]{
	{"id", func(e projections.Event) string { return e.ID.String() }},
	{"log", func(e projections.Event) string { return e.Origin.String() }},
	{"position", func(e projections.Event) string { return strconv.FormatUint(e.Position, 10) }},
	{"time", func(e projections.Event) string { return stamp(e.Time) }},
	{"type", func(e projections.Event) string { return e.Type + " version " + strconv.Itoa(int(e.Version)) }},
	{"by", actorName},
	{"command", func(e projections.Event) string { return e.Command }},
	{"about", about},
	{"stream", func(e projections.Event) string { return e.Stream.String() }},
	{"payload", payload},
}

func actorName(e projections.Event) string {
	if e.Actor.Name != "" {
		return e.Actor.Name
	}
	return string(e.Actor.Kind)
}

// about names what an event is about, as far as it says.
func about(e projections.Event) string {
	var parts []string
	if e.User != "" {
		parts = append(parts, "user="+e.User)
	}
	if e.Account != "" {
		parts = append(parts, "account="+e.Account)
	}
	if e.Target != "" {
		parts = append(parts, "target="+e.Target)
	}
	if !e.Session.IsZero() {
		parts = append(parts, "session="+e.Session.String())
	}
	return strings.Join(parts, " ")
}

// payload shows the fields of an event as they stand in its JSON form.
func payload(e projections.Event) string {
	if e.Masked != "" {
		why := e.Masked
		e.Masked = ""
		return "(no effect: " + why + ") " + payload(e)
	}
	if e.Missing != "" {
		return "(" + e.Missing + ")"
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, e.Payload); err != nil {
		return "(" + err.Error() + ")"
	}
	return compact.String()
}

// maxCell bounds a payload in a line of audit tail, in characters; show and
// JSON have all of it.
const maxCell = 160

func shortPayload(e projections.Event) string {
	text := []rune(payload(e))
	if len(text) <= maxCell {
		return string(text)
	}
	return string(text[:maxCell]) + "…"
}

var _ = noun(func(c *call) *cobra.Command {
	return group("audit", "Every decision and denial, in order", c.auditTail(), c.auditShow())
})

func (c *call) auditShow() *cobra.Command {
	return c.verb("show ID", "Show one event, by its id or its position in the log", read, func(args []string) error {
		return showFrom(c, "event", args[0], c.findEvent, c.whereEvent(eventDetails))
	})
}

func (c *call) auditTail() *cobra.Command {
	var t tail
	cmd := c.verb("tail", "Show the newest events, the last one at the end", read, func([]string) error {
		if t.lines < 0 || t.lines > projections.MaxLimit {
			return usageError("-n takes a number from 0 to %d", projections.MaxLimit)
		}
		if t.session != "" {
			s, err := c.session("audit tail", t.session)
			if err != nil {
				return err
			}
			t.filter.Session = s.ID
		}
		var err error
		if t.filter.Site, err = c.siteNamed(t.site); err != nil {
			return err
		}
		t.columns = c.whereEvent(eventColumns)
		return c.ended(t.run(c))
	})
	cmd.Flags().IntVarP(&t.lines, "lines", "n", 20, "how many events")
	cmd.Flags().BoolVarP(&t.follow, "follow", "f", false, "go on as events happen, until Ctrl-C")
	cmd.Flags().StringVar(&t.filter.Type, "type", "", "only of this type, or of all types of an aggregate (session, user.added)")
	cmd.Flags().StringVar(&t.site, "site", "", "only of this site, by name or id")
	cmd.Flags().StringVar(&t.session, "session", "", "only about this session")
	return cmd
}

// tail is the options of audit tail.
type tail struct {
	lines   int
	follow  bool
	session string
	site    string
	filter  projections.AuditFilter
	columns []column[projections.Event]
}

func (t *tail) run(c *call) error {
	from := c.cfg.Site.Source().Held(events.Ctl) // the list shows what is up to here
	p, err := c.views()
	if err != nil {
		return err
	}
	if t.lines > 0 {
		t.filter.Limit = t.lines
		page, err := p.Audit(c.ctx, t.filter)
		if err != nil {
			return err
		}
		for _, e := range slices.Backward(page.Items) {
			if t.follow && e.Position > from.At(e.Origin) {
				continue // it happened meanwhile: following shows it
			}
			e.Site = c.nameOfSite(e.Origin.Site)
			if err := stream(c, "event", e, t.columns); err != nil {
				return err
			}
		}
	}
	if !t.follow {
		return nil
	}
	return t.followFrom(c, p, from)
}

// followPause is the least time between two readings of the logs.
const followPause = 50 * time.Millisecond

// followFrom shows the events of the logs after a clock as they become durable,
// those that arrive late from other sites too.
func (t *tail) followFrom(c *call, p *projections.Projections, from events.Clock) error {
	source := c.cfg.Site.Source()
	for {
		for r, err := range source.Records(c.ctx, events.Ctl, from) {
			if err != nil {
				return err
			}
			if err := t.show(c, p, r); err != nil {
				return err
			}
			from = from.With(r.Header.Origin(), r.Header.Position)
		}
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-time.After(followPause):
		}
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-source.Watch(events.Ctl, from):
		}
	}
}

func (t *tail) show(c *call, p *projections.Projections, r events.Record) error {
	e, err := eventOnce(c.ctx, p, r)
	if err != nil || !t.matches(e) {
		return err
	}
	e.Site = c.nameOfSite(e.Origin.Site)
	return stream(c, "event", e, t.columns)
}

// eventOnce reads an event's line from the projections, which may have to catch
// up with the log first.
func eventOnce(ctx context.Context, p *projections.Projections, r events.Record) (projections.Event, error) {
	if err := p.WaitFor(ctx, r.Header.Origin(), r.Header.Position); err != nil {
		return projections.Event{}, err
	}
	return p.Event(ctx, r.Header.ID.String())
}

// matches is the filter for one event.
func (t *tail) matches(e projections.Event) bool {
	if !t.filter.Session.IsZero() && e.Session != t.filter.Session {
		return false
	}
	if !t.filter.Site.IsZero() && e.Origin.Site != t.filter.Site {
		return false
	}
	return t.filter.Type == "" || e.Type == t.filter.Type || strings.HasPrefix(e.Type, t.filter.Type+".")
}
