package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/holdfast-pam/holdfast/events"
)

// RouterConfig says how a router treats handlers that fail.
type RouterConfig struct {
	Logger  *slog.Logger
	Retries int           // tries after the first before the message goes back to its subscriber; 3 unless set
	First   time.Duration // pause before the first retry, doubling; 50 ms unless set
	Longest time.Duration // longest pause; 5 s unless set
	Close   time.Duration // how long Close waits for running handlers; 10 s unless set
}

// NewRouter makes a watermill router for process managers: a panic is an
// error, an error is tried again, and what still fails goes back to its
// subscriber, which brings it again. Nothing is passed over. Run it with
// Router.Run, whose context ends it.
func NewRouter(cfg RouterConfig) (*message.Router, error) {
	logger := watermill.LoggerAdapter(watermill.NopLogger{})
	if cfg.Logger != nil {
		logger = watermill.NewSlogLogger(cfg.Logger)
	}
	r, err := message.NewRouter(message.RouterConfig{CloseTimeout: or(cfg.Close, 10*time.Second)}, logger)
	if err != nil {
		return nil, fmt.Errorf("new router: %w", err)
	}
	r.AddMiddleware(
		middleware.Retry{
			MaxRetries:      or(cfg.Retries, 3),
			InitialInterval: or(cfg.First, 50*time.Millisecond),
			MaxInterval:     or(cfg.Longest, 5*time.Second),
			Multiplier:      2,
			Logger:          logger,
		}.Middleware,
		middleware.Recoverer, // inside, so that a panic is tried again too
	)
	return r, nil
}

// Handle adds a process manager that acts on events of type E of a topic.
// Records of other types are passed over, as are those whose payload is not
// held here or is of a newer version. f gets each event at least once, in
// order; an error brings the event again.
func Handle[E events.Event](r *message.Router, name, topic string, sub message.Subscriber,
	f func(ctx context.Context, at events.Record, e E) error) error {
	var zero E
	t, err := events.TypeOf(zero)
	if err != nil {
		return fmt.Errorf("handle %s: %w", name, err)
	}
	r.AddConsumerHandler(name, topic, sub, func(m *message.Message) error {
		if m.Metadata[MetaType] != t.Name {
			return nil
		}
		at, err := RecordOf(m)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e, err := at.Event()
		if errors.Is(err, events.ErrPayloadAbsent) || errors.Is(err, events.ErrUnknownType) {
			return nil
		}
		typed, ok := e.(E)
		if err == nil && !ok {
			err = fmt.Errorf("decoded to %T", e)
		}
		if err == nil {
			err = f(m.Context(), at, typed)
		}
		if err != nil {
			return fmt.Errorf("%s on %s %s (%s position %d): %w",
				name, t.Name, at.Header.ID, at.Header.Origin(), at.Header.Position, err)
		}
		return nil
	})
	return nil
}

// Types is a SubscriberConfig.Wants for the stored names of event types.
func Types(names ...string) func(*events.Header) bool {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	return func(h *events.Header) bool { return wanted[h.Type] }
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}
