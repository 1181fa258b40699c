package rotation

import (
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	// maxRounds is how often every candidate is tested before the alarm: a
	// change that was sent may take effect late.
	maxRounds = 3
	// maxUnanswered is how many tests without an answer end in the alarm.
	maxUnanswered = 100
	// maxBackoff is the longest pause after a test without an answer.
	maxBackoff = time.Hour
	// maxOlder is how many versions older than the candidates are tested once.
	maxOlder = 16
	// maxRetires is how often an old secret that can't be taken away is tried again.
	maxRetires = 5
)

// roundPauses are the pauses before each further round.
var roundPauses = [maxRounds - 1]time.Duration{time.Minute, 10 * time.Minute}

// Kind is the sort of a step.
type Kind int

// The steps.
const (
	Wait      Kind = iota // until a time
	Stage                 // make a new secret and keep it
	Send                  // ask the target to take the staged version
	Interrupt             // say that an attempt got no answer, since nobody is left to hear it
	Test                  // log in with a version
	Retire                // make the target refuse the old secret
	End                   // say what became of it
)

// Step is what a rotation needs next.
type Step struct {
	Kind    Kind
	Until   time.Time             // of Wait
	Verb    events.ChangeVerb     // of Send
	Version events.SecretID       // of Test and Retire; of End: that the target takes
	Attempt *aggregate.Attempt    // of Interrupt
	Result  events.RotationResult // of End
	Detail  string                // of Wait and End
}

// Plan tells the next step of a rotation at a site, from what is known now. It
// never plans a presentation that the lock-out budget does not allow.
func Plan(s *aggregate.State, r *aggregate.Rotation, site events.SiteID, now time.Time) Step {
	p := planner{s: s, r: r, site: site, now: now, all: r.Attempts()}
	for _, at := range p.all { // not only the last: of a disk that was an old one, attempts come back later
		if at.Answer == "" {
			return Step{Kind: Interrupt, Attempt: at}
		}
	}
	if s.Orphaned(r) {
		return p.end(events.RotationYielded, events.SecretID{}, "another site has taken over what this one carries out")
	}
	var known bool
	if p.c, known = s.Credential(r.Credential); !known {
		return p.end(events.RotationFailed, events.SecretID{}, "the credential is not known")
	}
	a, okAccount := s.Account(r.Account)
	if !okAccount || a.Removed || targetRemoved(s, a) {
		return p.gone()
	}
	p.a = a
	for i, at := range p.all {
		if at.Sent != "" {
			p.sent, p.tests = at, p.all[i+1:]
		}
	}
	if p.sent == nil {
		p.tests = p.all
		return p.before()
	}
	return p.after()
}

func targetRemoved(s *aggregate.State, a *aggregate.Account) bool {
	t, ok := s.Target(a.Target)
	return !ok || t.Removed
}

// planner works out one step.
type planner struct {
	s    *aggregate.State
	r    *aggregate.Rotation
	c    *aggregate.Credential
	a    *aggregate.Account
	site events.SiteID
	now  time.Time

	all   []*aggregate.Attempt
	sent  *aggregate.Attempt   // the last change that was sent, nil for none
	tests []*aggregate.Attempt // logins since
}

// gone ends the rotation of an account that is not there any more.
func (p *planner) gone() Step {
	result := events.RotationFailed
	if p.c.Unsettled() {
		result = events.RotationUnknown
	}
	return p.end(result, events.SecretID{}, "the account was removed")
}

// before plans up to the moment that the new secret is sent: the current one is
// proven by a login first, so that the change can't fail for it.
func (p *planner) before() Step {
	v, known := p.c.Current()
	_, staged := p.r.Staged()
	if p.c.Unsettled() || !known {
		step, exhausted := p.settle()
		switch {
		case !exhausted:
			return step
		case !p.canReset() && len(p.c.Candidates()) == 0:
			return p.end(events.RotationFailed, events.SecretID{}, "there is no secret to log in with, nor a privileged account to reset it through")
		case !p.canReset():
			return p.alarm()
		case !staged:
			return Step{Kind: Stage}
		}
		return p.sendBy(events.ChangePrivileged)
	}
	if p.r.SettleOnly && !staged {
		return p.end(events.RotationVerified, v.ID, "")
	}
	verb := events.ChangeAsItself // rule R2
	if p.canReset() && p.lastLogin(v) {
		verb = events.ChangePrivileged
	} else if step, proven := p.prove(v); !proven {
		return step
	}
	if !staged {
		return Step{Kind: Stage}
	}
	return p.sendBy(verb)
}

