package commands

import (
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// overdue tells that a site has had no news of a user's home site for so many
// times as long as the user's role lets it be, empty if it has (rule R10).
// Somebody may have been shut out there meanwhile.
func overdue(s *aggregate.State, u *aggregate.User, env Env, times int) string {
	within, strict := s.Strict(u)
	home := s.HomeOf(u)
	if !strict || env.Silence == nil {
		return ""
	}
	silent := env.Silence(home)
	if silent <= time.Duration(times)*within {
		return ""
	}
	name := home.String()
	if t, ok := s.Site(home); ok {
		name = t.Name
	}
	return fmt.Sprintf("nothing was heard of site %s for %s, and role %s allows for %s", name, silent.Round(time.Second), u.Role, time.Duration(times)*within)
}

// findNews refuses a session of somebody who may have been shut out elsewhere,
// unless the glass is broken for it.
func findNews(s *aggregate.State, u *aggregate.User, p pass, env Env) *denial {
	if p.request != nil && p.request.BreakGlass {
		return nil
	}
	why := overdue(s, u, env, 1)
	if why == "" {
		return nil
	}
	return &denial{reason: events.Stale, detail: why, message: "this site can't know now whether you may: " + why,
		hint: "try at another site, or break the glass if you may"}
}
