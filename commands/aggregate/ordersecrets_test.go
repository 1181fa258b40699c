package aggregate_test

import (
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// rotate makes an event of rotations, their policies, and secrets.
func (h *history) rotate(t *rapid.T, at, step int, pick picker, add, on func(string, events.Event)) {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "text")
	switch rapid.IntRange(0, 11).Draw(t, "rotation event") {
	case 0, 1:
		if id, ok := pick("credential"); ok {
			add("rotation", events.RotationPlanned{Credential: events.CredentialID{UUID: id}, Why: events.WhyAsked})
		}
	case 2:
		on("rotation", events.RotationDeferred{Detail: name, Until: aggregatetest.Epoch.Add(time.Duration(step) * time.Second)})
	case 3:
		result := rapid.SampledFrom([]events.RotationResult{events.RotationVerified, events.RotationFailed}).Draw(t, "result")
		on("rotation", events.RotationEnded{Result: result, Detail: name})
	case 4:
		on(rapid.SampledFrom([]string{"account", "target"}).Draw(t, "of"), events.RotationPolicySet{
			Policy: events.RotationPolicy{Length: uint32(step % 3), Forbidden: name, Every: uint64(step % 4)},
		})
	default:
		h.secret(t, at, pick)
	}
}

// secret makes an event of a rotation, or one that shows a secret.
func (h *history) secret(t *rapid.T, at int, pick picker) {
	credential, ok := pick("credential")
	rotation, ok2 := pick("rotation")
	s := h.peers[at].state
	c, _ := s.Credential(events.CredentialID{UUID: credential})
	if !ok || !ok2 || c == nil || len(c.Versions()) == 0 {
		return
	}
	version := rapid.SampledFrom(c.Versions()).Draw(t, "version").ID
	run := events.RotationID{UUID: rotation}
	var try events.TryID
	if r, ok := s.Rotation(run); ok && len(r.Attempts()) > 0 {
		try = rapid.SampledFrom(r.Attempts()).Draw(t, "attempt").ID
	}
	var via events.AccountID
	if id, ok := pick("account"); ok {
		via.UUID = id
	}
	var lease events.LeaseID
	if l := c.Leases(); len(l) > 0 {
		lease = rapid.SampledFrom(l).Draw(t, "lease").ID
	}
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "sealed")
	no := rapid.Bool().Draw(t, "not presented")
	h.write(t, at, credential, rapid.SampledFrom([]events.Event{
		events.SecretStaged{Sealed: []byte("sealed"), Rotation: run},
		events.SecretSent{Version: version, Rotation: run, Verb: events.ChangeAsItself, Via: via},
		events.SecretRecovered{Version: version, Sealed: []byte(name), Key: rotation, Position: uint64(at)},
		events.SecretTried{Version: version, Rotation: run},
		events.SecretApplied{Version: version, How: events.ByTarget, Rotation: run, Try: try},
		events.SecretRefused{Version: version, Rotation: run, Try: try, NotPresented: no},
		events.SecretUnknown{Version: version, Rotation: run, Try: try, Alarm: no},
		events.SecretRejected{Version: version, Rotation: run, Try: try, Locked: no},
		events.SecretUnanswered{Version: version, Rotation: run, Try: try, NotPresented: no},
		events.SecretVerified{Version: version, How: events.ByLogin, Rotation: run, Try: try},
		events.SecretRetired{Version: version, Rotation: run},
		events.SecretRevealed{Version: version},
		events.SecretCheckedOut{Version: version},
		events.SecretCheckedIn{Lease: lease},
	}).Draw(t, "secret event"))
}
