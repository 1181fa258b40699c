package aggregate

import (
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// A site that is fenced may go on by itself, and log in. What it says of that does not
// count, yet the target has seen it. As long as a part of its log that is here tells of
// a login within the window, its share is not the others', and what it tells is taken
// off what is left. That is never more than it might have spent as a member, so whoever
// has its keys can have others log in no less than before the fence.

// maxUnheard is how many logins are kept of what one site says of a credential beyond
// where its logs count: more than any share that is of interest.
const maxUnheard = 16

// noteUnheard takes note of a login of which a record speaks beyond where its log counts.
func (s *State) noteUnheard(h *events.Header, e events.Event) {
	at := tail{h.Site, events.CredentialID{UUID: h.Stream}}
	switch e := e.(type) {
	case events.SecretTried:
	case events.SecretSent:
		if via := s.accounts[e.Via]; via != nil {
			at.credential = via.Credential
		}
	case events.SecretRejected:
		if !e.Try.IsZero() {
			return // announced before
		}
	case events.SecretUnanswered:
		if !e.Try.IsZero() {
			return
		}
	default:
		return
	}
	all := append(s.unheard[at], h.Wall)
	slices.Sort(all)
	if s.unheard == nil {
		s.unheard = map[tail][]int64{}
	}
	s.unheard[at] = all[max(0, len(all)-maxUnheard):]
}

// unheardOf counts the logins of a site since a time of which only a part of its log
// speaks that does not count. What is said to come later has not been.
func (s *State) unheardOf(site events.SiteID, c events.CredentialID, since, now time.Time) (of Spending) {
	for _, wall := range s.unheard[tail{site, c}] {
		if at := time.UnixMicro(wall); !at.Before(since) && !at.After(now) {
			if of.N++; of.N == 1 {
				of.Oldest = at
			}
		}
	}
	return of
}

// addUnheard adds to what sites have spent what they say of it where their logs do not
// count: a member of whose log two branches were met has logged in all the same, and the
// site itself most of all. Of members that are fenced less is believed: unheardSpent.
func (s *State) addUnheard(spent map[events.SiteID]Spending, a *Account, self events.SiteID, since, now time.Time) {
	sites := s.presenters(a)
	if !slices.Contains(sites, self) {
		sites = append(sites, self)
	}
	for _, site := range sites {
		more := s.unheardOf(site, a.Credential, since, now)
		if more.N == 0 || site != self && s.Fenced(site) {
			continue
		}
		of := spent[site]
		if of.N == 0 || more.Oldest.Before(of.Oldest) {
			of.Oldest = more.Oldest
		}
		of.N += more.N
		spent[site] = of
	}
}

// unheardSpent is what sites that are gone are held to have spent beyond what counts:
// each no more than a share, and all of them not all.
func (s *State) unheardSpent(a *Account, self events.SiteID, all int, since, now time.Time) (n int) {
	sites, going := s.touching(a, self, since, now)
	for _, site := range s.presenters(a) {
		if site != self && s.Fenced(site) && !s.Left(self) {
			n += min(s.unheardOf(site, a.Credential, since, now).N, max(1, all/(sites+going)))
		}
	}
	return min(n, max(0, all-1))
}
