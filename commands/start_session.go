package commands

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// StartSession lets a user who proved a key through to an account. Give it to
// [Dispatcher.StartSession].
type StartSession struct {
	User        events.UserID
	Fingerprint string // of the key that was proven
	Account     string // names as the person wrote them
	Target      string
	Login       string                 // SSH user name as sent
	Source      string                 // client's address
	Client      string                 // client's SSH version line
	Jump        string                 // host that the client jumped to; empty without a jump
	Certificate *aggregate.Certificate // verified, by which the key is the user's; nil for a key on record
	Factor      events.Factor          // how the login proved a second factor; zero for none
}

var _ = register[StartSession]("StartSession", byCommand)

// Started is everything that the gateway needs to run a session that was let
// through, as it stood when it was.
type Started struct {
	Session    events.SessionID
	Event      events.Record // session.started
	UserName   string
	Account    string
	Target     events.TargetID
	TargetName string
	Addr       string
	HostKeys   []string // authorized_keys form; the target must prove one of them
	Algorithms []string // legacy ones that the target is allowed
	Secret     vault.Sealed
	Principal  string           // for a certificate: whom it names
	Signers    []vault.CA       // and what may sign it, the newest first
	Grant      events.GrantID   // what let it through, or
	Request    events.RequestID // with
	Expires    time.Time        // of the grant; zero for no end
	Terms      events.Terms
}

// path is what a session is made of.
type path struct {
	user    *aggregate.User
	account *aggregate.Account
	target  *aggregate.Target
	pass    pass
	secret  *aggregate.Version
}

// ids are the aggregates that the session depends on.
func (p path) ids() []uuid.UUID {
	ids := []uuid.UUID{p.user.ID.UUID, p.account.ID.UUID, p.target.ID.UUID, p.account.Credential.UUID, events.RoleStream(p.user.Role)}
	if g := p.pass.grant; g != nil {
		return append(ids, g.ID.UUID, g.Group.UUID)
	}
	ids = append(ids, p.pass.request.ID.UUID)
	for _, policy := range p.pass.request.Policies() {
		ids = append(ids, policy.UUID)
	}
	return ids
}

// pass is what lets a user through to an account: a grant that stands, or a
// request that was approved or made by breaking the glass.
type pass struct {
	grant    *aggregate.Grant
	request  *aggregate.Request
	standing aggregate.Standing // of the request
	terms    events.Terms
}

// denial is why a session is not let through: reason and detail are for the
// log, message and hint for the person.
type denial struct {
	reason  events.DenyReason
	detail  string
	message string
	hint    string
}

// Decide checks, in this order, the user with their key and their second factor, the
// account, the grant, the target's kind and host keys, the secret and the sessions that run already. To a person without a grant,
// everything about accounts and targets reads the same.
func (c StartSession) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	p, no := c.find(s, by, env)
	if no != nil {
		return denied(by, env, events.AccessDenied{
			Reason: no.reason, Login: c.Login, Source: c.Source, User: c.User, Fingerprint: c.Fingerprint, Detail: no.detail,
		}, no.message, no.hint)
	}
	d := newDecision(by, env)
	session := events.SessionID{UUID: d.id()}
	start := events.SessionStarted{
		User: p.user.ID, Account: p.account.ID, Target: p.target.ID, Credential: p.account.Credential,
		Secret: p.secret.ID, Source: bounded(c.Source, maxText), Client: bounded(c.Client, maxText),
		Fingerprint: c.Fingerprint, Login: bounded(c.Login, maxLogin), Jump: bounded(c.Jump, maxText),
		Certificate: c.certificate(s), Factor: c.Factor,
	}
	if g := p.pass.grant; g != nil {
		start.Grant = g.ID
		d.add(session.UUID, start)
		return d.done()
	}
	r := p.pass.request
	start.Request, start.Reason, start.Ticket, start.BreakGlass = r.ID, r.Reason, r.Ticket, r.BreakGlass
	for _, a := range p.pass.standing.Counted {
		start.Approvals = append(start.Approvals, a.At.ID)
	}
	d.add(session.UUID, start)
	if !r.BreakGlass { // spent in the same commit (rule R12)
		d.add(r.ID.UUID, events.ApprovalRedeemed{Session: session, Approvals: start.Approvals})
	}
	return d.done()
}

