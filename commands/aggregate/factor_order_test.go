package aggregate_test

import (
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
)

// factor makes one event about second factors.
func (h *history) factor(t *rapid.T, step int, name string, pick picker, add func(string, events.Event), on func(string, events.Event)) {
	switch rapid.IntRange(0, 7).Draw(t, "factor event") {
	case 0, 1:
		if user, ok := pick("user"); ok {
			add("factor", events.FactorEnrolled{User: events.UserID{UUID: user}, Sealed: []byte(name)})
		}
	case 2:
		on("factor", events.FactorConfirmed{Step: uint64(step), Recovery: [][]byte{[]byte("a"), []byte("b")}})
	case 3:
		on("factor", events.FactorRedeemed{Step: uint64(step), Source: name, Fingerprint: name})
	case 4:
		on("factor", events.FactorRecovered{Number: uint32(step % 2), Source: name})
	case 5:
		on("factor", events.FactorMissed{Source: name})
	case 6:
		on("user", events.UserFactorReset{Reason: name})
	case 7:
		need := rapid.SampledFrom([]events.FactorNeed{events.FactorNeeded, events.FactorByRole, events.FactorExempt}).Draw(t, "need")
		on("user", events.UserFactorRuleSet{Need: need, Reuse: uint64(step)})
	}
}
