package segment

import (
	"testing"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

// TestLog runs the conformance suite with segments that hold all of it
// and with ones that every few commits fill.
func TestLog(t *testing.T) {
	for name, opts := range map[string]Options{
		"large": {SegmentSize: 16 << 20, Reserve: 1 << 20},
		"small": {SegmentSize: 16 << 10, Reserve: 16 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T, origin events.Origin) storetest.Opener {
				dir := t.TempDir()
				return func() (store.Log, error) {
					opened, err := Engine{opts}.Open(dir, origin, 0)
					return opened.Log, err
				}
			})
		})
	}
}
