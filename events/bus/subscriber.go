package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/holdfast-pam/holdfast/events"
)

// Log is what a subscriber reads; a store.Log is one.
type Log interface {
	Origin() events.Origin
	Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error]
	Size() (uint64, events.Hash)
	Watch(size uint64) <-chan struct{}
}

// skipped is how many records that a consumer does not want may pass before
// its cursor is stored without an Ack.
const skipped = 4096

// SubscriberConfig says what a [Subscriber] follows.
type SubscriberConfig struct {
	Consumer string // names the cursor; one subscription to a topic for each consumer
	// Logs finds the log of a topic: all its epochs, the oldest first. The last
	// one is followed as it grows.
	Logs    func(topic string) ([]Log, error)
	Cursors Cursors
	Wants   func(h *events.Header) bool     // nil for all; the others only move the cursor
	Pause   time.Duration                   // before a refused message comes again; 100 ms unless set
	Failed  func(topic string, cause error) // told why a subscription ended by itself; must not be nil
}

// Subscriber follows logs for one consumer. It is a watermill
// message.Subscriber, safe for concurrent use.
type Subscriber struct {
	cfg  SubscriberConfig
	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex // guards closed, and tails.Add against Close
	closed bool
	tails  sync.WaitGroup
}

// NewSubscriber makes a subscriber.
func NewSubscriber(cfg SubscriberConfig) (*Subscriber, error) {
	if cfg.Consumer == "" || cfg.Logs == nil || cfg.Cursors == nil || cfg.Failed == nil {
		return nil, errors.New("new subscriber: it needs a consumer, logs, cursors and somebody to tell of failures")
	}
	if cfg.Pause <= 0 {
		cfg.Pause = 100 * time.Millisecond
	}
	s := &Subscriber{cfg: cfg}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Subscribe follows a topic from the consumer's cursor. The channel carries one
// message at a time, the next after the Ack of the one before. It is closed
// when ctx ends, when the subscriber is closed, when the log is closed, and
// after a failure that Failed is told of.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	logs, err := s.cfg.Logs(topic)
	if err == nil && len(logs) == 0 {
		err = errors.New("it has no log")
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe %s to %s: %w", s.cfg.Consumer, topic, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("subscribe %s to %s: %w", s.cfg.Consumer, topic, ErrClosed)
	}
	t := &tail{Subscriber: s, topic: topic, logs: logs, out: make(chan *message.Message)}
	s.tails.Go(func() { t.run(ctx) })
	return t.out, nil
}

// Close ends all subscriptions and waits for them.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.tails.Wait()
	return nil
}

// tail is one subscription; run is its goroutine.
type tail struct {
	*Subscriber
	topic string
	logs  []Log
	out   chan *message.Message
}

func (t *tail) run(ctx context.Context) {
	defer close(t.out)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	for i, log := range t.logs {
		err := t.follow(ctx, log, i == len(t.logs)-1)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.cfg.Failed(t.topic, fmt.Errorf("%s follows log %s: %w", t.cfg.Consumer, log.Origin(), err))
			return
		}
	}
}

// follow delivers a log to its end, and goes on as it grows if it is the live one.
func (t *tail) follow(ctx context.Context, log Log, live bool) error {
	done, err := t.cfg.Cursors.Load(ctx, t.cfg.Consumer, log.Origin())
	if err != nil {
		return fmt.Errorf("load cursor: %w", err)
	}
	if size, _ := log.Size(); done > size {
		return fmt.Errorf("the cursor stands at %d, the log has %d records: it belongs to another copy of this log", done, size)
	}
	stored := done
	for {
		if done, stored, err = t.catchUp(ctx, log, done, stored); err != nil {
			return err
		}
		if size, _ := log.Size(); size > done {
			continue
		}
		if !live {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-log.Watch(done):
		}
		if size, _ := log.Size(); size <= done {
			return nil // closed
		}
	}
}

// catchUp delivers what follows position done up to the durable end. It
// returns how far it came, and up to where the cursor was stored.
func (t *tail) catchUp(ctx context.Context, log Log, done, stored uint64) (uint64, uint64, error) {
	for entry, err := range log.Read(ctx, done+1) {
		if err != nil {
			return done, stored, err
		}
		r, err := events.DecodeEntry(entry)
		if err != nil {
			return done, stored, err
		}
		wanted := t.cfg.Wants == nil || t.cfg.Wants(&r.Header)
		if wanted {
			if err := t.deliver(ctx, r); err != nil {
				return done, stored, err
			}
		}
		done = r.Header.Position
		if wanted || done-stored >= skipped {
			if err := t.cfg.Cursors.Store(ctx, t.cfg.Consumer, log.Origin(), done); err != nil {
				return done, stored, fmt.Errorf("store cursor: %w", err)
			}
			stored = done
		}
	}
	return done, stored, nil
}

// deliver offers a record until it is acknowledged.
func (t *tail) deliver(ctx context.Context, r events.Record) error {
	for {
		acked, err := t.offer(ctx, recordMessage(r))
		if acked || err != nil {
			return err
		}
		select {
		case <-time.After(t.cfg.Pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// offer sends a message and waits for its answer. The message's context ends
// with it.
func (t *tail) offer(ctx context.Context, m *message.Message) (acked bool, err error) {
	mctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.SetContext(mctx)
	select {
	case t.out <- m:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	select {
	case <-m.Acked():
		return true, nil
	case <-m.Nacked():
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
