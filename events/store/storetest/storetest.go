// Package storetest is the conformance suite of [store.Log]: every engine
// passes it.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Opener opens a log; called again after Close it opens the same one.
type Opener func() (store.Log, error)

// Origin is the log that the suite writes to.
var Origin = events.Origin{
	Site:  events.SiteID{UUID: uuid.MustParse("01900000-0000-7000-8000-0000000000aa")},
	Epoch: 1, Kind: events.Rec,
}

// Run runs the suite. fresh gives the opener of an empty log.
func Run(t *testing.T, fresh func(t *testing.T, origin events.Origin) Opener) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, h *harness)
	}{
		{"append and read", testAppendRead},
		{"empty log", testEmpty},
		{"fencing", testFencing},
		{"two writers", testTwoWriters},
		{"retry is idempotent", testRetry},
		{"durable after reopening", testReopen},
		{"prefix reads", testPrefixReads},
		{"absent and empty payloads", testAbsentPayload},
		{"big entries", testBigEntries},
		{"refuses bad entries", testBadEntries},
		{"cancelled context", testCancelled},
		{"watch", testWatch},
		{"seal", testSeal},
		{"close", testClose},
		{"locked", testLocked},
		{"readers beside the writer", testReaders},
		{"readers stop early", testStopEarly},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &harness{T: t, open: fresh(t, Origin)}
			h.reopen()
			defer func() {
				if h.log != nil {
					h.check(h.log.Close())
				}
			}()
			test.run(t, h)
		})
	}
}

// harness is a log beside what it must hold.
type harness struct {
	*testing.T
	open Opener
	log  store.Log
	want []events.Entry
	tree evidence.Tree
}

func (h *harness) check(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// reopen closes the log and opens it again.
func (h *harness) reopen() {
	h.Helper()
	if h.log != nil {
		h.check(h.log.Close())
	}
	var err error
	h.log, err = h.open()
	h.check(err)
}

// Entries makes n entries that differ from all others by position and seed.
func Entries(after uint64, n, payload int) []events.Entry {
	out := make([]events.Entry, n)
	for i := range out {
		at := after + uint64(i) + 1
		seed := sha256.Sum256(fmt.Appendf(nil, "entry %d", at))
		out[i] = events.Entry{
			Header:  fmt.Appendf(nil, "header of %d: %x", at, seed),
			Payload: bytes.Repeat(seed[:], payload/32+1)[:payload],
		}
	}
	return out
}

// append appends n entries and takes note of them.
func (h *harness) append(n, payload int) {
	h.Helper()
	h.appendThese(Entries(uint64(len(h.want)), n, payload))
}

func (h *harness) appendThese(entries []events.Entry) {
	h.Helper()
	h.check(h.log.Append(h.Context(), uint64(len(h.want)), entries))
	h.want = append(h.want, entries...)
	for _, e := range entries {
		h.tree.Append(evidence.LeafHash(e.Header))
	}
}

// verify compares all of the log with what it must hold.
func (h *harness) verify() {
	h.Helper()
	if size, root := h.log.Size(); size != uint64(len(h.want)) || root != h.tree.Root() {
		h.Fatalf("Size = %d, %s; want %d, %s", size, root, len(h.want), h.tree.Root())
	}
	h.compare(1, h.want)
}

// compare reads from a position, with and without payloads.
func (h *harness) compare(from uint64, want []events.Entry) {
	h.Helper()
	var got, headers []events.Entry
	for e, err := range h.log.Read(h.Context(), from) {
		h.check(err)
		got = append(got, e)
	}
	for e, err := range h.log.Headers(h.Context(), from) {
		h.check(err)
		headers = append(headers, e)
	}
	if len(got) != len(want) || len(headers) != len(want) {
		h.Fatalf("reading from %d: %d entries and %d headers, want %d", from, len(got), len(headers), len(want))
	}
	for i, w := range want {
		if !bytes.Equal(got[i].Header, w.Header) || !bytes.Equal(got[i].Payload, w.Payload) || (got[i].Payload == nil) != (w.Payload == nil) {
			h.Fatalf("entry %d differs: %.60q, want %.60q", from+uint64(i), got[i], w)
		}
		if !bytes.Equal(headers[i].Header, w.Header) || headers[i].Payload != nil {
			h.Fatalf("header of entry %d differs", from+uint64(i))
		}
	}
}

// refused checks that an append fails with a sentinel and changes nothing.
func (h *harness) refused(want error, expect uint64, entries []events.Entry) {
	h.Helper()
	if err := h.log.Append(h.Context(), expect, entries); !errors.Is(err, want) {
		h.Fatalf("Append at %d = %v, want %v", expect, err, want)
	}
	h.verify()
}

// closed reports whether a channel is closed, without waiting.
func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
