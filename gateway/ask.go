package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

const (
	askTries = 3                 // times that a wish may be put wrong
	askBeat  = 2 * time.Second   // between two looks whether the person is still there
	askUsual = time.Hour         // what is asked for unless the person says otherwise
	askWords = "BREAK THE GLASS" // what takes access at once
)

const askLate = "nobody has decided yet; the request stays: see request ls, and log in again once it is approved"

// wish says what the login may ask for, if it lacks a grant and may ask for one.
func (l *login) wish(m sshwire.Meta) (w commands.Wish, ok bool) {
	s, who := l.server, l.claimed
	to, err := l.destination(m.User())
	if err != nil || to.console() || s.misrouted(who, to) != "" {
		return commands.Wish{}, false
	}
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		w, ok = commands.WishOf(state, who.user, to.account, to.target, who.factor, s.cfg.Dispatcher.Log(), s.cfg.Now())
	})
	l.to, l.wished = to, w
	return w, ok
}

// destination is where an SSH user name leads, after a jump on the target that it led to.
func (l *login) destination(name string) (route, error) {
	switch {
	case l.jumpTo == "":
		return parseRoute(name)
	case strings.ContainsAny(name, routeMarks):
		return route{}, errors.New("after a jump the user name is the account and nothing else")
	}
	return route{account: name, target: l.jumpTo}, nil
}

// askAccess asks the person what they want the account for, makes it a request and waits until it is decided. It
// returns nil once the request lets them in; a *sshwire.DisconnectError ends the login.
func (l *login) askAccess(ctx context.Context, m sshwire.Meta, ask asker, w commands.Wish) error {
	l.stay(l.claimed.user, l.server.cfg.Limits.AnswerTime, answerLate)
	name := plain(l.to.account) + "+" + plain(l.to.target)
	request, mine := w.Pending, false
	for tries := 0; request.IsZero(); tries++ {
		if tries == askTries {
			return text("nothing was asked for")
		}
		var err error
		if request, err = l.put(ctx, m, ask, name, w); err != nil {
			return err
		}
		mine = !request.IsZero()
	}
	return l.await(ctx, ask, request, mine)
}

// put asks once and gives the command. A zero request without an error was put wrong, which the person was told.
func (l *login) put(ctx context.Context, m sshwire.Meta, ask asker, name string, w commands.Wish) (events.RequestID, error) {
	usual := min(w.Most, askUsual)
	questions := []sshwire.Prompt{{Text: "Reason (nothing to give up): ", Echo: true}}
	about := fmt.Sprintf("You have no grant for %s now, and may ask for access: somebody else decides, and you wait here.", name)
	if w.Ask {
		questions = append(questions, sshwire.Prompt{Text: fmt.Sprintf("For how long [%s, at most %s]: ", short(usual), short(w.Most)), Echo: true})
	}
	ticket := "Ticket (if there is one): "
	if w.Ticket {
		ticket = "Ticket: "
	}
	questions = append(questions, sshwire.Prompt{Text: ticket, Echo: true})
	if w.Glass > 0 {
		questions = append(questions, sshwire.Prompt{Text: "To get in at once, with an alarm and a review, type " + askWords + ": ", Echo: true})
		if !w.Ask {
			about = fmt.Sprintf("You have no grant for %s now, and may break the glass for %s.", name, short(w.Glass))
		}
	}
	answers, err := ask("", about, questions)
	if err != nil {
		return events.RequestID{}, err
	}
	said := make([]string, len(answers))
	for i, a := range answers {
		said[i] = strings.TrimSpace(a)
	}
	if said[0] == "" {
		return events.RequestID{}, text(w.Text)
	}
	command, problem := l.command(w, usual, said)
	if problem == nil {
		var records []events.Record
		by := commands.Client{Login: l.name, Source: m.RemoteAddr().String(), Fingerprint: l.claimed.fingerprint}
		if records, problem = l.server.cfg.Dispatcher.Do(commands.WithClient(ctx, by), events.UserActor(l.claimed.user), command); problem == nil {
			return events.RequestID{UUID: records[0].Header.Stream}, nil
		}
	}
	if !commands.IsInvalid(problem) {
		return events.RequestID{}, l.server.refusal(problem)
	}
	_, err = ask("", problem.Error(), nil)
	return events.RequestID{}, err
}

