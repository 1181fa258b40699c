package site

import (
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
)

// A member writes large records, and has them wait for a cause that never comes: what is
// read of them at once is bounded, whatever their number.
func TestAttackLargeRecordsFillNoMemory(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	b.join(a, adminAt(t, a), events.EdgeSite)
	const each = 1 << 20
	for range 12 {
		b.say(b.ID().UUID, events.SiteStopped{Reason: strings.Repeat("x", each)})
	}
	size, _ := b.ctl.Log().Size()
	if err := a.commands.WaitApplied(t.Context(), b.ctl.Log().Origin(), size); err != nil {
		t.Fatal(err)
	}
	log, err := a.Other(b.ctl.Log().Origin())
	if err != nil {
		t.Fatal(err)
	}
	for at := uint64(0); at < size; {
		batch, err := readBatch(t.Context(), log, at+1, deliverBatch)
		if err != nil || len(batch) == 0 {
			t.Fatalf("%d records after %d, %v", len(batch), at, err)
		}
		bytes := 0
		for _, r := range batch {
			bytes += len(r.Raw.Payload)
		}
		if bytes > deliverBytes+each {
			t.Errorf("%d records of %d MiB are read at once", len(batch), bytes>>20)
		}
		at += uint64(len(batch))
	}
}
