package commands_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

func TestAddUser(t *testing.T) {
	added := []string{"user.added", "user.key_added"}
	eve := func(k string) func(*world) commands.Command {
		return always(commands.AddUser{Name: "eve", Role: events.Operator, Key: k})
	}
	runAll(t, []scenario{
		{name: "by an admin", by: "ada", when: eve(key("eve")), then: added},
		{name: "by the site, for the first admin", by: "site", when: eve(key("eve")), then: added},
		{name: "name taken", by: "ada", when: always(commands.AddUser{Name: "olaf", Role: events.Operator, Key: key("eve")}), code: commands.Conflict, says: "user olaf exists"},
		{
			name: "name of a disabled user", by: "ada", then: added,
			given: func(w *world) { w.do("ada", commands.DisableUser{User: "olaf"}) },
			when:  always(commands.AddUser{Name: "olaf", Role: events.Operator, Key: key("olaf")}),
		},
		{name: "key of another user", by: "ada", when: eve(key("olaf")), code: commands.Conflict, says: "user olaf has this key"},
		{name: "no such role", by: "ada", when: always(commands.AddUser{Name: "eve", Role: "root", Key: key("eve")}), code: commands.Invalid, says: "not a role"},
		{name: "bad name", by: "ada", when: always(commands.AddUser{Name: "e+ve", Role: events.Operator, Key: key("eve")}), code: commands.Invalid, says: "not a valid user name"},
		{name: "key with options", by: "ada", when: eve(`from="10.0.0.1" ` + key("eve")), code: commands.Invalid, says: "options"},
	})
}

func TestAKeyIsStoredWithoutWhatSurroundsIt(t *testing.T) {
	w := newWorld(t)
	w.do("ada", commands.AddUser{Name: "eve", Role: events.Operator, Key: " " + key("eve") + "  eve@\x1b[31mlaptop\u202e " + "\n"})
	got := last[events.UserKeyAdded](t, w)
	want := events.UserKeyAdded{Key: key("eve"), Fingerprint: fingerprint("eve"), Comment: "eve@[31mlaptop"}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if u, err := w.state.UserByKey(fingerprint("eve")); err != nil || u.Name != "eve" {
		t.Errorf("the key does not let eve in: %v", err)
	}
}

func TestUserKeys(t *testing.T) {
	second := func(w *world) { w.do("ada", commands.AddUserKey{User: "ada", Key: key("ada2")}) }
	runAll(t, []scenario{
		{name: "another key", by: "ada", when: always(commands.AddUserKey{User: "olaf", Key: key("olaf2")}), then: []string{"user.key_added"}},
		{name: "another user's key", by: "ada", when: always(commands.AddUserKey{User: "olaf", Key: key("aud")}), code: commands.Conflict, says: "user aud has this key"},
		{name: "unknown user", by: "ada", when: always(commands.AddUserKey{User: "eve", Key: key("eve")}), code: commands.NotFound, says: "user ls"},
		{
			name: "disabled user by id", by: "ada", code: commands.Conflict, says: "disabled",
			given: func(w *world) { w.do("ada", commands.DisableUser{User: "olaf"}) },
			when: func(w *world) commands.Command {
				return commands.AddUserKey{User: w.user("olaf").ID.String(), Key: key("x")}
			},
		},
		{name: "take a key", by: "ada", when: always(commands.RemoveUserKey{User: "olaf", Fingerprint: fingerprint("olaf")}), then: []string{"user.key_removed"}},
		{name: "take a key that is not there", by: "ada", when: always(commands.RemoveUserKey{User: "olaf", Fingerprint: fingerprint("aud")}), code: commands.NotFound, says: "no key"},
		{name: "take the last admin's last key", by: "ada", when: always(commands.RemoveUserKey{User: "ada", Fingerprint: fingerprint("ada")}), code: commands.Conflict, says: "last administrator"},
		{name: "take one of the last admin's keys", given: second, by: "ada", when: always(commands.RemoveUserKey{User: "ada", Fingerprint: fingerprint("ada")}), then: []string{"user.key_removed"}},
	})
}

func TestLimits(t *testing.T) {
	runAll(t, []scenario{
		{name: "of a user", by: "ada", when: always(commands.LimitUser{User: "olaf", MaxSessions: 2}), then: []string{"user.limits_set"}},
		{name: "of an unknown user", by: "ada", when: always(commands.LimitUser{User: "eve"}), code: commands.NotFound, says: "user ls"},
		{name: "of a target", by: "ada", when: always(commands.LimitTarget{Target: "web1", MaxSessions: 2}), then: []string{"target.limits_set"}},
		{name: "of an unknown target", by: "ada", when: always(commands.LimitTarget{Target: "web2"}), code: commands.NotFound, says: "target ls"},
	})
}

