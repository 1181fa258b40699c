package aggregate_test

import (
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
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
	switch rapid.IntRange(0, 20).Draw(t, "access event") {
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
	case 8:
		add("policy", events.PolicyAdded{
			Name: name, Selector: "*+*", Requesters: []events.Party{{Anyone: true}}, Approvers: []events.Party{{Role: events.Admin}}, Approvals: uint32(step % 3),
			MaxTime: 3600, MaxUses: 9, Decide: 3600,
		})
	case 9:
		on("policy", events.PolicyRemoved{})
	case 10, 11, 12:
		if account, ok := pick("account"); ok {
			user(func(u events.UserID) { // by the user, or it is none
				e := events.Event(events.RequestMade{User: u, Account: events.AccountID{UUID: account}, Reason: name, For: 60, Uses: 2, Decide: aggregatetest.Epoch.Add(time.Hour)})
				if step%4 == 0 {
					e = events.AccessBreakGlass{User: u, Account: events.AccountID{UUID: account}, Reason: name, For: 60}
				}
				h.request(t, at, step, u, e)
			})
		}
	case 13, 14:
		if id, ok := pick("request"); ok {
			h.write(t, at, id, events.RequestApproved{Uses: 2, Site: h.peers[0].ID, Epoch: 1, Fingerprint: name})
		}
	case 15:
		on("request", events.ApprovalRedeemed{Session: events.SessionID{UUID: aggregatetest.ID("s", step)}})
	case 16:
		on("request", events.RequestDenied{Reason: name})
	case 17:
		on("request", events.RequestWithdrawn{Reason: name})
	case 18:
		on("request", events.RequestReviewed{Verdict: events.Fine, Note: name})
	case 19:
		user(func(u events.UserID) {
			add("glass", events.GlassChangeProposed{Change: events.GlassChange{User: u, Allow: name == "a", Selector: "*+*", MaxTime: 60, Review: 60}})
		})
	case 20:
		on("glass", events.GlassChangeConfirmed{Fingerprint: name})
	case 7:
		role := []events.Role{events.Admin, events.Operator}[step%2]
		h.write(t, at, events.RoleStream(role), events.RoleSet{Role: role, SecondFactor: name == "a", Staleness: events.Strict, Within: uint64(step)})
	}
}

// request lets a user make a request of their own.
func (h *history) request(t *rapid.T, at, step int, u events.UserID, e events.Event) {
	id := aggregatetest.ID("aggregate", step)
	h.ids["request"] = append(h.ids["request"], id)
	h.all = append(h.all, h.peers[at].write(t, id, events.UserActor(u), e))
	h.heard[at] = append(h.heard[at], len(h.all)-1)
}
