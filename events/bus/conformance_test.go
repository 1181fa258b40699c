package bus_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/bus"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
)

// topics makes a log for each topic that is asked for.
type topics struct {
	mu      sync.Mutex
	logs    map[string]*memory.Log
	writers map[string]*store.Writer
}

func newTopics(t testing.TB) *topics {
	s := &topics{logs: map[string]*memory.Log{}, writers: map[string]*store.Writer{}}
	t.Cleanup(func() {
		for name, l := range s.logs {
			if err := s.writers[name].Close(); err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *topics) open(topic string) (*memory.Log, *store.Writer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs[topic] == nil {
		site := events.SiteID{UUID: uuid.NewSHA1(uuid.Nil, []byte(topic))}
		l, err := memory.New(events.Origin{Site: site, Epoch: 1, Kind: events.Ctl}).Open()
		if err != nil {
			return nil, nil, err
		}
		w, err := store.NewWriter(l, store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now})
		if err != nil {
			return nil, nil, err
		}
		s.logs[topic], s.writers[topic] = l, w
	}
	return s.logs[topic], s.writers[topic], nil
}

func (s *topics) appender(topic string) (bus.Appender, error) {
	_, w, err := s.open(topic)
	return w, err
}

func (s *topics) reader(topic string) ([]bus.Log, error) {
	l, _, err := s.open(topic)
	return []bus.Log{l}, err
}

// The suite publishes arbitrary bytes and metadata, which a log of events does
// not take. These two carry them in the text of an event, so that everything
// below them (order, cursors, Ack, Nack, closing) is what the suite tests.
type packing struct{ message.Publisher }

type unpacking struct {
	message.Subscriber
	running *sync.WaitGroup
}

func (u unpacking) Close() error {
	err := u.Subscriber.Close()
	u.running.Wait()
	return err
}

type packed struct {
	Metadata message.Metadata
	Payload  []byte
}

func (p packing) Publish(topic string, messages ...*message.Message) error {
	var out []*message.Message
	for _, m := range messages {
		text, err := json.Marshal(packed{m.Metadata, m.Payload})
		if err != nil {
			return err
		}
		id, err := uuid.Parse(m.UUID)
		if err != nil {
			return err
		}
		d, err := bus.DraftMessage(events.Draft{
			ID: id, Stream: id, Actor: events.UnknownActor(),
			Event: events.AccessDenied{Detail: base64.StdEncoding.EncodeToString(text)},
		})
		if err != nil {
			return err
		}
		out = append(out, d)
	}
	return p.Publisher.Publish(topic, out...)
}

func (u unpacking) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := u.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	u.running.Go(func() {
		defer close(out)
		for m := range in {
			plain, err := unpack(m)
			if err != nil {
				panic(err)
			}
			go answer(m, plain)
			select {
			case out <- plain:
			case <-m.Context().Done():
			}
		}
	})
	return out, nil
}

// answer hands the suite's Ack or Nack on to the bus.
func answer(m, plain *message.Message) {
	select {
	case <-plain.Acked():
		m.Ack()
	case <-plain.Nacked():
		m.Nack()
	case <-m.Context().Done():
	}
}

func unpack(m *message.Message) (*message.Message, error) {
	r, err := bus.RecordOf(m)
	if err != nil {
		return nil, err
	}
	e, err := r.Event()
	if err != nil {
		return nil, err
	}
	text, err := base64.StdEncoding.DecodeString(e.(events.AccessDenied).Detail)
	if err != nil {
		return nil, err
	}
	var p packed
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, err
	}
	plain := message.NewMessage(m.UUID, p.Payload)
	plain.Metadata = p.Metadata
	plain.SetContext(m.Context())
	return plain, nil
}

func TestWatermillConformance(t *testing.T) {
	all := newTopics(t)
	cursors := &bus.MemoryCursors{}
	open := func(t *testing.T, consumer string) (message.Publisher, message.Subscriber) {
		sub, err := bus.NewSubscriber(bus.SubscriberConfig{
			Consumer: consumer, Logs: all.reader, Cursors: cursors, Pause: time.Millisecond,
			Failed: func(topic string, err error) { t.Errorf("%s: %v", topic, err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return packing{bus.NewPublisher(all.appender)}, unpacking{sub, &sync.WaitGroup{}}
	}
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups:                   true,
		GuaranteedOrder:                  true,
		Persistent:                       true,
		NewSubscriberReceivesOldMessages: true,
		ForceShort:                       os.Getenv("HOLDFAST_TEST_FULL") != "1",
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return open(t, uuid.NewString()) // a consumer of its own
	}, open)
}