func TestDisableUser(t *testing.T) {
	admin := func(w *world) { w.do("ada", commands.AddUser{Name: "bea", Role: events.Admin, Key: key("bea")}) }
	runAll(t, []scenario{
		{name: "an operator", by: "ada", when: always(commands.DisableUser{User: "olaf", Reason: "left"}), then: []string{"user.disabled"}},
		{name: "the last admin", by: "ada", when: always(commands.DisableUser{User: "ada"}), code: commands.Conflict, says: "last administrator"},
		{name: "one of two admins", given: admin, by: "bea", when: always(commands.DisableUser{User: "ada"}), then: []string{"user.disabled"}},
		{
			name: "an admin beside one without a key", by: "ada", code: commands.Conflict, says: "last administrator",
			given: func(w *world) {
				admin(w)
				w.do("ada", commands.RemoveUserKey{User: "bea", Fingerprint: fingerprint("bea")})
			},
			when: always(commands.DisableUser{User: "ada"}),
		},
		{name: "nobody of that name", by: "ada", when: always(commands.DisableUser{User: "eve"}), code: commands.NotFound, says: `no user "eve"`},
		{
			name: "twice", by: "ada", code: commands.Conflict, says: "is disabled",
			given: func(w *world) { w.do("ada", commands.DisableUser{User: "olaf"}) },
			when:  func(w *world) commands.Command { return commands.DisableUser{User: w.user("olaf").ID.String()} },
		},
		{name: "reason with an escape", by: "ada", when: always(commands.DisableUser{User: "olaf", Reason: "\x1b[2J"}), code: commands.Invalid, says: "control character"},
		{name: "reason too long", by: "ada", when: always(commands.DisableUser{User: "olaf", Reason: strings.Repeat("x", 513)}), code: commands.Invalid, says: "limit"},
	})
}

// After a split two users may have one name: each can still be named by id.
func TestANameInConflictIsSettledById(t *testing.T) {
	w := newWorld(t)
	twin := aggregatetest.ID("twin", 0)
	w.fact(twin, events.UserAdded{Name: "olaf", Role: events.Operator})
	_, err := w.d.Do(t.Context(), w.actor("ada"), commands.DisableUser{User: "olaf"})
	if err == nil || !strings.Contains(err.Error(), twin.String()) {
		t.Fatalf("got %v, want a conflict that names both", err)
	}
	w.do("ada", commands.DisableUser{User: twin.String()})
	w.do("ada", commands.DisableUser{User: "olaf"})
}

// Every command that is not for everybody must refuse everybody else, and say
// so in the log. Commands that come later are in this test by being registered.
func TestAttackOnlyTheRightActorsGiveCommands(t *testing.T) {
	bySite := []string{
		"RestoreSite", "FoundMesh", "AdmitSite", "RecordSync", "RecordFork", "RecordMasked", "NotePresence", "NoteKeeping", "RecordRevision", "BreakExclusivity", "RecordAccounts", "YieldDuties", "NoteErased", "EndSuccessions", "Succeed", "RecoverSecrets", "RecordDoubt", "CloseSites",
		"ConnectSession", "CreateCA", "CreateSite", "DenyAccess", "EndSession", "IssueCertificate", "NoteChannels", "NoteFiles", "RecordClockJump", "RecordDamage",
		"RecordStorage", "RefuseHostKey", "RefuseInSession", "StartSite", "StopSite",
	}
	judgedInside := []string{"ReadSession", "StartSession"} // tested on their own
	bySite = append(bySite, rotationSteps...)
	judgedInside = append(append(judgedInside, judgedSecrets...), judgedFactors...)
	ofUsers := []string{ // who asks and decides is judged by what it is about; tested on their own
		"ApproveRequest", "BreakGlass", "DenyRequest", "MakeRequest", "ReviewRequest", "WithdrawRequest",
	}
	w := newWorld(t)
	w.do("ada", commands.AddUser{Name: "gone", Role: events.Admin, Key: key("gone")})
	w.do("ada", commands.DisableUser{User: "gone"})
	for name, c := range commands.ZeroCommands() {
		if slices.Contains(judgedInside, name) {
			continue
		}
		wrong := map[string]events.DenyReason{
			"aud": events.NotAllowedVerb, "olaf": events.NotAllowedVerb, "nobody": events.NotAllowedVerb,
			"gone": events.UserIsDisabled, "stranger": events.UnknownKey,
		}
		if slices.Contains(ofUsers, name) {
			delete(wrong, "aud")
			delete(wrong, "olaf")
		}
		switch {
		case slices.Contains(bySite, name):
			wrong["ada"] = events.NotAllowedVerb
		case !slices.Contains([]string{"AddUser", "CreateUserCA", "PlanRotation", "FinishRekey", "NoteKeyDestroyed"}, name): // the first admin; schedules; a rekey that a crash cut short
			wrong["site"] = events.NotAllowedVerb
		}
		for actor, why := range wrong {
			before := len(w.site.Records)
			_, err := w.d.Do(commands.WithClient(t.Context(), commands.Client{Login: "l", Source: "s"}), w.actor(actor), c)
			scenario{code: commands.Denied, why: why, says: "you may not do this"}.checkRefusal(t, err, w.site.Records[before:])
			got := last[events.AccessDenied](t, w)
			if got.Login != "l" || got.Source != "s" || !strings.HasPrefix(got.Detail, name+": ") {
				t.Errorf("%s by %s: event %+v", name, actor, got)
			}
		}
	}
}
