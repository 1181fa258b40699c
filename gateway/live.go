package gateway

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// LiveSession is a session that runs here, as it is now.
type LiveSession struct {
	ID                   events.SessionID
	User                 events.UserID
	UserName             string
	Account, Target      string
	Grant                events.GrantID
	Source               string
	Started              time.Time
	Connected            bool // the target accepted the login
	In, Out              events.Cursors
	account              events.AccountID
	target               events.TargetID
	fingerprint, console string
	certificate          *aggregate.Certificate // nil where the key is on record
}

// stop ends a live connection: why, for the log; a text for the person; and the event that caused it, zero for none.
type stop struct {
	reason  events.EndReason
	detail  string
	text    string
	because uuid.UUID
}

// live is one connection of a known user: a session on its way or running, or a console.
type live struct {
	LiveSession
	tcp *net.TCPConn // of a console; nil where it is no TCP

	mu      sync.Mutex
	cancel  context.CancelFunc // of the login at the target
	expiry  *time.Timer        // of the grant
	running *session
	hangUp  func(text string) // of a console
	stopped *stop             // the first one stands
	left    bool              // the connection has ended
}

// stop ends it now.
func (e *live) stop(s stop) {
	e.mu.Lock()
	if e.stopped != nil {
		e.mu.Unlock()
		return
	}
	e.stopped = &s
	running, hangUp, cancel := e.running, e.hangUp, e.cancel
	e.mu.Unlock()
	switch {
	case running != nil:
		running.End(s.reason, s.detail, s.text)
	case hangUp != nil:
		hangUp(s.text)
	case cancel != nil:
		cancel()
	}
}

// why is the stop that was asked for, nil for none.
func (e *live) why() *stop {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stopped
}

// run says that the session relays from now on. A stop that came before ends it at once.
func (e *live) run(s *session) {
	e.mu.Lock()
	e.running = s
	before := e.stopped
	e.mu.Unlock()
	if before != nil {
		s.End(before.reason, before.detail, before.text)
	}
}

func (e *live) look() LiveSession {
	l := e.LiveSession
	e.mu.Lock()
	running := e.running
	e.mu.Unlock()
	if running != nil {
		l.Connected = true
		l.In, l.Out = running.cursors()
	}
	return l
}

// lives holds the live connections.
type lives struct {
	mu  sync.Mutex
	all map[*live]struct{}
}

func (l *lives) add(e *live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[*live]struct{}{}
	}
	l.all[e] = struct{}{}
}

// enlist makes a connection known to whoever may end it.
func (s *Server) enlist(e *live) {
	s.lives.add(e)
	if s.isDown() { // Shutdown may have gone through the list before
		e.stop(shutdown)
	}
}

var shutdown = stop{reason: events.EndedByShutdown, detail: "the site stops", text: "this gateway is stopping"}

func (l *lives) remove(e *live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, e)
	e.disarm()
}

func (l *lives) list() []*live {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*live, 0, len(l.all))
	for e := range l.all {
		all = append(all, e)
	}
	return all
}

// Live lists the sessions that run here, in the order of their start.
func (s *Server) Live() []LiveSession {
	var all []LiveSession
	for _, e := range s.lives.list() {
		if e.console == "" {
			all = append(all, e.look())
		}
	}
	slices.SortFunc(all, func(a, b LiveSession) int {
		return cmp.Or(a.Started.Compare(b.Started), slices.Compare(a.ID.UUID[:], b.ID.UUID[:]))
	})
	return all
}

// OnEvent ends the live sessions and consoles whose right an event takes away. It is to be told of every record of the
// ctl logs after it was applied, its own site's and others'; a record told twice does no harm.
func (s *Server) OnEvent(r events.Record) {
	switch r.Header.Type {
	case "session.kill_requested":
		s.kill(r)
	case "user.disabled", "user.key_removed", "grant.removed", "account.removed", "target.removed",
		"ca.distrusted", "ca.certificate_revoked", "group.member_removed", "group.removed",
		"target.label_set", "target.label_removed", "request.denied", "request.withdrawn", "policy.added", "policy.removed",
		"glass.change_confirmed":
		s.review(r.Header.ID)
	}
}

