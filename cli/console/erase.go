package console

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

var erasureColumns = []column[projections.Erasure]{
	{"of", func(e projections.Erasure) string {
		if e.Account != "" {
			return e.Account
		}
		return e.Session.String()
	}},
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
	out := projections.Erasure{State: "withdrawn", Done: []projections.ErasedSite{}, Waiting: []string{}, Gone: []string{}}
	c, secrets := s.Credential(events.CredentialID{UUID: x.ID})
	if secrets = secrets && ask.What == events.ErasableSecrets; secrets {
		out.AccountID, out.Account = c.Account, c.Account.String()
		if a, known := s.Account(c.Account); known {
			out.Account = a.Name
			if t, known := s.Target(a.Target); known {
				out.Account += "+" + t.Name
			}
		}
	} else {
		out.Session = events.SessionID{UUID: x.ID}
	}
	e, erased := s.Erased(x.ID)
	confirmed, void := x.Confirmed()
	switch open := x.Open(); {
	case erased:
		ask, out.State, out.ConfirmedBy, out.Confirmed = e.Ask, "erased", user(e.At), e.At.Time()
	case len(open) > 0:
		ask, out.State = open[0], "asked"
	case void:
		ask, out.State = confirmed, "void"
	}
	out.Reason, out.AskedBy, out.Asked = ask.Reason, user(ask.At), ask.At.Time()
	if !erased {
		return out
	}
	for _, at := range s.SitesOf(x) {
		switch name := siteNameAmong(s, at.Site); {
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

// wish is the options of verbs that erase.
type wish struct {
	reason            string
	confirm, withdraw bool
}

func (w *wish) flags(cmd *cobra.Command, stays string) *cobra.Command {
	cmd.Flags().StringVar(&w.reason, "reason", "", "why, for the audit and for whoever confirms it")
	cmd.Flags().BoolVar(&w.confirm, "confirm", false, "make true what another administrator asked; nobody can take that back")
	cmd.Flags().BoolVar(&w.withdraw, "withdraw", false, "take back what was asked and not confirmed")
	cmd.Long = cmd.Short + ".\n" +
		"Each site destroys its data keys as soon as it knows, and says so (" + stays + "). A backup from before holds the keys; see docs/vault.md."
	return cmd
}

// decide carries out what is wished, and says what comes next.
func (w *wish) decide(c *call, verb string, ask, confirm, withdraw commands.Command) error {
	if w.confirm && (w.withdraw || w.reason != "") {
		return usageError("--confirm stands alone: the reason is that of who asked")
	}
	cmd, eventType := ask, "erasure.asked"
	switch {
	case w.confirm:
		cmd, eventType = confirm, "erasure.confirmed"
	case w.withdraw:
		cmd, eventType = withdraw, "erasure.withdrawn"
	}
	err := carryOut(c, "erasure", eventType, cmd, c.findErasure)
	if err == nil && eventType == "erasure.asked" {
		c.note("another administrator has to confirm it: %s --confirm", verb)
	}
	return err
}

// findErasure finds what became of an erasure by the id of what is erased.
func (c *call) findErasure(_ *projections.Projections, _ context.Context, ref string) (e projections.Erasure, err error) {
	err = &projections.NotFoundError{Noun: "erasure", Ref: ref}
	id, bad := uuid.Parse(ref)
	if bad != nil {
		return e, err
	}
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		if x, asked := s.Erasure(id); asked {
			e, err = erasureOf(s, x), nil
		}
	})
	return e, err
}

func (c *call) sessionErase() *cobra.Command {
	var w wish
	return w.flags(c.verb("erase ID", "Ask to erase a recording for ever, confirm what another administrator asked, or withdraw it", change, func(args []string) error {
		s, err := c.session("session erase", args[0])
		if err != nil {
			return err
		}
		return w.decide(c, "session erase "+s.ID.String(), commands.AskErasure{Session: s.ID, Reason: w.reason},
			commands.ConfirmErasure{Session: s.ID}, commands.WithdrawErasure{Session: s.ID, Reason: w.reason})
	}), "session erasures")
}

func (c *call) accountErase() *cobra.Command {
	var w wish
	return w.flags(c.verb("erase ACCOUNT+TARGET", "Ask to erase all secrets of a removed account for ever, confirm what another administrator asked, or withdraw it", change, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		return w.decide(c, "account erase "+Printable(args[0]), commands.AskSecretsErasure{Account: account, Target: target, Reason: w.reason},
			commands.ConfirmSecretsErasure{Account: account, Target: target}, commands.WithdrawSecretsErasure{Account: account, Target: target, Reason: w.reason})
	}), "account erasures")
}

func (c *call) sessionErasures() *cobra.Command {
	return c.erasures("List recordings that somebody asked to erase, and the sites that have not done so", events.ErasableRecording)
}

func (c *call) accountErasures() *cobra.Command {
	return c.erasures("List accounts whose secrets somebody asked to erase, and the sites that have not done so", events.ErasableSecrets)
}

func (c *call) erasures(short string, what events.Erasable) *cobra.Command {
	return c.verb("erasures", short, read, func([]string) error {
		var all []projections.Erasure
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			for _, x := range slices.Backward(s.Erasures()) {
				if x.First().What == what {
					all = append(all, erasureOf(s, x))
				}
			}
		})
		return list(c, "erasure", all, erasureColumns)
	})
}
