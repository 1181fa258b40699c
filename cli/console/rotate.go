package console

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/events"
)

var _ = noun(func(c *call) *cobra.Command {
	return group("rotate", "Changing secrets on their targets",
		c.rotatePlan(), c.rotateRun(), c.rotateStatus(), c.rotateRetry(), c.rotatePolicy())
})

var statusColumns = []column[rotation.Status]{
	{"account", func(s rotation.Status) string { return s.Account }},
	{"state", func(s rotation.Status) string { return string(s.State) }},
	{"staged", func(s rotation.Status) string { return stamp(s.Staged) }},
	{"verified", func(s rotation.Status) string { return stamp(s.Verified) }},
	{"next", func(s rotation.Status) string { return stamp(s.Next) }},
	{"why", func(s rotation.Status) string { return string(s.Why) }},
	{"failures", func(s rotation.Status) string { return number(s.Failures) }},
	{"detail", func(s rotation.Status) string { return s.Detail }},
}

func (c *call) rotateStatus() *cobra.Command {
	return c.verb("status [ACCOUNT+TARGET]", "Show how secrets stand: what is unknown, failing, overdue, and when it goes on", read, func(args []string) error {
		c.noteLease()
		if len(args) == 1 {
			st, err := c.statusOf(args[0])
			if err != nil {
				return err
			}
			return show(c, "rotation_status", st, append(statusColumns[:len(statusColumns):len(statusColumns)], []column[rotation.Status]{
				{"last result", func(s rotation.Status) string { return string(s.Last) }},
				{"wrong logins left", func(s rotation.Status) string { return number(s.Budget) }},
				{"rotation", func(s rotation.Status) string { return s.Rotation.String() }},
				{"version", func(s rotation.Status) string { return s.Version.String() }},
			}...))
		}
		var all []rotation.Status
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			for _, a := range liveAccounts(s) {
				all = append(all, c.cfg.Site.Rotations().StatusOf(s, a))
			}
		})
		worst := []rotation.Standing{rotation.Alarmed, rotation.Unknown, rotation.Failing, rotation.Overdue, rotation.Rotating, rotation.DueNow, rotation.Fine}
		slices.SortStableFunc(all, func(a, b rotation.Status) int {
			return cmp.Or(cmp.Compare(slices.Index(worst, a.State), slices.Index(worst, b.State)), strings.Compare(a.Account, b.Account))
		})
		return list(c, "rotation_status", all, statusColumns)
	})
}

func liveAccounts(s *aggregate.State) (all []*aggregate.Account) {
	for _, a := range s.Accounts() {
		if t, ok := s.Target(a.Target); ok && !t.Removed && !a.Removed {
			all = append(all, a)
		}
	}
	return all
}

// statusOf is how the secret of a live account stands.
func (c *call) statusOf(ref string) (st rotation.Status, err error) {
	account, target, err := accountRef(ref)
	if err != nil {
		return st, err
	}
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		var a *aggregate.Account
		if a, err = commands.FindAccount(s, account, target); err == nil {
			st = c.cfg.Site.Rotations().StatusOf(s, a)
		}
	})
	return st, err
}

// intended is what a rotation of an account would do.
type intended struct {
	Account    string                `json:"account"`
	State      rotation.Standing     `json:"state"`
	Verb       events.ChangeVerb     `json:"verb,omitempty"`     // tried first
	Fallback   events.ChangeVerb     `json:"fallback,omitempty"` // tried if the first is refused
	Via        string                `json:"via,omitempty"`
	Candidates int                   `json:"candidates"`
	Budget     int                   `json:"budget"` // wrong logins that may be made now
	SingleCopy bool                  `json:"single_copy"`
	Policy     events.RotationPolicy `json:"policy"`
}

func (c *call) rotatePlan() *cobra.Command {
	return c.verb("plan ACCOUNT+TARGET", "Show what a rotation would do, and do nothing", read, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		var p intended
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			var a *aggregate.Account
			if a, err = commands.FindAccount(s, account, target); err == nil {
				p = c.intend(s, a)
			}
		})
		if err != nil {
			return err
		}
		return show(c, "rotation_plan", p, []column[intended]{
			{"account", func(p intended) string { return p.Account }},
			{"state", func(p intended) string { return string(p.State) }},
			{"verb", func(p intended) string { return string(p.Verb) }},
			{"fallback", func(p intended) string { return string(p.Fallback) }},
			{"via", func(p intended) string { return p.Via }},
			{"candidates", func(p intended) string { return number(p.Candidates) }},
			{"wrong logins left", func(p intended) string { return number(p.Budget) }},
			{"single copy", func(p intended) string { return yes(p.SingleCopy) }},
			{"policy", func(p intended) string { return policyText(p.Policy) }},
		})
	})
}

