package commands

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Writer makes events durable: one commit, contiguous, on disk when it returns.
type Writer interface {
	Append(ctx context.Context, drafts ...events.Draft) ([]events.Record, error)
}

// DispatcherConfig says on what a [Dispatcher] works.
type DispatcherConfig struct {
	Writer Writer           // of the site's ctl log; nobody else may append to that log
	State  *aggregate.State // loaded up to the log's end; the dispatcher's from now on
	Now    func() time.Time // nil for time.Now
	NewID  func() (uuid.UUID, error)
	After  func([]events.Record) // told of each commit after it took effect, not in order; nil for nobody
}

// Dispatcher carries out commands one after another: decide on the state, make
// the events durable, apply them. Safe for concurrent use. Reading the state
// does not wait for the disk.
type Dispatcher struct {
	cfg    DispatcherConfig
	turn   chan struct{} // holds one token: whose command is being decided
	broken error         // guarded by turn: the state no longer follows the log

	mu sync.RWMutex // guards State; written only while applying, in turn
}

// NewDispatcher returns a dispatcher.
func NewDispatcher(cfg DispatcherConfig) *Dispatcher {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = events.NewID
	}
	return &Dispatcher{cfg: cfg, turn: make(chan struct{}, 1)}
}

type clientKey struct{}

// WithClient marks what is done under ctx as coming from a client, for the
// record of a refusal.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// Do carries out a command and returns its events as stored. They are durable
// and applied. A command that is not carried out gives a [*Refusal]; when that
// is an event, Refusal.Event names it. ctx ends the wait for a turn; a commit
// under way is always seen through.
func (d *Dispatcher) Do(ctx context.Context, by events.Actor, c Command) ([]events.Record, error) {
	return d.do(ctx, by, c, func([]events.Record) error { return nil })
}

// StartSession carries out c and gathers what the gateway needs to run the session.
func (d *Dispatcher) StartSession(ctx context.Context, by events.Actor, c StartSession) (Started, error) {
	var out Started
	_, err := d.do(ctx, by, c, func(records []events.Record) (err error) {
		out, err = started(d.cfg.State, records[0])
		return err
	})
	return out, err
}

// Append makes facts durable and applies them that were decided elsewhere in
// the site. It asks no right, so nothing from outside may reach it.
func (d *Dispatcher) Append(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
	if len(drafts) == 0 {
		return nil, nil
	}
	if err := d.take(ctx); err != nil {
		return nil, err
	}
	records, err := d.commit(ctx, drafts)
	d.give()
	d.tell(records)
	return records, err
}

// View lets f read the state. f must not keep what it gets, nor call the
// dispatcher.
func (d *Dispatcher) View(f func(s *aggregate.State)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	f(d.cfg.State)
}

// do runs then on the state right after the command's events took effect.
func (d *Dispatcher) do(ctx context.Context, by events.Actor, c Command, then func([]events.Record) error) ([]events.Record, error) {
	if err := d.take(ctx); err != nil {
		return nil, err
	}
	records, refusal, err := d.inTurn(ctx, by, c)
	if err == nil && refusal == nil && len(records) > 0 {
		err = then(records)
	}
	d.give()
	d.tell(records)
	if err != nil && refusal != nil {
		return nil, errors.Join(refusal, fmt.Errorf("the refusal was not recorded: %w", err))
	}
	if refusal != nil {
		return nil, refusal
	}
	return records, err
}

func (d *Dispatcher) inTurn(ctx context.Context, by events.Actor, c Command) (records []events.Record, refusal, err error) {
	client, _ := ctx.Value(clientKey{}).(Client)
	env := Env{Now: d.cfg.Now(), NewID: d.cfg.NewID, Client: client}
	drafts, refusal := decide(d.cfg.State, by, c, env) // the state changes only in turn
	if len(drafts) == 0 {
		return nil, refusal, nil
	}
	if refusal == nil && registry[reflect.TypeOf(c)].right&headroom != 0 {
		ctx = store.WithHeadroom(ctx)
	}
	records, err = d.commit(ctx, drafts)
	return records, refusal, err
}

// commit appends drafts and applies their records. A commit is never given up
// half way: whether it became durable would not be known.
func (d *Dispatcher) commit(ctx context.Context, drafts []events.Draft) ([]events.Record, error) {
	if d.broken != nil {
		return nil, unavailable(d.broken)
	}
	records, err := d.cfg.Writer.Append(context.WithoutCancel(ctx), drafts...)
	if err != nil {
		return nil, unavailable(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range records {
		if err := d.cfg.State.Apply(r); err != nil {
			d.broken = fmt.Errorf("the state no longer follows the log: %w", err)
			return nil, unavailable(d.broken)
		}
	}
	return records, nil
}

// unavailable is the refusal for events that could not be made durable.
func unavailable(err error) error {
	r := &Refusal{Code: Unavailable, Cause: err}
	if errors.Is(err, store.ErrFull) {
		r.Message, r.Hint = "the site has no space left to record this, so it was not done",
			"an administrator has to free or add disk space"
		return r
	}
	r.Message, r.Hint = "the site could not record this, so it took no effect",
		"an administrator has to look at the site's log and restart the site"
	return r
}

func (d *Dispatcher) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case d.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Dispatcher) give() { <-d.turn }

func (d *Dispatcher) tell(records []events.Record) {
	if len(records) > 0 && d.cfg.After != nil {
		d.cfg.After(records)
	}
}
