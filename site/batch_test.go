package site

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// A member writes large records: what is read of them at once is bounded, whatever their
// number.
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

// payloadsRead is a log that counts how often it is read with its payloads.
type payloadsRead struct {
	store.Log
	n *atomic.Int64
}

func (l payloadsRead) Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	l.n.Add(1)
	return l.Log.Read(ctx, from)
}

// A site has large records wait for a cause that does not come, while its log and others
// grow: none of their payloads is read. They take effect once the cause is here.
func TestAttackRecordsThatWaitAreNotRead(t *testing.T) {
	a, b, c := open(t, testConfig(t)), open(t, testConfig(t)), open(t, testConfig(t))
	defer func() {
		for _, s := range []*Site{a, b, c} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	addUser(t, c, "cause")
	carry(t, b, a) // up to here nothing waits
	settled(t, a)
	carry(t, c, b)
	settled(t, b)

	origin := b.ctl.Log().Origin()
	var read atomic.Int64
	a.others.mu.Lock()
	a.others.logs[origin] = payloadsRead{a.others.logs[origin], &read}
	a.others.mu.Unlock()
	before, _ := a.commands.Applied(origin)
	for range 3 {
		(&member{Site: b, t: t}).say(b.ID().UUID, events.SiteStopped{Reason: strings.Repeat("x", 1<<20)})
		carry(t, b, a)
		settled(t, a)
	}
	if at, _ := a.commands.Applied(origin); at != before || read.Load() != 0 {
		t.Errorf("%d records before their cause, read %d times", at-before, read.Load())
	}
	carry(t, c, a)
	settled(t, a)
	size, _ := b.ctl.Log().Size()
	if at, _ := a.commands.Applied(origin); at != size || read.Load() == 0 {
		t.Errorf("%d of %d records after their cause, read %d times", at, size, read.Load())
	}
}