func (c StartSession) find(s *aggregate.State, by events.Actor, env Env) (path, *denial) {
	var p path
	var no *denial
	if p.user, no = c.findUser(s, by, env.Now); no != nil {
		return p, no
	}
	if err := s.FactorProven(p.user.ID, c.Factor); err != nil {
		return p, factorDenial(err)
	}
	return c.findReady(s, p.user, env)
}

// findReady is what is asked of a user who has proved who they are.
func (c StartSession) findReady(s *aggregate.State, user *aggregate.User, env Env) (path, *denial) {
	p := path{user: user}
	var no *denial
	if p.account, p.target, no = c.findAccount(s); no != nil {
		return p, no
	}
	if p.pass, no = c.findPass(s, p.user.ID, p.account.ID, env); no != nil {
		return p, no
	}
	if no = findNews(s, user, p.pass, env); no != nil {
		return p, no
	}
	if id, barred := s.Barred(p.ids()...); barred {
		return p, &denial{
			reason: events.NewerDecision, detail: fmt.Sprintf("on %s, which this version can't read", id),
			message: "a newer holdfast has decided something on " + accountOnTarget(c.Account, c.Target) + ", or on your right to it, that this site can't read",
			hint:    "log in through a newer site, or ask for this one to be upgraded",
		}
	}
	if p.secret, no = c.findSecret(s, p); no != nil {
		return p, no
	}
	return p, c.findRoom(s, p, env.Log.Site)
}

// findUser asks again whom the key or the certificate authenticates: it may
// have been taken away, or have run out, since the handshake.
func (c StartSession) findUser(s *aggregate.State, by events.Actor, now time.Time) (*aggregate.User, *denial) {
	u, err := c.proven(s, now)
	if err == nil && u.ID == c.User && by == events.UserActor(u.ID) {
		return u, nil
	}
	if err == nil {
		err = fmt.Errorf("the key is that of user %s", u.ID)
	}
	no := &denial{reason: standing(err), detail: err.Error()}
	switch no.reason {
	case events.UserIsDisabled:
		no.message, no.hint = "your user is disabled", "ask an administrator"
	case events.Suspended:
		no.message, no.hint = "your user or key is suspended", "an administrator has to settle it first"
	case events.BadCertificate:
		no.message, no.hint = "your "+err.Error(), "get a new one and log in again"
	default:
		no.message, no.hint = "your key is not known here", "ask an administrator to add it"
	}
	return nil, no
}

// findAccount gives away that a name exists or is in conflict only to who has
// a grant there.
func (c StartSession) findAccount(s *aggregate.State) (*aggregate.Account, *aggregate.Target, *denial) {
	a, t, err := s.AccountByName(c.Account, c.Target)
	var several *aggregate.ConflictError
	switch {
	case err == nil:
		return a, t, nil
	case errors.As(err, &several):
		no := c.noGrant(events.NameConflict, several.Error())
		if c.grantedOneOf(s, several) {
			no.message = fmt.Sprintf("the name %s stands for more than one %s", accountOnTarget(c.Account, c.Target), several.What)
			no.hint = "an administrator has to settle it first"
		}
		return nil, nil, no
	}
	if _, err := s.TargetByName(c.Target); err == nil {
		return nil, nil, c.noGrant(events.UnknownAccount, "the target is known, the account is not")
	}
	return nil, nil, c.noGrant(events.UnknownTarget, "the target is not known")
}

func (c StartSession) grantedOneOf(s *aggregate.State, several *aggregate.ConflictError) bool {
	return slices.ContainsFunc(s.GrantsOf(c.User), func(g *aggregate.Grant) bool {
		return slices.ContainsFunc(s.AccountsUnder(g), func(a *aggregate.Account) bool {
			return a.Name == c.Account && (slices.Contains(several.IDs, a.ID.UUID) || slices.Contains(several.IDs, a.Target.UUID))
		})
	})
}

