package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

// requestView is a request with what it is worth now.
type requestView struct {
	projections.Request
	State    aggregate.RequestState `json:"state"`
	StateWhy string                 `json:"state_why"`
	Missing  int                    `json:"missing"`            // people who still have to approve, at least
	Begins   time.Time              `json:"begins,omitzero"`    // once it is approved
	Ends     time.Time              `json:"ends,omitzero"`      //
	UsesLeft *int                   `json:"uses_left"`          // null of break-glass, which counts none, and before it is approved
	Policies []string               `json:"policies,omitempty"` // that bind it
	Overdue  bool                   `json:"overdue"`            // its review should have been closed
}

var requestColumns = []column[requestView]{
	{"id", func(r requestView) string { return r.ID.String() }},
	{"user", func(r requestView) string { return r.User }},
	{"account", func(r requestView) string { return r.Account }},
	{"state", func(r requestView) string {
		switch {
		case r.Overdue:
			return string(r.State) + ", review overdue"
		case r.BreakGlass && len(r.Reviews) == 0:
			return string(r.State) + ", not reviewed"
		}
		return string(r.State)
	}},
	{"break-glass", func(r requestView) string { return yes(r.BreakGlass) }},
	{"for", func(r requestView) string { return seconds(r.For) }},
	{"reason", func(r requestView) string { return r.Reason }},
	{"made", func(r requestView) string { return stamp(r.Made) }},
}

var requestDetails = append(requestColumns[:len(requestColumns):len(requestColumns)], []column[requestView]{
	{"why", func(r requestView) string { return r.StateWhy }},
	{"ticket", func(r requestView) string { return r.Ticket }},
	{"policies", func(r requestView) string { return strings.Join(r.Policies, " ") }},
	{"approved by", func(r requestView) string { return said(r.Approvals) }},
	{"still needed", func(r requestView) string {
		if r.State != aggregate.Pending {
			return ""
		}
		return number(r.Missing)
	}},
	{"decide until", func(r requestView) string { return stamp(r.Decide) }},
	{"begins", func(r requestView) string { return stamp(r.Begins) }},
	{"ends", func(r requestView) string { return stamp(r.Ends) }},
	{"uses left", func(r requestView) string {
		if r.UsesLeft == nil {
			return ""
		}
		return number(*r.UsesLeft)
	}},
	{"sessions", func(r requestView) string {
		var ids []string
		for _, u := range r.Used {
			ids = append(ids, u.Session.String())
		}
		return strings.Join(ids, " ")
	}},
	{"ended", func(r requestView) string { return stamp(r.Ended) }},
	{"ended by", func(r requestView) string { return r.EndedBy }},
	{"end reason", func(r requestView) string { return r.EndReason }},
	{"review due", func(r requestView) string { return stamp(r.Review) }},
	{"reviewed", func(r requestView) string { return said(r.Reviews) }},
}...)