// lastLogin reports whether a login that proves the current secret would be the last
// one that this site may make: were it wrong, the new secret could not be proven.
func (p *planner) lastLogin(v *aggregate.Version) bool {
	left, _ := lockout.Left(p.s, p.c.ID, p.site, p.now)
	return left == 1 && !p.r.Proves(v.ID, p.now)
}

// prove plans a login with the current secret, unless there was one a moment
// ago. A target that can't be asked now ends the rotation: nothing was sent.
func (p *planner) prove(v *aggregate.Version) (step Step, proven bool) {
	if p.r.Proves(v.ID, p.now) {
		return Step{}, true
	}
	if n := len(p.tests); n > 0 {
		last := p.tests[n-1]
		switch {
		case last.Answer == aggregate.AnswerLocked:
			return p.end(events.RotationFailed, v.ID, "the target says that the account is locked: "+last.Detail), false
		case last.Answer == aggregate.AnswerNone && n > 1 && p.tests[n-2].Answer == aggregate.AnswerNone:
			return p.end(events.RotationFailed, v.ID, "the target gave no answer: "+last.Detail), false
		}
	}
	if left, until := lockout.Left(p.s, p.c.ID, p.site, p.now); left < 1 {
		return p.end(events.RotationFailed, v.ID, p.spent(until).Detail+" before "+until.UTC().Format(time.RFC3339)), false
	}
	return Step{Kind: Test, Version: v.ID}, false
}

func (p *planner) sendBy(verb events.ChangeVerb) Step {
	if verb == events.ChangePrivileged {
		if left, until := lockout.Left(p.s, p.via().ID, p.site, p.now); left < 1 {
			return p.spent(until)
		}
		return Step{Kind: Send, Verb: verb}
	}
	v, _ := p.c.Current()
	free := p.r.Proves(v.ID, p.now)
	if left, until := lockout.Left(p.s, p.c.ID, p.site, p.now); left < 1 && !free {
		return p.spent(until)
	}
	return Step{Kind: Send, Verb: verb}
}

// after plans from the moment on that the new secret was sent.
func (p *planner) after() Step {
	if v := p.accepted(); v != nil {
		return p.settled(v)
	}
	reset := p.canReset() && p.sent.Sent != events.ChangePrivileged
	if p.sent.Answer == aggregate.AnswerRefused {
		switch {
		case reset && !p.sent.NotPresented:
			return p.sendBy(events.ChangePrivileged)
		case p.sent.NotPresented && !p.c.Unsettled():
			v, _ := p.c.Current()
			return p.end(events.RotationFailed, v.ID, p.sent.Detail)
		}
	}
	step, exhausted := p.settle()
	switch {
	case !exhausted:
		return step
	case reset:
		return p.sendBy(events.ChangePrivileged)
	}
	return p.alarm()
}

// settled ends a rotation whose target accepted a version.
func (p *planner) settled(v *aggregate.Attempt) Step {
	staged, _ := p.r.Staged()
	if v.Version != staged {
		detail := "the target still takes the secret that it took before"
		if p.sent.Detail != "" {
			detail += ": " + p.sent.Detail
		}
		return p.end(events.RotationFailed, v.Version, detail)
	}
	old, ok := p.c.Version(p.sent.Replaces)
	if !ok || old.Public == "" || old.ID == staged || p.r.Retired() {
		return p.end(events.RotationVerified, staged, "")
	}
	times, until, why := p.r.DeferredAfter(v.Answered) // what was waited for before is over
	switch {
	case times >= maxRetires:
		return p.end(events.RotationVerified, staged, "the old key is still accepted: "+why)
	case until.After(p.now):
		return Step{Kind: Wait, Until: until, Detail: why}
	}
	return Step{Kind: Retire, Version: old.ID}
}

// accepted is the last test, if the target accepted it.
func (p *planner) accepted() *aggregate.Attempt {
	if n := len(p.tests); n > 0 && p.tests[n-1].Answer == aggregate.AnswerAccepted {
		return p.tests[n-1]
	}
	return nil
}