func (s *Server) kill(r events.Record) {
	text, detail := "this session was ended by an administrator", ""
	if e, err := r.Event(); err == nil {
		detail = e.(events.SessionKillRequested).Reason
	}
	if detail != "" {
		text += ": " + plain(detail)
	}
	for _, e := range s.lives.list() {
		if e.console == "" && e.ID.UUID == r.Header.Stream {
			e.stop(stop{events.EndedByKill, detail, text, r.Header.ID})
		}
	}
}

// review ends whatever has no right to go on; because is the event that gave reason to look.
func (s *Server) review(because uuid.UUID) {
	for _, e := range s.lives.list() {
		if s.check(e, because); e.console == "" {
			s.expire(e)
		}
	}
}

// check ends a connection that has no right to go on; because is zero when no event gave reason to look.
func (s *Server) check(e *live, because uuid.UUID) {
	if reason, why := s.standing(e); reason != "" {
		text := "your access ended: " + why
		if why == aggregate.GrantExpired {
			text = "your grant for this account has expired"
		}
		e.stop(stop{reason, why, text, because})
	}
}

// standing tells why a connection may not go on; both are empty if it may.
func (s *Server) standing(e *live) (reason events.EndReason, why string) {
	now := s.cfg.Now()
	defer func() {
		if why != "" && reason == "" {
			reason = events.EndedByPolicy
		}
	}()
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		u, ok := state.User(e.User)
		switch {
		case !ok || state.UserStands(e.User) != nil:
			why = "the user is disabled or suspended"
			return
		case e.certificate != nil && state.CertificateStands(e.certificate, e.User) != nil:
			why = "the certificate was revoked or its authority is not trusted any more"
			return
		case e.certificate == nil && !u.HasKey(e.fingerprint):
			why = "the user's key was taken away"
			return
		case e.console != "":
			return
		}
		n, okSession := state.Session(e.ID)
		if why = s.silence(state, u, n); why != "" {
			return
		}
		a, okAccount := state.Account(e.account)
		t, okTarget := state.Target(e.target)
		switch {
		case !okAccount || a.Removed:
			why = "the account was removed"
		case !okTarget || t.Removed:
			why = "the target was removed"
		}
		if okSession && why == "" {
			why = state.SessionLets(n, now)
			if _, text, killed := n.Killed(); killed {
				reason, why = events.EndedByKill, "ended by an administrator: "+plain(text)
			}
		}
	})
	return reason, why
}

// silence tells that a session may not go on for want of news of its user's home
// site; one by break-glass may.
func (s *Server) silence(state *aggregate.State, u *aggregate.User, n *aggregate.Session) string {
	if n != nil && !n.Request.IsZero() {
		if r, ok := state.RequestOf(n); ok && r.BreakGlass {
			return ""
		}
	}
	return s.cfg.Dispatcher.Silence(state, u)
}

// expire ends the session when time alone ends its right: it looks again whenever that may be so, by the wall clock.
func (s *Server) expire(e *live) {
	var until time.Time
	now := s.cfg.Now()
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		if n, ok := state.Session(e.ID); ok {
			until = state.SessionUntil(n, now)
		}
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.expiry != nil {
		e.expiry.Stop()
	}
	if e.left || until.IsZero() {
		return
	}
	e.expiry = time.AfterFunc(until.Sub(now), func() {
		s.check(e, uuid.Nil)
		if e.why() == nil {
			s.expire(e)
		}
	})
}

// disarm forgets the expiry of a connection that has ended.
func (e *live) disarm() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left = true
	if e.expiry != nil {
		e.expiry.Stop()
	}
}

// Review looks at all sessions again, for what time alone takes away.
func (s *Server) Review() { s.review(uuid.Nil) }

// ClockSet is to be called when the wall clock was set: what ends by it is looked at again. because is the event that says
// so, zero for none.
func (s *Server) ClockSet(because uuid.UUID) { s.review(because) }
