package segment

import (
	"sort"

	"github.com/holdfast-pam/holdfast/events/evidence"
)

// TreeBefore gives the tree before the segment that holds a position, which the
// segment's header has. See store.TreeKeeper.
func (l *Log) TreeBefore(size uint64) (evidence.Tree, error) {
	v, err := l.current()
	if err != nil {
		return evidence.Tree{}, err
	}
	i := sort.Search(len(v.segments), func(i int) bool { return v.segments[i].first > size+1 }) - 1
	if i < 0 {
		return evidence.Tree{}, nil
	}
	s, err := openSegment(l.fs, l.origin, segmentName(v.segments[i].first), false)
	if err != nil {
		return evidence.Tree{}, err
	}
	return s.header.tree.Clone(), s.Close()
}
