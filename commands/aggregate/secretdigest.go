package aggregate

import (
	"fmt"
	"slices"
	"strings"
)

// secretLines writes out credentials, rotations and their policies.
func (s *State) secretLines() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)+"\n") }
	for id, c := range s.credentials {
		add("credential %s %s %s %q %x made %s truth %s clears %s doubts %s alarms %s branches %s revived %s failed %s last %s", id, c.Account, c.Kind, c.Principal, c.Probe, show(c.Added),
			showHeads(c.truth), showHeads(c.clears), showMarks(c.doubts), showMarks(c.alarms), showHeads(c.branches), showMap(c.revived, show), showMarks(c.failed), showHeads(c.last))
		for _, v := range c.versions {
			add("secret %s of %s level %d %x under %s %q staged %s recovered %s held %s sent %s not %v", v.ID, id, v.Level, v.Sealed, v.Key, v.Public, show(v.Staged),
				show(v.recovered), show(v.held), showMap(v.sends, show), showMap(v.not, func(bool) string { return "" }))
		}
		for try, t := range c.tries {
			add("try %v of %s at %s open %t free %t via %s", try, id, show(t.at), t.open, t.free, t.via)
		}
		for version, of := range c.shown {
			for _, e := range of {
				add("shown %s of %s to %s at %s", version, id, e.User, show(e.At))
			}
		}
		for try, all := range c.said {
			for _, a := range all {
				add("announced %s of %s at %s via %s test %t", try, id, show(a.at), a.via, a.test)
			}
		}
		for _, l := range flat(c.leases, (*Lease).granted) {
			add("lease %s of %s %s %s until %s at %s over %t", l.ID, id, l.User, l.Version, l.Until, show(l.Granted), l.over)
		}
		add("resets of %s %s", id, showMarks(c.resets))
		add("uses of %s freed %s used %s", id, showMap(c.freed, show), showMap(c.used, show))
	}
	for _, r := range flat(s.rotations, (*Rotation).began) {
		id := r.ID
		add("rotation %s %s %s %s %t planned %s latest %s staged %s retired %t deferred %s until %s %q ends %s", id, r.Credential, r.Account,
			r.Why, r.SettleOnly, show(r.Planned), show(r.latest), showHeads(r.staged), r.retired, showMarks(r.deferred), r.until, r.why, showEnds(r.ends))
		for _, a := range r.attempts {
			add("attempt %s of %s %s %s for %s at %s: %s at %s %q %t", a.ID, id, a.Version, a.Sent, a.Replaces, show(a.At), a.Answer, show(a.Answered), a.Detail, a.NotPresented)
		}
	}
	for id, h := range s.rotationPolicies {
		add("rotation policy %s %s", id, showHeads(h))
	}
	return all
}

func showEnds(ends []otherEnd) string {
	var parts []string
	for _, e := range ends {
		parts = append(parts, fmt.Sprintf("%s crash %t %s %q", show(e.at), e.crash, e.Result, e.Detail))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func showMap[K comparable, V any](m map[K]V, show func(V) string) string {
	var parts []string
	for k, v := range m {
		parts = append(parts, fmt.Sprintf("%v=%s", k, show(v)))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
