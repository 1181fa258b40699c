package console

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

var sessionColumns = []column[projections.Session]{
	{"id", func(s projections.Session) string { return s.ID.String() }},
	{"user", func(s projections.Session) string { return s.User }},
	{"account", func(s projections.Session) string {
		if s.BreakGlass {
			return s.Account + "+" + s.Target + " (break-glass)"
		}
		return s.Account + "+" + s.Target
	}},
	{"started", func(s projections.Session) string { return stamp(s.Started) }},
	{"ended", sessionEnd},
	{"in", func(s projections.Session) string { return strconv.FormatUint(s.BytesIn, 10) }},
	{"out", func(s projections.Session) string { return strconv.FormatUint(s.BytesOut, 10) }},
	{"complete", func(s projections.Session) string { return yes(s.Complete) }},
	{"reason", func(s projections.Session) string { return string(s.Reason) }},
}

func sessionEnd(s projections.Session) string {
	switch {
	case s.Ended == nil && s.Unheard:
		return "unheard"
	case s.Ended == nil:
		return "running"
	}
	return stamp(*s.Ended)
}

var sessionDetails = append(sessionColumns[:len(sessionColumns):len(sessionColumns)], []column[projections.Session]{
	{"detail", func(s projections.Session) string { return s.Detail }},
	{"break-glass", func(s projections.Session) string { return yes(s.BreakGlass) }},
	{"request", func(s projections.Session) string {
		if s.Request.IsZero() {
			return ""
		}
		return s.Request.String()
	}},
	{"asked because", func(s projections.Session) string { return s.Why }},
	{"ticket", func(s projections.Session) string { return s.Ticket }},
	{"approvals", func(s projections.Session) string {
		var ids []string
		for _, id := range s.Approvals {
			ids = append(ids, id.String())
		}
		return strings.Join(ids, " ")
	}},
	{"from", func(s projections.Session) string { return s.Source }},
	{"client", func(s projections.Session) string { return s.Client }},
	{"key", func(s projections.Session) string { return s.Fingerprint }},
	{"connected", func(s projections.Session) string { return stamp(s.Connected) }},
	{"server", func(s projections.Session) string { return s.Server }},
	{"host key", func(s projections.Session) string { return s.HostKey }},
	{"cipher", func(s projections.Session) string { return s.Cipher }},
	{"key exchange", func(s projections.Session) string { return s.KeyExchange }},
	{"packets in", func(s projections.Session) string { return strconv.FormatUint(s.PacketsIn, 10) }},
	{"packets out", func(s projections.Session) string { return strconv.FormatUint(s.PacketsOut, 10) }},
	{"refused", func(s projections.Session) string { return strconv.FormatUint(s.Refused, 10) }},
	{"forwardings", func(s projections.Session) string { return strconv.FormatUint(s.Forwards.Channels, 10) }},
	{"uploads", func(s projections.Session) string { return strconv.FormatUint(s.Files.Uploads, 10) }},
	{"downloads", func(s projections.Session) string { return strconv.FormatUint(s.Files.Downloads, 10) }},
	{"file operations", fileOperations},
	{"read", func(s projections.Session) string { return strconv.FormatUint(s.Reads, 10) }},
	{"killed by", func(s projections.Session) string { return s.KilledBy }},
	{"kill reason", func(s projections.Session) string { return s.KillReason }},
	{"credential", func(s projections.Session) string { return s.Credential.String() }},
	{"grant", func(s projections.Session) string {
		if s.Grant.IsZero() {
			return ""
		}
		return s.Grant.String()
	}},
}...)

var _ = noun(func(c *call) *cobra.Command {
	return group("session", "Who was where, and what went over the wire",
		c.sessionList(), c.sessionShow(), c.sessionPlay(), c.sessionWatch(), c.sessionExport(), c.sessionFiles(), c.sessionKill(),
		c.sessionErase(), c.sessionErasures(), c.sessionOvertaken())
})

func (c *call) sessionList() *cobra.Command {
	var w window
	var user, target, after, at string
	cmd := w.flags(c.verb("ls", "List sessions, the newest first; an operator sees their own", own, func([]string) error {
		f, err := w.filter()
		if err != nil {
			return err
		}
		if f.User, err = c.ownOrNamed("session ls", user); err != nil {
			return err
		}
		if f.Site, err = c.siteNamed(at); err != nil {
			return err
		}
		f.Target, f.After = target, after
		p, err := c.views()
		if err != nil {
			return err
		}
		page, err := p.Sessions(c.ctx, f)
		if err != nil {
			return err
		}
		if c.behind != nil && f.After == "" {
			page.Items = append(c.unseen(p, f), page.Items...)
		}
		c.withLive(page.Items)
		c.nameSites(page.Items)
		c.withErasures(page.Items)
		c.withUnheard(page.Items)
		return listPage(c, "session", page.Items, page.Next, c.whereSession(sessionColumns))
	}))
	cmd.Flags().StringVar(&user, "user", "", "only of this user, by name or id")
	cmd.Flags().StringVar(&target, "target", "", "only to this target, by name or id")
	cmd.Flags().StringVar(&at, "site", "", "only at this site, by name or id")
	cmd.Flags().StringVar(&after, "after", "", "go on where a list before ended")
	return cmd
}