// settle plans the next test of a candidate, each once a round, the likeliest
// first. It is exhausted when none is left to be tested.
func (p *planner) settle() (step Step, exhausted bool) {
	rejected := map[events.SecretID]int{}
	accepted, unanswered, pause := 0, 0, time.Duration(0)
	var last time.Time
	for _, t := range p.tests {
		last = t.Answered.Time()
		switch t.Answer {
		case aggregate.AnswerAccepted:
			accepted++
		case aggregate.AnswerRejected:
			rejected[t.Version]++
			accepted, pause = 0, 0
		case aggregate.AnswerLocked:
			pause = time.Duration(p.s.RotationPolicy(p.a).LockoutWindow) * time.Second
		case aggregate.AnswerNone:
			unanswered++
			pause = min(max(2*pause, time.Second), maxBackoff)
		}
	}
	if accepted > 0 { // and still unsettled: by what another site has sent and not told the end of
		if accepted > len(roundPauses) {
			return p.end(events.RotationFailed, p.tests[len(p.tests)-1].Version, "another site has sent a change, and what came of it is not known here"), false
		}
		pause = roundPauses[accepted-1]
	}
	next := p.next(rejected)
	if next == nil || unanswered >= maxUnanswered {
		return Step{}, true
	}
	if round := rejected[next.ID]; round > 0 && pause == 0 && p.roundIsOver(rejected, round) {
		pause = roundPauses[round-1]
	}
	if until := last.Add(pause); pause > 0 && until.After(p.now) {
		return Step{Kind: Wait, Until: until, Detail: p.whyWait()}, false
	}
	if left, until := lockout.Left(p.s, p.c.ID, p.site, p.now); left < 1 {
		return p.spent(until), false
	}
	return Step{Kind: Test, Version: next.ID}, false
}

// next is the candidate to be tested now, nil when none is left. Where there is
// nothing to do but to find the true one, the versions before the candidates are
// tested as well, once.
func (p *planner) next(rejected map[events.SecretID]int) (next *aggregate.Version) {
	for _, v := range p.c.Candidates() {
		if rejected[v.ID] < p.rounds() && (next == nil || rejected[v.ID] < rejected[next.ID]) {
			next = v
		}
	}
	if next != nil || !p.r.SettleOnly {
		return next
	}
	for i, v := range p.c.Older() {
		if i < maxOlder && rejected[v.ID] == 0 {
			return v
		}
	}
	return nil
}

// rounds is how often every candidate is tested: once where a reset can follow,
// unless something that was sent may take effect late.
func (p *planner) rounds() int {
	if p.canReset() && !p.c.Pending() {
		return 1
	}
	return maxRounds
}

// roundIsOver reports whether every candidate was rejected as often, so that
// the target gets some time before the next round.
func (p *planner) roundIsOver(rejected map[events.SecretID]int, round int) bool {
	for _, v := range p.c.Candidates() {
		if rejected[v.ID] != round {
			return false
		}
	}
	return true
}

func (p *planner) whyWait() string {
	last := p.tests[len(p.tests)-1]
	switch last.Answer {
	case aggregate.AnswerLocked:
		return "the target says that the account is locked"
	case aggregate.AnswerNone:
		return "the target gave no answer: " + last.Detail
	case aggregate.AnswerAccepted:
		return "a change that another site has sent may take effect late"
	}
	if p.sent == nil && !p.c.Pending() {
		return "the target takes none of the secrets that are known"
	}
	return "no candidate was accepted; a change that was sent may take effect late"
}

func (p *planner) spent(until time.Time) Step {
	return Step{Kind: Wait, Until: until, Detail: "one more wrong login could lock the account"}
}

// via is the credential of the privileged account, nil where there is none to
// use.
func (p *planner) via() *aggregate.Credential {
	id, agreed := p.a.Via()
	if !agreed || id.IsZero() {
		return nil
	}
	a, ok := p.s.Account(id)
	if !ok || a.Removed {
		return nil
	}
	c, ok := p.s.Credential(a.Credential)
	if !ok {
		return nil
	}
	if _, ok := c.Current(); !ok {
		return nil
	}
	return c
}

func (p *planner) canReset() bool { return p.via() != nil }

// alarm ends a rotation after which nobody knows which secret is true.
func (p *planner) alarm() Step {
	return p.end(events.RotationUnknown, events.SecretID{}, fmt.Sprintf("none of %d known secrets was accepted", len(p.c.Candidates())))
}

func (p *planner) end(result events.RotationResult, v events.SecretID, detail string) Step {
	return Step{Kind: End, Result: result, Version: v, Detail: detail}
}
