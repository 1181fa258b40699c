package console

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

var erasureColumns = []column[projections.Erasure]{
	{"session", func(e projections.Erasure) string { return e.Session.String() }},
	{"state", func(e projections.Erasure) string { return e.State }},
	{"asked", func(e projections.Erasure) string { return stamp(e.Asked) }},
	{"asked by", func(e projections.Erasure) string { return e.AskedBy }},
	{"confirmed by", func(e projections.Erasure) string { return e.ConfirmedBy }},
	{"reason", func(e projections.Erasure) string { return e.Reason }},
	{"done at", erasedAt},
	{"not yet at", notErasedAt},
}

func erasedAt(e projections.Erasure) string {
	var names []string
	for _, s := range e.Done {
		names = append(names, s.Site)
	}
	return strings.Join(names, ", ")
}

// notErasedAt names who may hold a key.
func notErasedAt(e projections.Erasure) string {
	names := slices.Clone(e.Waiting)
	for _, name := range e.Gone {
		names = append(names, name+" (gone)")
	}
	return strings.Join(names, ", ")
}

// erasureOf shows what a state says.
func erasureOf(s *aggregate.State, x *aggregate.Erasure) projections.Erasure {
	user := func(m *aggregate.Mark) string {
		if u, ok := s.User(events.UserID{UUID: m.Actor.ID}); ok {
			return u.Name
		}
		return m.Actor.ID.String()
	}
	ask := x.First()
	out := projections.Erasure{Session: events.SessionID{UUID: x.ID}, State: "withdrawn", Done: []projections.ErasedSite{}, Waiting: []string{}, Gone: []string{}}
	if open := x.Open(); len(open) > 0 {
		ask, out.State = open[0], "asked"
	}
	e, erased := s.Erased(x.ID)
	switch {
	case erased:
		ask, out.State, out.ConfirmedBy, out.Confirmed = e.Ask, "erased", user(e.At), e.At.Time()
	case x.Confirmed():
		out.State = "void"
	}
	out.Reason, out.AskedBy, out.Asked = ask.Reason, user(ask.At), ask.At.Time()
	if !erased {
		return out
	}
	for _, at := range s.SitesOf(x) {
		switch name := siteName(s, at.Site); {
		case at.Done != nil:
			out.Done = append(out.Done, projections.ErasedSite{Site: name, Time: at.Done.Time()})
		case at.Gone:
			out.Gone = append(out.Gone, name)
		default:
			out.Waiting = append(out.Waiting, name)
		}
	}
	return out
}

// withErasures fills in what became of the wish to erase recordings.
func (c *call) withErasures(all []projections.Session) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for i := range all {
			if x, asked := s.Erasure(all[i].ID.UUID); asked {
				e := erasureOf(s, x)
				all[i].Erasure = &e
			}
		}
	})
}

// erasureDetails are the lines about it in the view of a session.
func erasureDetails(s projections.Session) []column[projections.Session] {
	e := s.Erasure
	if e == nil {
		return nil
	}
	line := func(name, text string) column[projections.Session] {
		return column[projections.Session]{name, func(projections.Session) string { return text }}
	}
	if e.State != "erased" {
		return []column[projections.Session]{line("erasure", e.State+": by "+e.AskedBy+" on "+stamp(e.Asked)+": "+e.Reason)}
	}
	return []column[projections.Session]{
		line("recording", "erased on "+stamp(e.Confirmed)+": "+e.AskedBy+" asked for it, "+e.ConfirmedBy+" confirmed it: "+e.Reason),
		line("erased at", erasedAt(*e)), line("not erased yet at", notErasedAt(*e)),
	}
}

func (c *call) sessionErase() *cobra.Command {
	var reason string
	var confirm, withdraw bool
	cmd := c.verb("erase ID", "Ask to erase a recording for ever, confirm what another administrator asked, or withdraw it", change, func(args []string) error {
		if confirm && (withdraw || reason != "") {
			return usageError("--confirm stands alone: the reason is that of who asked")
		}
		s, err := c.session("session erase", args[0])
		if err != nil {
			return err
		}
		var cmd commands.Command = commands.AskErasure{Session: s.ID, Reason: reason}
		eventType := "erasure.asked"
		switch {
		case confirm:
			cmd, eventType = commands.ConfirmErasure{Session: s.ID}, "erasure.confirmed"
		case withdraw:
			cmd, eventType = commands.WithdrawErasure{Session: s.ID, Reason: reason}, "erasure.withdrawn"
		}
		if err := carryOut(c, "session", eventType, cmd, c.findSession); err != nil {
			return err
		}
		if !confirm && !withdraw {
			c.note("another administrator has to confirm it: session erase %s --confirm", s.ID)
		}
		return nil
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit and for whoever confirms it")
	cmd.Flags().BoolVar(&confirm, "confirm", false, "make true what another administrator asked; nobody can take that back")
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "take back what was asked and not confirmed")
	cmd.Long = cmd.Short + ".\n" +
		"Each site destroys its data key of the recording as soon as it knows, and says so (session erasures); nothing\n" +
		"opens it again. What the logs say in clear stays: who, when, where, names of files. A backup from before holds\n" +
		"the key; see docs/vault.md."
	return cmd
}

func (c *call) sessionErasures() *cobra.Command {
	return c.verb("erasures", "List recordings that somebody asked to erase, and the sites that have not done so", read, func([]string) error {
		var all []projections.Erasure
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			for _, x := range slices.Backward(s.Erasures()) {
				all = append(all, erasureOf(s, x))
			}
		})
		return list(c, "erasure", all, erasureColumns)
	})
}
