package console

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// glassView is who may break the glass, or a change that waits for its
// confirmation.
type glassView struct {
	User     string          `json:"user"`
	State    string          `json:"state"` // "may", or "proposed" and what
	Selector events.Selector `json:"selector,omitempty"`
	MaxTime  uint64          `json:"max_time,omitempty"` // seconds
	Review   uint64          `json:"review,omitempty"`   // seconds
	By       string          `json:"by,omitempty"`       // who proposed it
	Reason   string          `json:"reason,omitempty"`
	ID       string          `json:"id,omitempty"` // of the proposal
	UserID   events.UserID   `json:"user_id"`
}

var glassColumns = []column[glassView]{
	{"user", func(g glassView) string { return g.User }},
	{"state", func(g glassView) string { return g.State }},
	{"accounts", func(g glassView) string { return string(g.Selector) }},
	{"for", func(g glassView) string { return seconds(g.MaxTime) }},
	{"review in", func(g glassView) string { return seconds(g.Review) }},
	{"proposed by", func(g glassView) string { return g.By }},
	{"reason", func(g glassView) string { return g.Reason }},
	{"id", func(g glassView) string { return g.ID }},
}

var _ = noun(func(c *call) *cobra.Command {
	return group("break-glass", "Who may take access without asking; every change needs two administrators",
		c.glassAdd(), c.glassRemove(), c.glassConfirm(), c.glassList())
})

func (c *call) propose(p commands.ProposeGlass) error {
	records, err := c.do(p)
	if err != nil {
		return err
	}
	return c.answerGlass(records[0])
}

func (c *call) answerGlass(r events.Record) error {
	if c.json {
		return writeJSON(c.stdout, c.answer("break-glass", map[string]string{"id": r.Header.Stream.String(), "event": r.Header.ID.String()}))
	}
	_, err := fmt.Fprintf(c.stdout, "%s  %s  event %s\n", r.Header.Type, r.Header.Stream, r.Header.ID)
	if err == nil && r.Header.Type == "glass.change_proposed" {
		c.note("another administrator has to confirm it: break-glass confirm %s", r.Header.Stream)
	}
	return err
}

func (c *call) glassAdd() *cobra.Command {
	p := commands.ProposeGlass{Allow: true}
	var lasts, review string
	cmd := c.verb("add USER SELECTOR", "Propose that a user may break the glass for what a selector takes in", change, func(args []string) (err error) {
		p.User, p.Selector = args[0], args[1]
		if p.MaxTime, err = duration(lasts); err != nil {
			return err
		}
		if p.Review, err = duration(review); err != nil {
			return err
		}
		return c.propose(p)
	})
	cmd.Flags().StringVar(&lasts, "for", "1h", "how long one access may last")
	cmd.Flags().StringVar(&review, "review-in", "24h", "how soon somebody else has to close its review")
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, for the audit and for whoever confirms it")
	return cmd
}

func (c *call) glassRemove() *cobra.Command {
	var p commands.ProposeGlass
	cmd := c.verb("rm USER", "Propose that a user may not break the glass any more", change, func(args []string) error {
		p.User = args[0]
		return c.propose(p)
	})
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, for the audit and for whoever confirms it")
	return cmd
}

func (c *call) glassConfirm() *cobra.Command {
	return c.verb("confirm ID", "Make a change true that another administrator proposed", change, func(args []string) error {
		id, err := requestRef(args[0])
		if err != nil {
			return err
		}
		records, err := c.do(commands.ConfirmGlass{Proposal: id})
		if err != nil {
			return err
		}
		return c.answerGlass(records[0])
	})
}

func (c *call) glassList() *cobra.Command {
	return c.verb("ls", "List who may break the glass, and the changes that wait for a confirmation", read, func([]string) error {
		var all []glassView
		now := c.cfg.Site.Commands().Now()
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			name := func(id events.UserID) string {
				if u, ok := s.User(id); ok {
					return u.Name
				}
				return id.String()
			}
			for _, u := range s.Users() {
				if g, ok := s.GlassOf(u.ID); ok {
					all = append(all, glassView{User: u.Name, State: "may", Selector: g.Selector, MaxTime: g.MaxTime, Review: g.Review, UserID: u.ID})
				}
			}
			for _, p := range s.Proposals() {
				if p.Confirmed || now.Sub(p.At.Time()) > commands.ProposalLasts {
					continue
				}
				state := "proposed: not any more"
				if p.Change.Allow {
					state = "proposed: may"
				}
				all = append(all, glassView{
					User: name(p.Change.User), State: state, Selector: p.Change.Selector, MaxTime: p.Change.MaxTime, Review: p.Change.Review,
					By: name(events.UserID{UUID: p.At.Actor.ID}), Reason: p.Reason, ID: p.At.Stream.String(), UserID: p.Change.User,
				})
			}
		})
		return list(c, "break-glass", all, glassColumns)
	})
}
