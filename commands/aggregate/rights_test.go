package aggregate_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// things is a mesh with one of everything, of the founder, and a member that attacks it.
type things struct {
	*members
	rogue *peer
	ids   map[reflect.Type]uuid.UUID // what ids in events name
	about map[string]uuid.UUID       // streams

	before map[string]bool // the state before it says anything
}

func newThings(t *testing.T) *things {
	x := &things{members: newMembers(t), rogue: newPeer(1), ids: map[reflect.Type]uuid.UUID{}, about: map[string]uuid.UUID{"something new": aggregatetest.ID("new", 1)}}
	a, other := x.founder, newPeer(2)
	name := func(what string, ids ...any) uuid.UUID {
		id := aggregatetest.ID(what, 1)
		for _, zero := range ids {
			x.ids[reflect.TypeOf(zero)] = id
		}
		x.about[what] = id
		return id
	}
	user, group, target := name("user", events.UserID{}), name("group", events.GroupID{}), name("target", events.TargetID{})
	account, credential := name("account", events.AccountID{}), name("credential", events.CredentialID{})
	of := events.AccountID{UUID: account}
	x.about["founder"] = a.ID.UUID
	x.at(a, a.ID.UUID, events.SiteCreated{Name: "a", SealingKey: []byte("k"), HostKey: "h"})
	x.at(a, user, events.UserAdded{Name: "bob", Role: events.Admin})
	x.at(a, user, events.UserKeyAdded{Key: "k", Fingerprint: "f"})
	x.at(a, group, events.GroupAdded{Name: "ops"})
	x.at(a, target, events.TargetAdded{Name: "web1", Addr: "h:22", HostKeys: []string{"k"}})
	x.at(a, account, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: target}, Credential: events.CredentialID{UUID: credential}})
	x.at(a, credential, events.CredentialAdded{Account: of, Kind: events.Password})
	staged := x.at(a, credential, events.SecretStaged{Sealed: []byte("s")})
	x.ids[reflect.TypeFor[events.SecretID]()], x.ids[reflect.TypeFor[uuid.UUID]()] = staged.Header.ID, staged.Header.ID
	x.at(a, name("grant", events.GrantID{}), events.GrantAdded{User: events.UserID{UUID: user}, Account: of})
	x.at(a, name("policy", events.PolicyID{}), events.PolicyAdded{Name: "p", Account: of, Approvals: 1})
	x.at(a, name("request", events.RequestID{}), events.RequestMade{User: events.UserID{UUID: user}, Account: of})
	x.at(a, name("factor", events.FactorID{}), events.FactorEnrolled{User: events.UserID{UUID: user}, Sealed: []byte("s")})
	x.at(a, name("ca", events.CAID{}), events.CATrusted{Name: "ca", Key: "k", Fingerprint: "fca"})
	x.at(a, name("glass"), events.GlassChangeProposed{Change: events.GlassChange{User: events.UserID{UUID: user}, Allow: true}})
	x.at(a, name("rotation", events.RotationID{}), events.RotationPlanned{Credential: events.CredentialID{UUID: credential}, Account: of})
	x.at(a, name("invitation", events.InvitationID{}), events.SiteInvited{Name: "d", Role: events.PeerSite})
	x.at(a, name("session", events.SessionID{}), events.SessionStarted{User: events.UserID{UUID: user}, Account: of, Credential: events.CredentialID{UUID: credential}})
	x.join(other, events.PeerSite)
	x.ids[reflect.TypeFor[events.SiteID]()] = other.ID.UUID
	x.about["another member"], x.about["role"] = other.ID.UUID, events.RoleStream(events.Admin)
	x.at(other, other.ID.UUID, events.SiteCreated{Name: "c", SealingKey: []byte("k"), HostKey: "h"})
	return x
}