// findPass takes a grant before a request, so that no approval is spent where
// none is needed.
func (c StartSession) findPass(s *aggregate.State, user events.UserID, account events.AccountID, env Env) (pass, *denial) {
	g, err := s.GrantFor(user, account, env.Now)
	if err == nil {
		return pass{grant: g, terms: g.Terms}, nil
	}
	if r, v := s.RequestFor(user, account, env.Log, env.Now); r != nil {
		return pass{request: r, standing: v, terms: v.Terms}, nil
	}
	if no := c.unready(s, user, account, env.Now); no != nil {
		return pass{}, no
	}
	return pass{}, c.noStanding(g, err)
}

// unready tells a user who has asked what has become of it, if something still
// can come of it.
func (c StartSession) unready(s *aggregate.State, user events.UserID, account events.AccountID, now time.Time) *denial {
	for _, r := range slices.Backward(s.RequestsFor(user, account)) {
		v := s.Standing(r, now)
		if v.State != aggregate.Pending && v.State != aggregate.Approved {
			continue
		}
		no := c.noGrant(events.RequestWaits, fmt.Sprintf("request %s: %s", r.ID, v.Why))
		no.message, no.hint = fmt.Sprintf("your request %s for %s: %s", r.ID, accountOnTarget(c.Account, c.Target), v.Why), "see request show "+r.ID.String()
		return no
	}
	return nil
}

// noStanding is the denial for what [aggregate.State.GrantFor] found.
func (c StartSession) noStanding(g *aggregate.Grant, err error) *denial {
	switch {
	case errors.Is(err, aggregate.ErrExpired):
		no := c.noGrant(events.GrantExpired, fmt.Sprintf("grant %s", g.ID))
		no.message = fmt.Sprintf("your grant for %s ended at %s", accountOnTarget(c.Account, c.Target), g.Expires.UTC().Format(time.RFC3339))
		no.hint = "ask an administrator for a new one"
		return no
	case errors.Is(err, aggregate.ErrNotBegun):
		no := c.noGrant(events.OutsideTime, fmt.Sprintf("grant %s: %v", g.ID, err))
		no.message = fmt.Sprintf("your grant for %s begins at %s", accountOnTarget(c.Account, c.Target), g.From.UTC().Format(time.RFC3339))
		return no
	case errors.Is(err, aggregate.ErrClosed):
		no := c.noGrant(events.OutsideTime, fmt.Sprintf("grant %s: %v", g.ID, err))
		no.message = fmt.Sprintf("your grant for %s is for %s", accountOnTarget(c.Account, c.Target), windowsInWords(g.Windows))
		return no
	case errors.Is(err, aggregate.ErrSuspended):
		no := c.noGrant(events.Suspended, fmt.Sprintf("grant %s: %v", g.ID, err))
		no.message = "your grant for " + accountOnTarget(c.Account, c.Target) + " is suspended"
		no.hint = "an administrator has to settle it first"
		return no
	}
	return c.noGrant(events.NoGrant, "the account is known, the user has no grant for it")
}

func (c StartSession) findSecret(s *aggregate.State, p path) (*aggregate.Version, *denial) {
	if p.target.Kind != events.SSH {
		return nil, &denial{
			reason: events.NoSessions, detail: fmt.Sprintf("the target is of kind %s", p.target.Kind),
			message: fmt.Sprintf("%s is a target of kind %s; sessions lead to ssh targets only", plain(c.Target), p.target.Kind),
		}
	}
	if len(p.target.HostKeys()) == 0 {
		return nil, &denial{
			reason: events.HostKeyUnclear, detail: "sites pinned different host keys",
			message: "it is not clear which host key " + plain(c.Target) + " must prove", hint: "an administrator has to pin it first",
		}
	}
	if err := refuseErasedSecrets(s, p.account, p.target); err != nil { // by whom and why is not for everybody
		return nil, &denial{
			reason: events.NoSecret, detail: err.Error(),
			message: "the secret of " + accountOnTarget(c.Account, c.Target) + " was erased", hint: "an administrator has to remove the account and add it anew",
		}
	}
	if cred, ok := s.Credential(p.account.Credential); ok {
		if cred.Kind == events.UserCertificate {
			return &aggregate.Version{}, nil // each session gets one of its own
		}
		if all := cred.Candidates(); len(all) > 0 {
			return all[0], nil
		}
	}
	return nil, &denial{
		reason: events.NoSecret, detail: fmt.Sprintf("credential %s has no version that can be presented", p.account.Credential),
		message: "there is no secret for " + accountOnTarget(c.Account, c.Target), hint: "ask an administrator to enter one",
	}
}

