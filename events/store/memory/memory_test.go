package memory_test

import (
	"testing"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

func TestLog(t *testing.T) {
	storetest.Run(t, func(t *testing.T, origin events.Origin) storetest.Opener {
		disk := memory.New(origin)
		return func() (store.Log, error) { return disk.Open() }
	})
}
