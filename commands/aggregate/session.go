package aggregate

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Session is a running session. Nothing is kept of one that has ended.
type Session struct {
	ID         events.SessionID
	User       events.UserID
	Account    events.AccountID
	Target     events.TargetID
	Credential events.CredentialID
	Secret     events.SecretID
	Grant      events.GrantID   // what allowed it, or
	Request    events.RequestID // with
	Approvals  []uuid.UUID      // events
	Source     string           // client's address
	Started    *Mark            // its Origin is the site that runs the session
	Connected  bool             // the target accepted the login

	kills heads[string]
	ends  []otherEnd
}

// otherEnd is the end of something that is told in another log than that in which
// it began: its site goes on in a new one, since it lost the end of the old one.
// What that told may yet come, after or before this, and counts as if nothing had
// been told elsewhere.
type otherEnd struct {
	at    *Mark
	crash bool
	Ended // of a rotation
}

// Killed reports whether somebody asked for the session's end, with the event
// that asked and the reason given; of several the newest.
func (n *Session) Killed() (at *Mark, reason string, ok bool) {
	if len(n.kills) == 0 {
		return nil, "", false
	}
	h := n.kills.newest()
	return h.at, h.value, true
}

// runsAt reports whether an event is of the site that the session runs at.
func (n *Session) runsAt(at *Mark) bool { return n.Started.Origin.Site == at.Origin.Site }

var _ = fold(func(s *State, at *Mark, e events.SessionStarted) bool {
	id := events.SessionID{UUID: at.Stream}
	if s.sessions[id] != nil {
		return false
	}
	s.sessions[id] = &Session{
		ID: id, User: e.User, Account: e.Account, Target: e.Target, Credential: e.Credential,
		Secret: e.Secret, Grant: e.Grant, Request: e.Request, Approvals: e.Approvals, Source: e.Source, Started: at,
	}
	return true
})

var _ = fold(func(s *State, at *Mark, _ events.SessionConnected) bool {
	n := s.sessions[events.SessionID{UUID: at.Stream}]
	if n == nil || !n.runsAt(at) {
		return false
	}
	n.Connected = true
	return true
})

var _ = foldAway(func(s *State, at *Mark, e events.SessionKillRequested) bool {
	n := s.sessions[events.SessionID{UUID: at.Stream}]
	if n == nil || !n.runsAt(at) && !s.decides(at, events.AreaAccess) {
		return false
	}
	n.kills.put(at, e.Reason)
	return true
})

var _ = foldAway(func(s *State, at *Mark, e events.SessionEnded) bool {
	id := events.SessionID{UUID: at.Stream}
	n := s.sessions[id]
	if n == nil || !n.runsAt(at) {
		return false // only its own site can tell
	}
	c := s.credentials[n.Credential]
	if at.Origin != n.Started.Origin {
		n.ends = append(n.ends, otherEnd{at: at, crash: e.Reason == events.EndedByCrash})
		if c != nil {
			c.endedElsewhere[id] = n
		}
		return true
	}
	delete(s.sessions, id)
	if c != nil {
		delete(c.endedElsewhere, id)
	}
	if e.Reason == events.EndedByCrash {
		s.lost(at, n)
	}
	s.use(at, n)
	return true
})

// SessionLets tells why what allowed a session does not let it go on; empty if
// it does.
func (s *State) SessionLets(n *Session, now time.Time) string {
	if !n.Request.IsZero() {
		return s.RequestLets(s.requests[n.Request], n.Approvals, now)
	}
	return grantEnded(s.GrantLets(n.Grant, n.User, n.Account, now))
}

// SessionUntil is the next moment at which time alone may end what allows a
// session; zero for none.
func (s *State) SessionUntil(n *Session, now time.Time) time.Time {
	if r := s.requests[n.Request]; r != nil {
		return s.requestEnd(r, n.Approvals)
	}
	if g := s.grants[n.Grant]; g != nil {
		return g.Until(now)
	}
	return time.Time{}
}

// Session finds a running session by id.
func (s *State) Session(id events.SessionID) (*Session, bool) {
	n, ok := s.sessions[id]
	if !ok || len(n.ends) > 0 {
		return nil, false
	}
	return n, true
}

// CountSessions counts the running sessions that match.
func (s *State) CountSessions(match func(*Session) bool) (n int) {
	for _, running := range s.sessions {
		if len(running.ends) == 0 && match(running) {
			n++
		}
	}
	return n
}

// LiveSessions lists all running sessions in the order they started.
func (s *State) LiveSessions() []*Session {
	all := slices.SortedFunc(maps.Values(s.sessions), func(a, b *Session) int { return a.Started.Compare(b.Started) })
	return slices.DeleteFunc(all, func(n *Session) bool { return len(n.ends) > 0 })
}