// said lists who said something, and what.
func said(words []projections.Word) string {
	var all []string
	for _, w := range words {
		text := w.By + " " + stamp(w.At)
		if w.Verdict != "" {
			text += " " + string(w.Verdict)
		}
		if w.Note != "" {
			text += " (" + w.Note + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

var _ = noun(func(c *call) *cobra.Command {
	return group("request", "Ask for access, and decide on what others ask for",
		c.requestNew(), c.requestList(), c.requestShow(), c.requestApprove(), c.requestDeny(), c.requestWithdraw(),
		c.requestBreakGlass(), c.requestReview())
})

func (c *call) requestNew() *cobra.Command {
	var ask commands.MakeRequest
	var from, lasts, wait string
	cmd := c.verb("new ACCOUNT+TARGET", "Ask for access to an account for a time", own, func(args []string) (err error) {
		if ask.Account, ask.Target, err = accountRef(args[0]); err != nil {
			return err
		}
		if lasts == "" {
			return &Fault{Exit: Usage, Message: "request new needs --for", Hint: "say for how long, for example --for 1h"}
		}
		if ask.For, err = duration(lasts); err != nil {
			return err
		}
		if ask.From, err = pointInTime(from, time.Now(), +1); err != nil {
			return err
		}
		patience := time.Duration(0)
		if wait != "" {
			if patience, err = duration(wait); err != nil {
				return err
			}
		}
		records, err := c.do(ask)
		if err != nil {
			return err
		}
		if err := c.answerRequest(records[0]); err != nil || wait == "" {
			return err
		}
		return c.awaitDecision(events.RequestID{UUID: records[0].Header.Stream}, patience)
	})
	f := cmd.Flags()
	f.StringVar(&ask.Reason, "reason", "", "why; approvers and auditors read it")
	f.StringVar(&lasts, "for", "", "for how long (1h)")
	f.StringVar(&from, "from", "", "when it begins: RFC 3339, or how long from now; without it, with the last approval")
	f.StringVar(&ask.Ticket, "ticket", "", "the ticket that it belongs to")
	f.Uint32Var(&ask.Uses, "uses", 1, "for how many logins")
	f.StringVar(&wait, "wait", "", "wait so long for the decision; exit code 10 if there is none by then, 5 if it is no")
	return cmd
}

// answerRequest answers with the request that a record is about.
func (c *call) answerRequest(r events.Record) error {
	if c.json {
		return answerChange(c, "request", r, c.findRequest)
	}
	_, err := fmt.Fprintf(c.stdout, "%s  %s  event %s\n", r.Header.Type, r.Header.Stream, r.Header.ID)
	return err
}

// awaitDecision waits until a request is no longer pending.
func (c *call) awaitDecision(id events.RequestID, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	var v aggregate.Standing
	err := c.cfg.Site.Commands().Await(ctx, func(s *aggregate.State, now time.Time) bool {
		if r, ok := s.Request(id); ok {
			v = s.Standing(r, now)
		}
		return v.State != aggregate.Pending
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Fault{Exit: Waiting, Message: "request " + id.String() + " waits for approval", Hint: "see request show " + id.String()}
	case err != nil:
		return err
	case v.State != aggregate.Approved:
		return &Fault{Exit: Denied, Message: fmt.Sprintf("request %s is %s: %s", id, v.State, v.Why), Hint: "see request show " + id.String()}
	}
	c.note("request %s: %s", id, v.Why)
	return nil
}

func (c *call) requestBreakGlass() *cobra.Command {
	var glass commands.BreakGlass
	var lasts string
	cmd := c.verb("break-glass ACCOUNT+TARGET", "Take access at once, for who may: an alarm, and somebody else reviews it", own, func(args []string) (err error) {
		if glass.Account, glass.Target, err = accountRef(args[0]); err != nil {
			return err
		}
		if lasts != "" {
			if glass.For, err = duration(lasts); err != nil {
				return err
			}
		}
		records, err := c.do(glass)
		if err != nil {
			return err
		}
		return c.answerRequest(records[0])
	})
	cmd.Flags().StringVar(&glass.Reason, "reason", "", "why; whoever reviews it reads it")
	cmd.Flags().StringVar(&glass.Ticket, "ticket", "", "the ticket that it belongs to")
	cmd.Flags().StringVar(&lasts, "for", "", "for how long; without it for as long as you may")
	return cmd
}

// onRequest makes a verb that says something of one request.
func (c *call) onRequest(use, short string, command func(events.RequestID) (commands.Command, error)) *cobra.Command {
	return c.verb(use, short, own, func(args []string) error {
		id, err := requestRef(args[0])
		if err != nil {
			return err
		}
		cmd, err := command(id)
		if err != nil {
			return err
		}
		records, err := c.do(cmd)
		if err != nil {
			return err
		}
		return c.answerRequest(records[0])
	})
}

func requestRef(ref string) (events.RequestID, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		return events.RequestID{}, &Fault{Exit: Usage, Message: fmt.Sprintf("%q is no id of a request", ref), Hint: "request ls shows the ids"}
	}
	return events.RequestID{UUID: id}, nil
}

func (c *call) requestApprove() *cobra.Command {
	var uses uint32
	var note string
	cmd := c.onRequest("approve ID", "Say yes to a request of somebody else", func(id events.RequestID) (commands.Command, error) {
		return commands.ApproveRequest{Request: id, Uses: uses, Note: note}, nil
	})
	cmd.Flags().Uint32Var(&uses, "uses", 0, "for so many logins at most; without it, for as many as were asked for")
	cmd.Flags().StringVar(&note, "note", "", "for whoever reads it later")
	return cmd
}

func (c *call) requestDeny() *cobra.Command {
	var reason string
	cmd := c.onRequest("deny ID", "Say no to a request, also to one that was approved: what is open under it ends", func(id events.RequestID) (commands.Command, error) {
		return commands.DenyRequest{Request: id, Reason: reason}, nil
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why; the requester reads it")
	return cmd
}

func (c *call) requestWithdraw() *cobra.Command {
	var reason string
	cmd := c.onRequest("withdraw ID", "Take a request of your own back: what is open under it ends", func(id events.RequestID) (commands.Command, error) {
		return commands.WithdrawRequest{Request: id, Reason: reason}, nil
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) requestReview() *cobra.Command {
	var verdict, note string
	cmd := c.onRequest("review ID", "Close the review of an access by break-glass of somebody else", func(id events.RequestID) (commands.Command, error) {
		return commands.ReviewRequest{Request: id, Verdict: events.Verdict(verdict), Note: note}, nil
	})
	cmd.Flags().StringVar(&verdict, "verdict", "", "ok or issue")
	cmd.Flags().StringVar(&note, "note", "", "what was found")
	return cmd
}

func (c *call) requestList() *cobra.Command {
	var w window
	var user, after string
	var overdue, pending bool
	cmd := w.flags(c.verb("ls", "List requests, the newest first; who sees not all sees their own and those to decide on", own, func([]string) error {
		f, err := w.filter()
		if err != nil {
			return err
		}
		p, err := c.views()
		if err != nil {
			return err
		}
		if f.After = after; c.seesAll() {
			f.User = user
		}
		shown := func(r requestView) bool {
			switch {
			case !c.seesAll() && user != "" && user != r.User && user != r.UserID.String():
				return false
			case overdue && !r.Overdue, pending && r.State != aggregate.Pending:
				return false
			}
			return !w.live || r.Overdue || r.State == aggregate.Pending || r.State == aggregate.Approved
		}
		all, next, err := c.requestsShown(p, f, shown)
		if err != nil {
			return err
		}
		return listPage(c, "request", all, next, requestColumns)
	}))
	cmd.Flags().StringVar(&user, "user", "", "only of this user, by name or id")
	cmd.Flags().BoolVar(&overdue, "overdue", false, "only access by break-glass whose review should have been closed")
	cmd.Flags().BoolVar(&pending, "pending", false, "only what waits for approval")
	return cmd
}

// requestsShown reads pages until there are as many requests to show as asked
// for, and says where the next ones begin.
func (c *call) requestsShown(p *projections.Projections, f projections.Filter, shown func(requestView) bool) (all []requestView, next string, err error) {
	limit := f.Limit
	for {
		f.Limit = min(limit, 500)
		page, err := p.Requests(c.ctx, f)
		if err != nil {
			return nil, "", err
		}
		for _, r := range c.viewRequests(page.Items) {
			if !shown(r) {
				continue
			}
			if len(all) == limit {
				return all, all[limit-1].Place(), nil
			}
			all = append(all, r)
		}
		if f.After = page.Next; f.After == "" {
			return all, "", nil
		}
	}
}

func (c *call) requestShow() *cobra.Command {
	return c.verb("show ID", "Show one request, and what it is worth now", own, func(args []string) error {
		return showFrom(c, "request", args[0], c.findRequest, requestDetails)
	})
}

// findRequest finds a request that the caller may see.
func (c *call) findRequest(p *projections.Projections, ctx context.Context, ref string) (requestView, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		return requestView{}, &projections.NotFoundError{Noun: "request", Ref: ref}
	}
	r, err := p.Request(ctx, events.RequestID{UUID: id})
	if err != nil {
		return requestView{}, err
	}
	if views := c.viewRequests([]projections.Request{r}); len(views) == 1 {
		return views[0], nil
	}
	return requestView{}, &projections.NotFoundError{Noun: "request", Ref: ref}
}

// viewRequests says what requests are worth now, by what decisions are made on,
// and leaves out those that the caller may not see.
func (c *call) viewRequests(items []projections.Request) []requestView {
	views := make([]requestView, 0, len(items))
	now := c.cfg.Site.Commands().Now()
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for _, item := range items {
			r, ok := s.Request(item.ID)
			mine := item.UserID == c.by.ID
			if !ok || !mine && !c.seesAll() && !s.MayDecide(r, c.by.ID, c.by.Fingerprint) && !(r.BreakGlass && s.MayReview(r, c.by.ID, c.by.Fingerprint)) {
				continue
			}
			v := s.Standing(r, now)
			view := requestView{Request: item, State: v.State, StateWhy: v.Why, Missing: v.Missing, Overdue: s.Overdue(r, now)}
			for _, p := range v.Policies {
				view.Policies = append(view.Policies, p.Name)
			}
			if !v.Until.IsZero() {
				view.Begins, view.Ends = v.From, v.Until
				if v.Uses >= 0 {
					view.UsesLeft = &v.Uses
				}
			}
			views = append(views, view)
		}
	})
	return views
}