// findRoom asks whether one session more may run. Sessions at all sites count,
// as far as this one knows of them.
func (c StartSession) findRoom(s *aggregate.State, p path, here events.SiteID) *denial {
	full := func(limit uint32, match func(*aggregate.Session) bool) bool {
		return limit > 0 && s.CountSessions(here, match) >= int(limit)
	}
	name := accountOnTarget(c.Account, c.Target)
	no := &denial{reason: events.TooManySessions}
	switch {
	case full(p.user.MaxSessions(), func(n *aggregate.Session) bool { return n.User == p.user.ID }):
		no.detail = fmt.Sprintf("the limit of user %s is %d", p.user.Name, p.user.MaxSessions())
		no.message = fmt.Sprintf("you may have %s at once, all in use", sessions(p.user.MaxSessions()))
	case full(p.pass.terms.MaxSessions, p.pass.under):
		no.detail = fmt.Sprintf("the limit of %s is %d", p.pass.name(), p.pass.terms.MaxSessions)
		no.message = fmt.Sprintf("your grant for %s allows %s at once, all in use", name, sessions(p.pass.terms.MaxSessions))
	case full(p.target.MaxSessions(), func(n *aggregate.Session) bool { return n.Target == p.target.ID }):
		no.detail = fmt.Sprintf("the limit of target %s is %d", p.target.Name, p.target.MaxSessions())
		no.message, no.hint = fmt.Sprintf("%s takes %s at once, all in use", plain(c.Target), sessions(p.target.MaxSessions())), "try again later"
		return no
	default:
		return nil
	}
	no.hint = "end one of them first"
	return no
}

// under reports whether a session runs by this pass.
func (p pass) under(n *aggregate.Session) bool {
	if p.grant != nil {
		return n.Grant == p.grant.ID
	}
	return n.Request == p.request.ID
}

func (p pass) name() string {
	if p.grant != nil {
		return "grant " + p.grant.ID.String()
	}
	return "request " + p.request.ID.String()
}

func windowsInWords(windows []events.Window) string {
	words := make([]string, len(windows))
	for i, w := range windows {
		words[i] = strings.ReplaceAll(string(w), "@", " ")
	}
	return strings.Join(words, " or ")
}

func sessions(n uint32) string {
	if n == 1 {
		return "1 session"
	}
	return fmt.Sprintf("%d sessions", n)
}

// noGrant is the denial that reads the same whatever is missing.
func (c StartSession) noGrant(reason events.DenyReason, detail string) *denial {
	name := accountOnTarget(c.Account, c.Target)
	return &denial{
		reason: reason, detail: name + ": " + detail,
		message: "no grant for " + name, hint: "check the name, or ask an administrator for a grant, or ask for access: request new " + name + " --reason TEXT --for 1h",
	}
}

// started gathers what the gateway needs from the state right after the event.
func started(s *aggregate.State, r events.Record) (Started, error) {
	n, ok := s.Session(events.SessionID{UUID: r.Header.Stream})
	if !ok {
		return Started{}, fmt.Errorf("session %s is not in the state after its start", r.Header.Stream)
	}
	u, _ := s.User(n.User)
	a, _ := s.Account(n.Account)
	t, _ := s.Target(n.Target)
	c, _ := s.Credential(n.Credential)
	out := Started{
		Session: n.ID, Event: r, UserName: u.Name, Account: a.Name, Target: t.ID, TargetName: t.Name, Addr: t.Addr,
		HostKeys: t.HostKeys(), Algorithms: t.Algorithms(), Grant: n.Grant, Request: n.Request,
		Secret: vault.Sealed{Credential: c.ID, Kind: c.Kind},
	}
	if c.Kind == events.UserCertificate {
		out.Principal, out.Signers = c.Principal, signers(s, r)
	} else {
		v, _ := c.Version(n.Secret)
		out.Secret = sealedVersion(s, c, v)
	}
	if g, ok := s.Grant(n.Grant); ok {
		out.Expires, out.Terms = g.Expires, s.TermsOf(g)
	}
	if q, ok := s.RequestOf(n); ok {
		out.Terms = s.Standing(q, n.Started.Time()).Terms
	}
	return out, nil
}
