package store_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
	"github.com/holdfast-pam/holdfast/events/store/segment"
)

// The tree of a log at any size is the one that grows from its headers, however
// the engine keeps it.
func TestTreeAtEverySize(t *testing.T) {
	origin := events.Origin{Site: events.SiteID{UUID: uuid.MustParse("01900000-0000-7000-8000-0000000000aa")}, Epoch: 1, Kind: events.Ctl}
	small := segment.Engine{Options: segment.Options{SegmentSize: 16 << 10, Reserve: 16 << 10}}
	opened, err := small.Open(t.TempDir(), origin, 0)
	if err != nil {
		t.Fatal(err)
	}
	inMemory, err := memory.New(origin).Open()
	if err != nil {
		t.Fatal(err)
	}
	for name, log := range map[string]store.Log{"segment": opened.Log, "memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			defer log.Close()
			var tree evidence.Tree
			roots := []events.Hash{tree.Root()}
			for n := range 40 {
				entries := []events.Entry{{Header: fmt.Appendf(nil, "a %d", n), Payload: make([]byte, 2000)}, {Header: fmt.Appendf(nil, "b %d", n), Payload: []byte{}}}
				if err := log.Append(t.Context(), uint64(2*n), entries); err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					tree.Append(evidence.LeafHash(e.Header))
					roots = append(roots, tree.Root())
				}
			}
			for size, want := range roots {
				got, err := store.TreeAt(t.Context(), log, uint64(size))
				if err != nil || got.Size() != uint64(size) || got.Root() != want {
					t.Fatalf("tree at %d: size %d, root %s, %v; want root %s", size, got.Size(), got.Root(), err, want)
				}
			}
			if _, err := store.TreeAt(t.Context(), log, uint64(len(roots))); err == nil {
				t.Error("a tree beyond the end of the log")
			}
		})
	}
}
