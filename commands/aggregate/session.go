package aggregate

import (
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

// isOf reports whether an event is of the site that the session runs at, which
// knew it. So two sites that use one id, of which one betrays, speak each of its own.
func (n *Session) isOf(at *Mark) bool {
	return n.Started.Origin.Site == at.Origin.Site && at.Knows(n.Started)
}

func (n *Session) began() *Mark { return n.Started }
func (n *Session) runs() bool   { return len(n.ends) == 0 }

// own lists the sessions of an event's site under an id.
func (s *State) own(id events.SessionID, at *Mark) []*Session {
	return slices.DeleteFunc(slices.Clone(s.sessions[id]), func(n *Session) bool { return !n.isOf(at) })
}

var _ = fold(func(s *State, at *Mark, e events.SessionStarted) bool {
	id := events.SessionID{UUID: at.Stream}
	if len(s.own(id, at)) > 0 {
		return false
	}
	s.sessions[id] = append(s.sessions[id], &Session{
		ID: id, User: e.User, Account: e.Account, Target: e.Target, Credential: e.Credential,
		Secret: e.Secret, Grant: e.Grant, Request: e.Request, Approvals: e.Approvals, Source: e.Source, Started: at,
	})
	return true
})

var _ = fold(func(s *State, at *Mark, _ events.SessionConnected) bool {
	own := s.own(events.SessionID{UUID: at.Stream}, at)
	for _, n := range own {
		n.Connected = true
	}
	return len(own) > 0
})

var _ = foldAway(func(s *State, at *Mark, e events.SessionKillRequested) bool {
	any := false
	for _, n := range s.sessions[events.SessionID{UUID: at.Stream}] {
		if n.isOf(at) || at.Knows(n.Started) && s.decides(at, events.AreaAccess) {
			n.kills.put(at, e.Reason)
			any = true
		}
	}
	return any
})

var _ = foldAway(func(s *State, at *Mark, e events.SessionEnded) bool {
	id := events.SessionID{UUID: at.Stream}
	known := false
	drop(s.sessions, id, func(n *Session) (gone bool) {
		if !n.isOf(at) {
			return false // only its own site can tell
		}
		known = true
		c := s.credentials[n.Credential]
		if at.Origin != n.Started.Origin {
			n.ends = append(n.ends, otherEnd{at: at, crash: e.Reason == events.EndedByCrash})
			if c != nil {
				c.endedElsewhere[n] = true
			}
			return false
		}
		if c != nil {
			delete(c.endedElsewhere, n)
		}
		if e.Reason == events.EndedByCrash {
			s.lost(at, n)
		}
		s.use(at, n)
		return true
	})
	return known
})

// SessionLets tells why what allowed a session does not let it go on; empty if
// it does.
func (s *State) SessionLets(n *Session, now time.Time) string {
	if s.over(n.Account, n.Started) {
		return "the account was removed, though it may be restored"
	}
	if !n.Request.IsZero() {
		r, _ := s.RequestOf(n)
		return s.requestLets(r, n, now)
	}
	return grantEnded(s.GrantLets(n.Grant, n.User, n.Account, now))
}

// SessionUntil is the next moment at which time alone may end what allows a
// session; zero for none.
func (s *State) SessionUntil(n *Session, now time.Time) time.Time {
	if r, ok := s.RequestOf(n); ok {
		return s.requestEnd(r, n)
	}
	if g, ok := s.Grant(n.Grant); ok {
		return g.Until(now)
	}
	return time.Time{}
}

// Session finds a running session by id.
func (s *State) Session(id events.SessionID) (*Session, bool) {
	return earliest(s.sessions[id], (*Session).began, (*Session).runs)
}

// Gone reports whether nobody reckons with a site any more: it is fenced or has left,
// or all that it carries out was taken over and it has not been heard since. What it
// does now, nobody else hears.
func (s *State) Gone(site events.SiteID) bool {
	if s.Fenced(site) || s.Left(site) {
		return true
	}
	d, moved := s.Holder(site, events.TargetID{})
	return moved && d.Holder != site && !d.Given && !s.wroteSince(site, d.At)
}

// Abandoned reports whether a session, as it is seen at a site, has no end that could
// be heard: it ran at another site, which is gone.
func (s *State) Abandoned(n *Session, here events.SiteID) bool {
	return n.Started.Origin.Site != here && s.Gone(n.Started.Origin.Site)
}

// CountSessions counts the running sessions that match, as they are seen at a site:
// those of sites that are gone take nobody's place.
func (s *State) CountSessions(here events.SiteID, match func(*Session) bool) (count int) {
	for _, of := range s.sessions {
		for _, n := range of {
			if n.runs() && match(n) && !s.Abandoned(n, here) {
				count++
			}
		}
	}
	return count
}

// LiveSessions lists all running sessions in the order they started.
func (s *State) LiveSessions() []*Session {
	return slices.DeleteFunc(flat(s.sessions, (*Session).began), func(n *Session) bool { return !n.runs() })
}
