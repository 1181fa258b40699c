package aggregate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Digest is a hash over everything the state holds, for tests and for
// comparing sites: the same records, in any causal order, give the same digest.
func (s *State) Digest() string {
	h := sha256.New()
	for _, line := range s.lines() {
		_, _ = io.WriteString(h, line)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// lines writes out every aggregate, in an order that depends on nothing else.
func (s *State) lines() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)+"\n") }
	for id, t := range s.sites {
		add("site %s %q %s %q %q made %s runs %s mesh %s full %s %s", id, t.Name, showHeads(t.sealing), t.HostKey, t.CA, show(t.Created),
			showHeads(t.runs), showHeads(t.mesh), showFull(t, "ctl"), showFull(t, "rec"))
	}
	for _, t := range s.sites {
		all = append(all, t.authorityLines()...)
	}
	for id, u := range s.users {
		add("user %s %q %s made %s disabled %s limits %s", id, u.Name, u.Role, show(u.Added), showMarks(u.disabled), showHeads(u.limits))
		for f, k := range u.keys {
			add("key %s of %s %s", f, id, showHeads(*k))
		}
	}
	for id, t := range s.targets {
		add("target %s %q %q %s made %s %s host keys %s algorithms %s limits %s params %s", id, t.Name, t.Addr, t.Kind, show(t.Added),
			t.archive.String(), showHeads(t.hostKeys), showHeads(t.algorithms), showHeads(t.limits), showHeads(t.params))
	}
	for id, a := range s.accounts {
		add("account %s %q %s %s made %s %s via %s params %s", id, a.Name, a.Target, a.Credential, show(a.Added), a.archive.String(),
			showHeads(a.via), showHeads(a.params))
	}
	all = append(all, s.secretLines()...)
	for subject, of := range s.rights {
		for scope, r := range of {
			add("right %v %v removed %s", subject, scope, showMarks(r.removed))
		}
	}
	for _, g := range s.Grants() {
		add("grant %s %v %v from %s to %s %v %+v made %s", g.ID, g.Subject, g.Scope, g.From, g.Expires, g.Windows, g.Terms, show(g.Added))
	}
	for _, n := range flat(s.sessions, (*Session).began) {
		add("session %s %s %s %s %s %s %s %q started %s connected %t kills %s ends %s", n.ID, n.User, n.Account, n.Target,
			n.Credential, n.Secret, n.Grant, n.Source, show(n.Started), n.Connected, showHeads(n.kills), showEnds(n.ends))
	}
	s.meshLines(add)
	s.twinLines(add)
	s.barredLines(add)
	s.dutyLines(add)
	s.successionLines(add)
	s.erasureLines(add)
	for origin, l := range s.logs {
		if size := s.held(origin, l.position); size > 0 { // one that counts for nothing is not given on
			add("log %s %d", origin, size)
		}
	}
	all = append(all, s.caLines()...)
	all = append(all, s.accessLines()...)
	all = append(all, s.factorLines()...)
	all = append(all, indexLines("user name", s.usersByName)...)
	all = append(all, indexLines("user key", s.usersByKey)...)
	all = append(all, indexLines("target name", s.targetsByName)...)
	all = append(all, indexLines("account name", s.accountsByName)...)
	slices.Sort(all)
	return all
}

func indexLines[K, ID comparable](what string, x index[K, ID]) []string {
	var out []string
	for key, ids := range maps.All(x) {
		for _, id := range ids {
			out = append(out, fmt.Sprintf("%s %v %v\n", what, key, id))
		}
	}
	return out
}

func showFull(t *Site, log string) string {
	for kind, h := range t.full {
		if string(kind) == log {
			return showHeads(*h)
		}
	}
	return "-"
}

func show(m *Mark) string {
	if m == nil {
		return "-"
	}
	return fmt.Sprintf("%s:%d", m.Origin, m.Position)
}

func showMarks(marks []*Mark) string {
	var parts []string
	for _, m := range marks {
		parts = append(parts, show(m))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func showHeads[T any](h heads[T]) string {
	var parts []string
	for _, v := range h {
		parts = append(parts, fmt.Sprintf("%s=%+v", show(v.at), v.value))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