func (c *call) intend(s *aggregate.State, a *aggregate.Account) intended {
	st := c.cfg.Site.Rotations().StatusOf(s, a)
	p := intended{Account: st.Account, State: st.State, Budget: st.Budget, SingleCopy: !c.cfg.Site.Rotations().Reachable(), Policy: s.RotationPolicy(a)}
	cred, ok := s.Credential(a.Credential)
	if !ok {
		return p
	}
	p.Candidates = len(cred.Candidates())
	if _, ok := cred.Current(); ok {
		p.Verb = events.ChangeAsItself
	}
	if id, agreed := a.Via(); agreed && !id.IsZero() {
		if via, ok := s.Account(id); ok && !via.Removed {
			p.Via, p.Fallback = via.Name, events.ChangePrivileged
		}
	}
	return p
}

// run is one rotation as who asked for it is told.
type run struct {
	ID      events.RotationID `json:"id"`
	Account string            `json:"account"`
	State   string            `json:"state"` // verified, unknown or failed; running while nobody waits for it
	Detail  string            `json:"detail,omitempty"`
	Next    time.Time         `json:"next,omitzero"` // when it goes on by itself
}

var runColumns = []column[run]{
	{"account", func(r run) string { return r.Account }},
	{"state", func(r run) string { return r.State }},
	{"rotation", func(r run) string { return r.ID.String() }},
	{"detail", func(r run) string { return r.Detail }},
	{"next", func(r run) string { return stamp(r.Next) }},
}

