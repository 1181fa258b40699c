package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/holdfast-pam/holdfast/events"
)

// Appender makes events durable in one log. For a ctl log that must be what
// keeps the site's state in step with the log, never the log's bare writer.
type Appender interface {
	Append(ctx context.Context, drafts ...events.Draft) ([]events.Record, error)
}

// ErrClosed says that the publisher or subscriber was closed.
var ErrClosed = errors.New("bus is closed")

// Publisher appends drafts to logs. It is a watermill message.Publisher, safe
// for concurrent use.
type Publisher struct {
	logs func(topic string) (Appender, error)

	mu     sync.RWMutex // held shared while publishing
	closed bool
}

// NewPublisher makes a publisher; logs finds the log of a topic.
func NewPublisher(logs func(topic string) (Appender, error)) *Publisher {
	return &Publisher{logs: logs}
}

// Publish appends the messages (see [DraftMessage]) as one commit: all of them
// are durable when it returns nil. The context is that of the first message.
// Nothing is appended when one of them is no draft.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return fmt.Errorf("publish to %s: %w", topic, ErrClosed)
	}
	if len(messages) == 0 {
		return nil
	}
	drafts := make([]events.Draft, len(messages))
	for i, m := range messages {
		var err error
		if drafts[i], err = draftOf(m); err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
	}
	log, err := p.logs(topic)
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	if _, err := log.Append(messages[0].Context(), drafts...); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// Close waits for what is being published. The logs stay open.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}
