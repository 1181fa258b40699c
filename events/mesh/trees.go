package mesh

import (
	"context"
	"sync"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// trees remembers where peers have got to in the logs that this site writes: the
// next push begins there, and an engine keeps a tree only every so many records.
// Safe for concurrent use.
type trees struct {
	mu     sync.Mutex
	recent map[events.Origin][]evidence.Tree // the newest last
}

// keptTrees is how many peers may be at different places of a log.
const keptTrees = 8

// at gives the tree over the first size records of a log.
func (t *trees) at(ctx context.Context, log store.Log, size uint64) (evidence.Tree, error) {
	if tree, ok := t.known(log.Origin(), size); ok {
		return tree, nil
	}
	return store.TreeAt(ctx, log, size)
}

func (t *trees) known(o events.Origin, size uint64) (evidence.Tree, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tree := range t.recent[o] {
		if tree.Size() == size {
			return tree.Clone(), true
		}
	}
	return evidence.Tree{}, false
}

// keep remembers a tree, which is not changed any more.
func (t *trees) keep(o events.Origin, tree evidence.Tree) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.recent == nil {
		t.recent = map[events.Origin][]evidence.Tree{}
	}
	kept := t.recent[o]
	for _, k := range kept {
		if k.Size() == tree.Size() {
			return
		}
	}
	if len(kept) == keptTrees {
		kept = append(kept[:0], kept[1:]...)
	}
	t.recent[o] = append(kept, tree)
}
