package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
)

// A window that closes ends the session within a second, and the right is then gone.
func TestAWindowThatClosesEndsTheSession(t *testing.T) {
	// Windows end at full minutes, so the gateway's clock is set to shortly before the next one but one.
	real := time.Now()
	end := real.Truncate(time.Minute).Add(2 * time.Minute)
	ahead := end.Add(-4 * time.Second).Sub(real)
	s := newSite(t, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(ahead) } })
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	s.users["ada"].key = bob.key // s.ssh is bob's now
	window := fmt.Sprintf("daily@%s-%s", real.UTC().Add(-time.Hour).Format("15:04"), end.UTC().Format("15:04"))
	s.asAdmin(commands.AddGrant{User: "bob", Account: d.User, Target: "web1", Windows: []string{window}})
	wait := s.started(d)
	errs, exit := wait()
	if exit != 255 {
		t.Errorf("exit %d", exit)
	}
	s.want(errs, "the time of the grant is over")
	if e := s.ended(1); e.Reason != events.EndedByPolicy || !e.Complete {
		t.Errorf("ended %+v", e)
	}
	if late := s.lastEvent().Add(ahead).Sub(end); late < 0 || late > time.Second {
		t.Errorf("it ended %s after the window", late)
	}
}