func (c *call) rotateRun() *cobra.Command {
	var wait, all bool
	var target string
	cmd := c.verb("run [ACCOUNT+TARGET]", "Rotate a secret now, or those of all accounts", change, func(args []string) error {
		switch {
		case all == (len(args) == 1):
			return &Fault{Exit: Usage, Message: "rotate run takes one ACCOUNT+TARGET, or --all"}
		case all:
			return c.runAll(target)
		}
		return c.runOne(args[0], wait, func(account, target string) commands.PlanRotation {
			return commands.PlanRotation{Account: account, Target: target, Why: events.WhyAsked}
		})
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is verified, has failed, or nobody knows")
	cmd.Flags().BoolVar(&all, "all", false, "rotate all accounts, and show how far it is")
	cmd.Flags().StringVar(&target, "target", "", "with --all: only those on this target")
	cmd.Annotations[DrawsOnTerminal] = "true"
	return cmd
}

func (c *call) rotateRetry() *cobra.Command {
	var wait bool
	cmd := c.verb("retry ACCOUNT+TARGET", "Try again what failed, or find out again which secret is true", change, func(args []string) error {
		st, err := c.statusOf(args[0])
		if err != nil {
			return err
		}
		return c.runOne(args[0], wait, func(account, target string) commands.PlanRotation {
			unknown := st.State == rotation.Alarmed || st.State == rotation.Unknown
			why := events.WhyAsked
			if unknown {
				why = events.WhyDoubt
			}
			return commands.PlanRotation{Account: account, Target: target, Why: why, SettleOnly: unknown}
		})
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is verified, has failed, or nobody knows")
	return cmd
}

func (c *call) runOne(ref string, wait bool, command func(account, target string) commands.PlanRotation) error {
	account, target, err := accountRef(ref)
	if err != nil {
		return err
	}
	for {
		st, err := c.statusOf(ref)
		if err != nil {
			return err
		}
		r := run{Account: st.Account, State: "running"}
		var event uuid.UUID
		plan := command(account, target)
		records, err := c.do(plan)
		under := underWay(err)
		joined := wait && !under.IsZero()
		switch {
		case joined:
			c.note("rotation %s is under way: waiting for that one", under)
			r.ID = under
		case err != nil:
			return err
		default:
			r.ID, event = events.RotationID{UUID: records[0].Header.Stream}, records[0].Header.ID
		}
		if wait {
			if r, err = c.await(r); err != nil {
				return err
			}
		}
		if joined && st.SettleOnly && !plan.SettleOnly && r.State == string(events.RotationVerified) {
			continue // which secret is true is known now; it was not changed
		}
		if err := show(c, "rotation", r, runColumns); err != nil {
			return err
		}
		return r.fault(event)
	}
}

// underWay is the rotation that another one was refused for, zero for none.
func underWay(err error) (id events.RotationID) {
	var refusal *commands.Refusal
	if errors.As(err, &refusal) {
		id = refusal.Rotation
	}
	return id
}

func (c *call) await(r run) (run, error) {
	o, err := c.cfg.Site.Rotations().Await(c.ctx, r.ID)
	if err != nil {
		return r, err
	}
	r.State, r.Detail, r.Next = string(o.State), o.Detail, o.Next
	return r, nil
}

// fault is the error that a rotation without success ends a call with.
func (r run) fault(event uuid.UUID) error {
	switch events.RotationResult(r.State) {
	case events.RotationUnknown:
		f := &Fault{Exit: Partly, Message: "it is not known which secret " + r.Account + " takes: " + r.Detail, Event: event,
			Hint: "a person has to look; see rotate status and secret versions"}
		if !r.Next.IsZero() {
			f.Hint = "it is tested again at " + stamp(r.Next) + "; see rotate status"
		}
		return f
	case events.RotationFailed:
		return &Fault{Exit: Failed, Message: "the secret of " + r.Account + " was not changed: " + r.Detail, Event: event, Hint: "rotate retry tries again"}
	}
	return nil
}

// runAll rotates everything and tells how far it is.
func (c *call) runAll(target string) error {
	var accounts []rotation.Status
	var err error
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for _, a := range liveAccounts(s) {
			if t, _ := s.Target(a.Target); target == "" || t.Name == target || t.ID.String() == target {
				accounts = append(accounts, c.cfg.Site.Rotations().StatusOf(s, a))
			}
		}
	})
	if len(accounts) == 0 {
		return &Fault{Exit: NotFound, Message: "there is no account to rotate", Hint: "see account ls"}
	}
	outcomes := make(chan run)
	asked := 0
	for _, st := range accounts {
		r := run{Account: st.Account}
		records, failed := c.do(commands.PlanRotation{Account: st.AccountID.String(), Why: events.WhyAsked})
		var refusal *commands.Refusal
		switch {
		case failed == nil:
			r.ID = events.RotationID{UUID: records[0].Header.Stream}
		case !errors.As(failed, &refusal) || refusal.Code == commands.Unavailable:
			err = failed
		case !refusal.Rotation.IsZero():
			r.ID = refusal.Rotation
		default:
			r.State, r.Detail = string(events.RotationFailed), refusal.Error()
		}
		if err != nil {
			break
		}
		asked++
		go func() { // ends with the rotation or the call
			if r.State == "" {
				if told, failed := c.await(r); failed == nil {
					r = told
				}
			}
			select {
			case outcomes <- r:
			case <-c.ctx.Done():
			}
		}()
	}
	return errors.Join(err, c.follow(outcomes, asked))
}

// follow tells of rotations as they end: a bar on a terminal, else a line
// each.
func (c *call) follow(outcomes <-chan run, all int) error {
	count := map[string]int{}
	bar := c.terminal != nil && !c.json
	for done := 0; done < all; {
		if bar {
			const width = 30
			filled := width * done / all
			fmt.Fprintf(c.raw, "\r[%s%s] %d/%d  verified %d  failed %d  unknown %d ", strings.Repeat("#", filled), strings.Repeat(".", width-filled),
				done, all, count["verified"], count["failed"], count["unknown"])
		}
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case r := <-outcomes:
			done++
			count[r.State]++
			if bar && r.State == "verified" {
				continue
			}
			if bar {
				fmt.Fprint(c.raw, "\r\x1b[K")
			}
			if err := stream(c, "rotation", r, runColumns); err != nil {
				return err
			}
		}
	}
	if bar {
		fmt.Fprint(c.raw, "\r\x1b[K")
	}
	if good := count["verified"]; good < all {
		return &Fault{Exit: Partly, Message: fmt.Sprintf("%d of %d rotations did not end verified", all-good, all), Hint: "see rotate status"}
	}
	c.note("%d rotations verified", all)
	return nil
}
