package bus

import (
	"context"
	"fmt"
	"sync"

	"github.com/holdfast-pam/holdfast/events"
)

// Cursors keeps how far each consumer is with each log: the position up to
// which it has acknowledged everything. Safe for concurrent use.
type Cursors interface {
	// Load gives the consumer's position in a log, 0 before its first.
	Load(ctx context.Context, consumer string, log events.Origin) (uint64, error)
	// Store moves the consumer. It is called with growing positions.
	Store(ctx context.Context, consumer string, log events.Origin, position uint64) error
}

// MemoryCursors forgets with the process, so its consumers see their logs from
// the start again. Its zero value is ready.
type MemoryCursors struct {
	mu sync.Mutex
	at map[string]map[events.Origin]uint64
}

// Load gives the consumer's position in a log.
func (c *MemoryCursors) Load(_ context.Context, consumer string, log events.Origin) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[consumer][log], nil
}

// Store moves the consumer. It never moves back.
func (c *MemoryCursors) Store(_ context.Context, consumer string, log events.Origin, position uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = map[string]map[events.Origin]uint64{}
	}
	if c.at[consumer] == nil {
		c.at[consumer] = map[events.Origin]uint64{}
	}
	c.at[consumer][log] = max(c.at[consumer][log], position)
	return nil
}

// AtEnd moves a consumer to the durable end of logs, for one that is to see
// only what comes from now on.
func AtEnd(ctx context.Context, cursors Cursors, consumer string, logs ...Log) error {
	for _, l := range logs {
		size, _ := l.Size()
		if err := cursors.Store(ctx, consumer, l.Origin(), size); err != nil {
			return fmt.Errorf("move %s to the end of log %s: %w", consumer, l.Origin(), err)
		}
	}
	return nil
}
