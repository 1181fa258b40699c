package aggregate_test

import (
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
)

// access makes one event about who may do what.
func (h *history) access(t *rapid.T, at, step int, pick picker, add, on func(string, events.Event)) {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "value")
	user := func(f func(events.UserID)) {
		if id, ok := pick("user"); ok {
			f(events.UserID{UUID: id})
		}
	}
	switch rapid.IntRange(0, 7).Draw(t, "access event") {
	case 0:
		add("group", events.GroupAdded{Name: name})
	case 1, 2:
		user(func(u events.UserID) { on("group", events.GroupMemberAdded{User: u}) })
	case 3:
		user(func(u events.UserID) { on("group", events.GroupMemberRemoved{User: u}) })
	case 4:
		on("group", events.GroupRemoved{})
	case 5:
		on("target", events.TargetLabelSet{Key: "env", Value: name})
	case 6:
		on("target", events.TargetLabelRemoved{Key: "env"})
	case 7:
		role := []events.Role{events.Admin, events.Operator}[step%2]
		h.write(t, at, events.RoleStream(role), events.RoleSet{Role: role, SecondFactor: name == "a", Staleness: events.Strict, Within: uint64(step)})
	}
}
