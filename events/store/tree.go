package store

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// TreeKeeper is a [Log] whose engine keeps trees of earlier sizes, so that none
// has to be grown from the first record on.
type TreeKeeper interface {
	// TreeBefore gives the tree over the first records of the log, at most size
	// of them: the greatest that the engine keeps.
	TreeBefore(size uint64) (evidence.Tree, error)
}

// AbsentKeeper is a [Log] whose engine tells which payloads it does not hold without
// reading those that it does.
type AbsentKeeper interface {
	// Absent yields the positions, from one on, whose payload is not held.
	Absent(ctx context.Context, from uint64) iter.Seq2[uint64, error]
}

// TreeAt gives the tree over the first size records of a log, which holds as
// many. It reads headers, from the greatest tree on that the engine keeps.
func TreeAt(ctx context.Context, log Log, size uint64) (evidence.Tree, error) {
	var t evidence.Tree
	if have, _ := log.Size(); size > have {
		return t, fmt.Errorf("tree of log %s at %d: it has %d records", log.Origin(), size, have)
	}
	if k, ok := log.(TreeKeeper); ok {
		var err error
		if t, err = k.TreeBefore(size); err != nil {
			return t, err
		}
	}
	if t.Size() == size {
		return t, nil
	}
	for e, err := range log.Headers(ctx, t.Size()+1) {
		if err != nil {
			return t, err
		}
		if t.Append(evidence.LeafHash(e.Header)); t.Size() == size {
			break
		}
	}
	return t, nil
}

// Sign makes a head of one of the site's epochs at a size and root, which the
// caller has from that log.
func (h *History) Sign(o events.Origin, size uint64, root events.Hash) (evidence.Head, error) {
	for _, e := range h.epochs {
		if e.origin == o {
			return e.key.Sign(size, root)
		}
	}
	return evidence.Head{}, fmt.Errorf("sign a head of log %s: it is none of this site's", o)
}

// Key is the verifier key of one of the site's epochs; empty for other logs.
func (h *History) Key(o events.Origin) string {
	for _, e := range h.epochs {
		if e.origin == o {
			return e.key.Public()
		}
	}
	return ""
}