// says has the rogue say something that goes by all that there is, and gives what of
// the state is another one by that. Lines of the state begin with what they are about.
func (x *things) says(stream uuid.UUID, e events.Event) (changed []string) {
	x.Helper()
	lines := func(more ...events.Record) map[string]bool {
		s := aggregate.New()
		s.CheckForks(func(events.ForkProved, string, []byte) error { return errors.New("it is none") })
		apply(x, s, x.all...)
		apply(x, s, more...)
		all := map[string]bool{}
		for _, line := range s.Lines() {
			if !strings.HasPrefix(line, "log "+x.rogue.Origin().String()) && !strings.HasPrefix(line, "masked ") {
				all[line] = true
			}
		}
		return all
	}
	if x.before == nil {
		x.before = lines()
	}
	for _, actor := range []events.Actor{events.SiteActor(x.rogue.ID), events.UserActor(events.UserID{UUID: x.about["user"]})} {
		site := x.rogue.Back(len(x.rogue.Records))
		site.Knows = x.founder.state.Clock
		records, err := site.Append(x.Context(), events.Draft{ID: aggregatetest.ID("said", 1), Stream: stream, Actor: actor, Event: e})
		if err != nil {
			x.Fatal(err)
		}
		after := lines(records...)
		for line := range x.before {
			if !after[line] {
				changed = append(changed, "-"+line)
			}
		}
		for line := range after {
			if !x.before[line] {
				changed = append(changed, "+"+line)
			}
		}
	}
	return changed
}

// rights says of every type of event who may write it to any effect: members that decide
// on an area; each site of itself; each member.
var rights = map[events.Area]string{
	events.AreaAccess: `approval.redeemed ca.certificate_revoked ca.distrusted ca.trusted duty.given duty.taken factor.confirmed factor.enrolled
		factor.missed factor.recovered factor.redeemed factor.reused glass.change_confirmed glass.change_proposed grant.added grant.removed
		group.added group.member_added group.member_removed group.removed policy.added policy.removed request.approved request.denied
		request.made request.reviewed request.withdrawn role.set user.added user.disabled user.factor_reset user.factor_rule_set user.key_added
		user.key_removed user.limits_set`,
	events.AreaTargets: `account.added account.params_set account.removed account.restored account.via_set target.accounts_found
		target.accounts_sought target.added target.algorithms_allowed target.host_key_pinned target.label_removed target.label_set
		target.limits_set target.params_set target.removed target.restored target.scan_requested`,
	events.AreaSecrets: `credential.added erasure.asked erasure.confirmed erasure.withdrawn rotation.deferred rotation.ended rotation.planned
		rotation.policy_set secret.applied secret.checked_in secret.checked_out secret.exclusivity_broken secret.recovered secret.refused
		secret.retired secret.revealed secret.sent secret.staged secret.tried secret.unknown secret.verified`,
	events.AreaSessions: `access.break_glass access.denied ca.certificate_issued duty.yielded fork.proved secret.rejected secret.unanswered
		session.channel_closed session.channel_opened session.connected session.ended session.file_accessed session.kill_requested
		session.packet_altered session.packet_dropped session.packet_made session.packets session.read session.refused session.started
		target.host_key_refused`,
	events.AreaMesh: `fork.settled recording.copies_set site.admitted site.closed site.fenced site.invitation_withdrawn site.invited
		site.reinstated`,
	"itself": `ca.created ca.rotated ca.user_created log.damage_found log.opened log.tail_dropped mesh.masked mesh.present
		projection.revised site.backed_up site.clock_jumped site.created site.doubted site.keeping site.key_destroyed site.left
		site.rekey_abandoned site.rekey_began site.rekeyed site.restored site.sealed site.started site.stopped site.storage_full
		site.storage_recovered site.succession_ended site.successor_named site.unseal_failed site.unseal_share_given site.unsealed
		sync.degraded sync.restored`,
	"each": `erasure.done`,
}

