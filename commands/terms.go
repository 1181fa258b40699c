package commands

import (
	"errors"
	"slices"

	"github.com/holdfast-pam/holdfast/commands/destination"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	maxRules   = 64               // of one list of a grant
	maxSeconds = 10 * 365 * 86400 // of a limit
)

// checkTerms checks the terms of a grant and gives them in order, each once.
func checkTerms(t events.Terms) (events.Terms, error) {
	for _, w := range t.Allow {
		if w != events.Local && w != events.Remote && w != events.Agent {
			return t, invalid("use some of: local remote agent (dynamic forwarding is local)", "%s is no way that a grant can allow", quoted(string(w)))
		}
	}
	for _, v := range t.Services {
		if v != events.ShellService && v != events.ExecService && v != events.SFTPService && v != events.SubsystemService {
			return t, invalid("use some of: shell exec sftp subsystem", "%s is no service that a grant can allow", quoted(string(v)))
		}
	}
	for _, v := range t.Deny {
		if v != events.Upload && v != events.Download {
			return t, invalid("use some of: upload download", "%s is no transfer that a grant can deny", quoted(string(v)))
		}
	}
	for _, list := range [][]string{t.To, t.Listen} {
		if err := checkRules(list); err != nil {
			return t, err
		}
	}
	for _, pair := range []struct {
		way   events.Way
		rules []string
		name  string
	}{{events.Local, t.To, "destination"}, {events.Remote, t.Listen, "listener"}} {
		allowed := slices.Contains(t.Allow, pair.way)
		switch {
		case allowed && len(pair.rules) == 0:
			return t, invalid("say which, for example *:* for all but the target's own", "%s forwarding without a %s leads nowhere", pair.way, pair.name)
		case !allowed && len(pair.rules) > 0:
			return t, invalid("allow "+string(pair.way)+" as well", "a %s says nothing without %s forwarding", pair.name, pair.way)
		}
	}
	if max(t.MaxTime, t.Idle) > maxSeconds {
		return t, invalid("leave it out for no limit", "a limit of more than ten years is none")
	}
	t.Allow, t.To, t.Listen, t.Services, t.Deny = unique(t.Allow), unique(t.To), unique(t.Listen), unique(t.Services), unique(t.Deny)
	return t, nil
}

func checkRules(list []string) error {
	if len(list) > maxRules {
		return invalid("use networks or domains", "there are %d rules, the limit is %d", len(list), maxRules)
	}
	for _, text := range list {
		_, err := destination.Parse(text)
		var bad *destination.Error
		if errors.As(err, &bad) {
			return invalid(bad.Why, "%s is no destination", quoted(text))
		}
	}
	return nil
}

func unique[T ~string](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// covers reports whether sessions under terms a may do all that they may under
// b, as far as the rules say the same in the same words.
func covers(a, b events.Terms) bool {
	return (len(a.Services) == 0 || len(b.Services) > 0 && holds(a.Services, b.Services)) && holds(b.Deny, a.Deny) && holds(a.Allow, b.Allow) && holds(a.To, b.To) && holds(a.Listen, b.Listen) &&
		reaches(a.MaxTime, b.MaxTime) && reaches(a.Idle, b.Idle) && reaches(uint64(a.MaxSessions), uint64(b.MaxSessions))
}

func holds[T comparable](a, b []T) bool {
	return !slices.ContainsFunc(b, func(v T) bool { return !slices.Contains(a, v) })
}

// reaches compares limits, of which 0 is none.
func reaches(a, b uint64) bool { return a == 0 || b != 0 && a >= b }
