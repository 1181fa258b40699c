package console

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

// catchUpTime is how long a verb waits for the projections to hold what was
// decided before it.
const catchUpTime = 10 * time.Second

// views gives the projections once they hold what was decided before. Where
// they can't keep up (a full disk, a long rebuild) what they hold is shown, and
// the person is told: an administrator must see something just then. Such an
// answer counts as done in part, and says in its JSON form that it is stale.
func (c *call) views() (*projections.Projections, error) {
	ctx, cancel := context.WithTimeout(c.ctx, catchUpTime)
	defer cancel()
	if err := c.cfg.Site.CaughtUp(ctx); c.ctx.Err() != nil {
		return nil, c.ctx.Err()
	} else if err != nil && c.behind == nil {
		c.behind = &Fault{Exit: Partly, Message: "what is shown may be behind: " + err.Error(), Hint: "try again; see status", cause: err}
		c.note("warning: %s", Printable(oneLine(c.behind.Message)))
	}
	return c.cfg.Site.Views(), nil
}

// outcome is the fault that a call ends with, nil if it did all that was asked.
func (c *call) outcome(err error) *Fault {
	switch {
	case err == nil:
		return c.behind
	case c.behind != nil && errors.Is(err, projections.ErrNotFound):
		return &Fault{Exit: Unavailable, Message: AsFault(err).Message + " is known to the views, which may be behind", Hint: c.behind.Hint, cause: err}
	}
	return AsFault(err)
}

// do carries out a command of the caller.
func (c *call) do(cmd commands.Command) ([]events.Record, error) {
	return c.cfg.Site.Commands().Do(c.from(), c.by.actor(), cmd)
}

// from is the call's context with where the call comes from, for the record of
// a refusal.
func (c *call) from() context.Context {
	return commands.WithClient(c.ctx, commands.Client{Login: c.by.Login, Source: c.by.Source, Fingerprint: c.by.Fingerprint})
}

// deny writes a denial to the log and returns it. What is denied was not done
// even where that could not be written.
func (c *call) deny(verb, detail string) error {
	return c.denyFor(events.NotAllowedVerb, verb, detail, &Fault{Exit: Denied, Message: "you may not use " + verb + " here",
		Hint: "ask an administrator of this site; whoami shows your role"})
}

// denyUnproven is deny for a caller whose login did not prove the second factor that they need.
func (c *call) denyUnproven(verb string) error {
	f := &Fault{Exit: Denied, Message: "you need a second factor here and have none", Hint: "enrol one: user totp enroll; until then nothing else is open to you"}
	if errors.Is(c.unproven, aggregate.ErrFactorMissing) {
		f.Message, f.Hint = "this login did not prove your second factor", "log in again"
	}
	return c.denyFor(events.NoFactor, verb, c.unproven.Error(), f)
}

func (c *call) denyFor(reason events.DenyReason, verb, detail string, f *Fault) error {
	records, err := c.cfg.Site.Commands().Do(c.from(), events.SiteActor(c.cfg.Site.ID()), commands.DenyAccess{
		Reason: reason, Login: c.by.Login, Source: c.by.Source, User: c.by.ID, Fingerprint: c.by.Fingerprint,
		Detail: verb + ": " + detail,
	})
	if err != nil {
		return fmt.Errorf("%s is denied, and that could not be recorded: %w", verb, err)
	}
	f.Event = records[0].Header.ID
	return f
}

// finder is the query of the projections for one item.
type finder[T any] func(p *projections.Projections, ctx context.Context, ref string) (T, error)

// lister is the query of the projections for a list.
type lister[T any] func(p *projections.Projections, ctx context.Context, f projections.Filter) ([]T, error)

// carryOut carries out a command and answers with what came of it: the item
// whose stream holds the first event of a type.
func carryOut[T any](c *call, kind, eventType string, cmd commands.Command, find finder[T]) error {
	records, err := c.do(cmd)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Header.Type != eventType {
			continue
		}
		if !c.json {
			_, err := fmt.Fprintf(c.stdout, "%s  %s  event %s\n", eventType, r.Header.Stream, r.Header.ID)
			return err
		}
		return answerChange(c, kind, r, find)
	}
	return c.unchanged(kind)
}

// answerChange answers with the item that an event changed. The change itself
// is durable, whatever becomes of the answer.
func answerChange[T any](c *call, kind string, r events.Record, find finder[T]) error {
	p, err := c.views()
	var item T
	if err == nil {
		item, err = find(p, c.ctx, r.Header.Stream.String())
	}
	if err != nil {
		return &Fault{Exit: Partly, Message: fmt.Sprintf("it was done, but can't be shown: %s", err), Event: r.Header.ID, cause: err}
	}
	return writeJSON(c.stdout, c.answer(kind, item))
}

// unchanged answers a command that had nothing to do.
func (c *call) unchanged(kind string) error {
	if c.json {
		return writeJSON(c.stdout, c.answer(kind, nil))
	}
	_, err := fmt.Fprintln(c.stdout, "nothing to do")
	return err
}

// listFrom answers with a list from the projections.
func listFrom[T any](c *call, kind string, w *window, query lister[T], columns []column[T]) error {
	f, err := w.filter()
	if err != nil {
		return err
	}
	p, err := c.views()
	if err != nil {
		return err
	}
	items, err := query(p, c.ctx, f)
	if err != nil {
		return err
	}
	return list(c, kind, items, columns)
}

// showFrom answers with one item from the projections, and what is in conflict
// about it.
func showFrom[T any](c *call, kind, ref string, query finder[T], columns []column[T]) error {
	p, err := c.views()
	if err != nil {
		return err
	}
	item, err := query(p, c.ctx, ref)
	if err != nil {
		return err
	}
	return showSettled(c, kind, item, columns)
}