// command is what the answers say: the reason, for how long where it is asked for, the ticket, and the words that break the glass.
func (l *login) command(w commands.Wish, usual time.Duration, said []string) (commands.Command, error) {
	reason, rest, lasts := said[0], said[1:], usual
	if w.Ask {
		if rest[0] != "" {
			var err error
			if lasts, err = time.ParseDuration(strings.ReplaceAll(rest[0], " ", "")); err != nil {
				return nil, &commands.Refusal{Code: commands.Invalid, Message: "that is no length of time", Hint: "write it as 30m, 2h or 1h30m"}
			}
		}
		rest = rest[1:]
	}
	ticket := rest[0]
	switch {
	case w.Glass > 0 && strings.EqualFold(rest[1], askWords):
		return commands.BreakGlass{Account: l.to.account, Target: l.to.target, Reason: reason, Ticket: ticket}, nil
	case w.Glass > 0 && rest[1] != "":
		return nil, &commands.Refusal{Code: commands.Invalid, Message: "those are not the words that break the glass", Hint: "leave it empty to ask, or type " + askWords}
	case !w.Ask:
		return nil, &commands.Refusal{Code: commands.Invalid, Message: "you may not ask for access here", Hint: "type " + askWords + ", or give no reason to give up"}
	}
	return commands.MakeRequest{Account: l.to.account, Target: l.to.target, Reason: reason, Ticket: ticket, For: lasts}, nil
}

// await waits for the decision, tells what changes, and looks every two seconds whether the person is still there: a
// question without prompts is answered by the client alone. Who leaves withdraws what this login asked for.
func (l *login) await(ctx context.Context, ask asker, id events.RequestID, mine bool) error {
	s := l.server
	l.stay(l.claimed.user, s.cfg.Limits.AskTime, askLate)
	told := ""
	for {
		v := l.standing(id)
		if v.State != aggregate.Pending {
			return l.decided(ask, id, v)
		}
		if news := waitingText(id, v); news != told {
			told = news
			if _, err := ask("", news, nil); err != nil {
				return l.left(ctx, id, mine, err)
			}
		}
		beat, cancel := context.WithTimeout(ctx, askBeat)
		err := s.cfg.Dispatcher.Await(beat, func(state *aggregate.State, now time.Time) bool {
			r, ok := state.Request(id)
			if !ok {
				return true
			}
			n := state.Standing(r, now)
			return n.State != v.State || n.Missing != v.Missing
		})
		cancel()
		if ctx.Err() != nil {
			return l.left(ctx, id, mine, context.Cause(ctx)) // what the person is told
		}
		if err != nil {
			if _, err := ask("", "", nil); err != nil {
				return l.left(ctx, id, mine, err)
			}
		}
	}
}

func (l *login) standing(id events.RequestID) (v aggregate.Standing) {
	l.server.cfg.Dispatcher.View(func(state *aggregate.State) {
		if r, ok := state.Request(id); ok {
			v = state.Standing(r, l.server.cfg.Now())
		}
	})
	return v
}

func waitingText(id events.RequestID, v aggregate.Standing) string {
	have := len(v.Counted)
	return fmt.Sprintf("request %s waits: %d approved, %d more needed. To withdraw it, hang up (Ctrl-C).", id, have, v.Missing)
}

// decided tells what came of a request.
func (l *login) decided(ask asker, id events.RequestID, v aggregate.Standing) error {
	if v.State == aggregate.Approved && v.Lets() {
		_, err := ask("", fmt.Sprintf("request %s: %s", id, v.Why), nil)
		return err
	}
	return text(fmt.Sprintf("request %s is %s: %s", id, v.State, v.Why))
}

// left withdraws a request whose person has hung up while they waited. What ended the connection from our side leaves
// it standing.
func (l *login) left(ctx context.Context, id events.RequestID, mine bool, err error) error {
	byUs := ctx.Err() != nil
	if l.jumpTo != "" { // whose ctx ends with the client's end of it as well
		byUs = errors.As(context.Cause(ctx), new(*sshwire.DisconnectError)) || l.server.ctx.Err() != nil
	}
	if !mine || byUs {
		return err
	}
	withdraw := commands.WithdrawRequest{Request: id, Reason: "hung up while waiting"}
	by := commands.Client{Login: l.name, Fingerprint: l.claimed.fingerprint}
	_, werr := l.server.cfg.Dispatcher.Do(commands.WithClient(context.WithoutCancel(ctx), by), events.UserActor(l.claimed.user), withdraw)
	var r *commands.Refusal
	if werr != nil && !(errors.As(werr, &r) && r.Code == commands.Conflict) { // decided at the same moment
		l.server.log.Error("a request could not be withdrawn", "request", id.String(), "error", werr)
	}
	return err
}

// short writes a length of time as people do: 1h30m.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