// ofMembers are what each member says that may not decide on anything, and what it adds
// to the state by it. It changes no other line.
var ofMembers = map[string]string{
	"access.break_glass": "request", "duty.yielded": "duty", "erasure.done": "erasure", "fork.proved": "fork", "session.started": "session",
}

// ofItself are likewise what a site says of itself.
var ofItself = map[string]string{
	"ca.created": "site", "ca.rotated": "authority", "ca.user_created": "authority", "site.keeping": "keeping", "site.left": "left",
	"site.rekey_abandoned": "site", "site.rekey_began": "site", "site.rekeyed": "site", "site.started": "site", "site.stopped": "site",
	"site.storage_full": "site", "site.storage_recovered": "site", "site.succession_ended": "succession", "site.successor_named": "succession",
}

// A new type of event is thought about: its right is stated above, and is what the state
// goes by.
func TestEveryEventHasAStatedRight(t *testing.T) {
	stated := map[string]events.Area{}
	for area, types := range rights {
		for _, name := range strings.Fields(types) {
			stated[name] = area
		}
	}
	for _, typ := range events.Catalogue() {
		area, own := aggregate.AreaOf(typ.Name)
		switch {
		case own:
			area = "itself"
		case !slices.Contains(events.Areas(), area):
			area = "each"
		}
		if right := stated[typ.Name]; right != area {
			t.Errorf("%s is written to effect by who may decide on %q, and what is stated in this test is %q", typ.Name, area, right)
		}
	}
}

// A member writes every type of event, about everything that there is, with every field
// set, as itself and in the name of an administrator: as an edge it changes nothing but
// what is its own, and with one scope nothing that another scope is for.
func TestAttackEveryEvent(t *testing.T) {
	for _, scope := range events.Areas() {
		t.Run(string(scope), func(t *testing.T) {
			if testing.Short() && scope != events.AreaSessions {
				t.Skip("some seconds each")
			}
			x := newThings(t)
			if scope == events.AreaSessions {
				x.join(x.rogue, events.EdgeSite)
			} else {
				x.join(x.rogue, events.Steward, scope)
			}
			x.at(x.rogue, x.rogue.ID.UUID, events.SiteCreated{Name: "b", SealingKey: []byte("k"), HostKey: "h"})
			x.about["itself"] = x.rogue.ID.UUID
			effects := 0
			for _, typ := range events.Catalogue() {
				v, n := reflect.New(typ.Go).Elem(), 0
				x.fill(v, &n)
				area, _ := aggregate.AreaOf(typ.Name)
				for what, stream := range x.about {
					for _, line := range x.says(stream, v.Interface()) {
						word, _, _ := strings.Cut(line[1:], " ")
						switch {
						case scope != events.AreaSessions && area == scope:
							effects++
						case ofItself[typ.Name] == word && what == "itself" && (line[0] == '+' || strings.Contains(line, x.rogue.ID.String())):
						case ofMembers[typ.Name] == word && line[0] == '+' && (scope == events.AreaSessions || area != events.AreaSessions):
						default:
							t.Errorf("%s about %s: %s", typ.Name, what, line)
						}
					}
				}
			}
			if scope != events.AreaSessions && effects == 0 {
				t.Error("nothing that it says has any effect")
			}
		})
	}
}

// fill has an event say something in every field, about what there is.
func (x *things) fill(v reflect.Value, n *int) {
	*n++
	switch id, known := x.ids[v.Type()]; {
	case known:
		if v.Kind() == reflect.Struct {
			v = v.Field(0)
		}
		v.Set(reflect.ValueOf(id))
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(aggregatetest.Epoch.Add(time.Hour)))
	case v.Type() == reflect.TypeFor[events.Kind]():
		v.SetString(string(events.Ctl))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			x.fill(v.Field(i), n)
		}
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("text-%d:22", *n)) // an address, too
	case v.CanUint():
		v.SetUint(1)
	case v.CanInt():
		v.SetInt(1)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		x.fill(v.Index(0), n)
	}
}
