package aggregate

import "fmt"

// accessLines writes out groups, labels, roles, policies, requests and who may
// break the glass.
func (s *State) accessLines() (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)+"\n") }
	for id, g := range s.groups {
		add("group %s %q made %s removed %t", id, g.Name, show(g.Added), g.Removed)
		for user, h := range g.members {
			add("member %s of %s %s", user, id, showHeads(*h))
		}
	}
	for id, t := range s.targets {
		for key, h := range t.labels {
			add("label %s of %s %s", key, id, showHeads(*h))
		}
		if t.unlabelled {
			add("unlabelled %s", id)
		}
	}
	for role, h := range s.roles {
		add("role %s %s", role, showHeads(*h))
	}
	for id, p := range s.policies {
		add("policy %s %+v made %s removed %t", id, p.PolicyAdded, show(p.Added), p.Removed)
	}
	for _, r := range s.Requests() {
		id := r.ID
		add("request %s %s %s %q %q %s %s %d %s %q %t %s made %s under %v denied %s withdrawn %s", id, r.User, r.Account, r.Reason, r.Ticket, r.From,
			r.For, r.Uses, r.Decide, r.Fingerprint, r.BreakGlass, r.Review, show(r.Made), r.policies, showHeads(r.denied), showHeads(r.withdrawn))
		for _, a := range r.approvals {
			add("approval of %s by %s %d %q %q %s given %s", id, a.By, a.Uses, a.Fingerprint, a.Note, a.redeemer, show(a.At))
		}
		for event, session := range r.redeemed {
			add("redeemed %v of %s for %s", event, id, session)
		}
		for _, v := range r.reviews {
			add("review of %s by %s %s %q %q given %s", id, v.By, v.Verdict, v.Note, v.fingerprint, show(v.At))
		}
	}
	for id, p := range s.proposals {
		add("glass proposal %s %+v %q %q made %s confirmed %t", id, p.Change, p.Reason, p.Fingerprint, show(p.At), p.Confirmed)
	}
	for user, words := range s.glass {
		for _, w := range words {
			add("glass of %s %+v %q %s", user, w.change, w.fingerprint, show(w.at))
		}
	}
	for fingerprint, users := range s.keyHolders {
		for user, marks := range users {
			add("key %q was held by %s %s", fingerprint, user, showMarks(marks))
		}
	}
	all = append(all, indexLines("policy name", s.policiesByName)...)
	return append(all, indexLines("group name", s.groupsByName)...)
}