// ownOrNamed is the user that a list is narrowed to: for an operator always
// the caller.
func (c *call) ownOrNamed(verb, user string) (string, error) {
	switch id := c.by.ID.String(); {
	case c.seesAll():
		return user, nil
	case user == "" || user == id || user == c.name:
		return id, nil
	}
	return "", c.deny(verb, "an operator sees no other user's sessions")
}

func (c *call) sessionShow() *cobra.Command {
	return c.verb("show ID", "Show one session", own, func(args []string) error {
		s, err := c.session("session show", args[0])
		if err != nil {
			return err
		}
		running := []projections.Session{s}
		c.withLive(running)
		c.nameSites(running)
		c.withErasures(running)
		c.withUnheard(running)
		return show(c, "session", running[0], append(slices.Clip(c.whereSession(sessionDetails)), erasureDetails(running[0])...))
	})
}

func (c *call) sessionKill() *cobra.Command {
	var reason string
	cmd := c.verb("kill ID", "End a running session", change, func(args []string) error {
		id, err := c.runningID(args[0])
		if err != nil {
			return err
		}
		return carryOut(c, "session", "session.kill_requested", commands.KillSession{Session: id, Reason: reason}, c.findSession)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

// findSession finds a session by its id, a running one even where the views
// lack it.
func (c *call) findSession(p *projections.Projections, ctx context.Context, ref string) (projections.Session, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		return projections.Session{}, &projections.NotFoundError{Noun: "session", Ref: ref}
	}
	s, err := p.Session(ctx, events.SessionID{UUID: id})
	if err == nil {
		return s, nil
	}
	for _, running := range c.running() {
		if running.ID.UUID == id {
			return running, nil
		}
	}
	return s, err
}

// minPrefix is how much of a session's id must be given, in characters.
const minPrefix = 6

// session finds the session that an argument names: by its id, by the beginning
// of it, or "last" for the newest one that the caller may see.
func (c *call) session(verb, ref string) (projections.Session, error) {
	p, err := c.views()
	if err != nil {
		return projections.Session{}, err
	}
	if _, err := uuid.Parse(ref); err == nil {
		s, err := c.findSession(p, c.ctx, ref)
		if err == nil && !c.seesAll() && s.UserID != c.by.ID {
			return projections.Session{}, c.deny(verb, "session "+s.ID.String()+" is another user's")
		}
		return s, err
	}
	f := projections.Filter{Limit: projections.MaxLimit}
	if !c.seesAll() {
		f.User = c.by.ID.String()
	}
	if ref == "last" {
		f.Limit = 1
		page, err := p.Sessions(c.ctx, f)
		if err == nil && len(page.Items) == 0 {
			err = &Fault{Exit: NotFound, Message: "there is no session yet"}
		}
		if err != nil {
			return projections.Session{}, err
		}
		return page.Items[0], nil
	}
	return c.sessionByPrefix(p, f, strings.ToLower(ref))
}

func (c *call) sessionByPrefix(p *projections.Projections, f projections.Filter, prefix string) (projections.Session, error) {
	var none projections.Session
	if err := checkPrefix(prefix); err != nil {
		return none, err
	}
	var found []projections.Session
	for {
		page, err := p.Sessions(c.ctx, f)
		if err != nil {
			return none, err
		}
		for _, s := range page.Items {
			if strings.HasPrefix(s.ID.String(), prefix) {
				found = append(found, s)
			}
		}
		if f.After = page.Next; f.After == "" || len(found) > 1 {
			break
		}
	}
	switch len(found) {
	case 0:
		return none, &projections.NotFoundError{Noun: "session", Ref: prefix}
	case 1:
		return found[0], nil
	}
	return none, ambiguous(prefix, found)
}

func checkPrefix(prefix string) error {
	if len(prefix) < minPrefix || strings.Trim(prefix, "0123456789abcdef-") != "" {
		return &Fault{Exit: Usage, Message: fmt.Sprintf("%q names no session", prefix),
			Hint: fmt.Sprintf("give an id, at least the first %d characters of one, or last", minPrefix)}
	}
	return nil
}

func ambiguous(prefix string, found []projections.Session) *Fault {
	return &Fault{Exit: Conflict, Message: fmt.Sprintf("%q is the beginning of several session ids", prefix),
		Hint: "give more of it: " + found[0].ID.String() + ", " + found[1].ID.String()}
}
