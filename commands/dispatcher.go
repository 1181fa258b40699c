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
	Log    events.Origin    // that Writer writes
	State  *aggregate.State // loaded up to the log's end; the dispatcher's from now on
	Now    func() time.Time // nil for time.Now
	NewID  func() (uuid.UUID, error)
	After  func([]events.Record) // told of each commit after it took effect, not in order; nil for nobody
	// Silence is for how long nothing was heard of another site on a link; nil
	// for a site alone. It must be quick, and not call the dispatcher.
	Silence func(events.SiteID) time.Duration
	// Order makes durable that another site's log was applied up to a position,
	// after everything before it, and has the writer count that log as known
	// from then on. It is called in turn. nil for a site that hears no other.
	Order func(log events.Origin, to uint64) error
	// Release returns once what Log holds up to a position may be answered for:
	// where it has to be durable at another site, too. nil where it may at once.
	Release func(position uint64)
}

// Dispatcher carries out commands one after another: decide on the state, make
// the events durable, apply them. Safe for concurrent use. Reading the state
// does not wait for the disk.
type Dispatcher struct {
	cfg    DispatcherConfig
	turn   chan struct{} // holds one token: whose command is being decided
	broken error         // guarded by turn: the state no longer follows the log

	mu    sync.RWMutex                // guards State and moved; written only while applying, in turn
	moved chan struct{}               // closed and renewed when something was applied
	words map[events.SiteID]time.Time // guarded by mu like State; up to when sites were heard by what they wrote
}

// NewDispatcher returns a dispatcher.
func NewDispatcher(cfg DispatcherConfig) *Dispatcher {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = events.NewID
	}
	return &Dispatcher{cfg: cfg, turn: make(chan struct{}, 1), moved: make(chan struct{}), words: map[events.SiteID]time.Time{}}
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
	d.released(records)
	return records, err
}

// released returns once records may be answered for.
func (d *Dispatcher) released(records []events.Record) {
	if n := len(records); n > 0 && d.cfg.Release != nil {
		d.cfg.Release(records[n-1].Header.Position)
	}
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
	d.released(records)
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
	env := Env{Now: d.cfg.Now(), NewID: d.cfg.NewID, Client: client, Log: d.cfg.Log, Silence: d.silence()}
	drafts, refusal := decide(d.cfg.State, by, c, env) // the state changes only in turn
	if len(drafts) == 0 {
		return nil, refusal, nil
	}
	if refusal == nil && by.Kind == events.ByUser {
		if refusal = beyondAdmission(d.cfg.State, d.cfg.Log, drafts); refusal == nil {
			refusal = beyondThisVersion(d.cfg.State, by, drafts)
		}
		if refusal != nil {
			return nil, refusal, nil
		}
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
	d.wake()
	return records, nil
}

func (d *Dispatcher) wake() {
	close(d.moved)
	d.moved = make(chan struct{})
}

// Applied is up to where the state has applied a log, and a channel that is
// closed once it has applied more of any log.
func (d *Dispatcher) Applied(log events.Origin) (uint64, <-chan struct{}) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.cfg.State.At(log), d.moved
}

// WaitApplied returns once the state has applied a log up to a position. A
// record is durable, and seen by who reads the log, a moment before that.
func (d *Dispatcher) WaitApplied(ctx context.Context, log events.Origin, position uint64) error {
	for {
		at, moved := d.Applied(log)
		if at >= position {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Now is the time by which commands are decided.
func (d *Dispatcher) Now() time.Time { return d.cfg.Now() }

// Silence tells why a user may not go on for want of news of their home site;
// empty if they may. It is to be called in a View.
func (d *Dispatcher) Silence(s *aggregate.State, u *aggregate.User) string {
	return overdue(s, u, Env{Now: d.cfg.Now(), Silence: d.silence()}, 2)
}

// aheadOfUs is how far ahead another site's clock may be for what it writes to be
// news of it.
const aheadOfUs = 5 * time.Second

// hear notes up to when a site is heard by a record that was applied just now, by
// whatever way it came. A clock that is ahead must not make news of what is old; so
// a record is at most as new as its coming.
func (d *Dispatcher) hear(h *events.Header) {
	now := d.cfg.Now()
	age := now.Sub(h.Time())
	if age < -aheadOfUs {
		return
	}
	if at := now.Add(-max(age, 0)); at.After(d.words[h.Site]) {
		d.words[h.Site] = at
	}
}

// silence tells for how long nothing was heard of a site, on a link or by what it
// wrote; nil for a site alone. It is to be called in turn or in a View.
func (d *Dispatcher) silence() func(events.SiteID) time.Duration {
	if d.cfg.Silence == nil {
		return nil
	}
	return func(site events.SiteID) time.Duration {
		silent := d.cfg.Silence(site)
		if last, heard := d.words[site]; heard {
			silent = min(silent, max(0, d.cfg.Now().Sub(last)))
		}
		return silent
	}
}

// Rotating is [aggregate.State.Rotating] at this site. It is to be called in a View.
func (d *Dispatcher) Rotating(s *aggregate.State, id events.CredentialID) (*aggregate.Rotation, bool) {
	return s.Rotating(id, d.cfg.Log.Site, d.silence())
}

// LostRotation is [aggregate.Rotation.LostTo] at this site. It is to be called in a View.
func (d *Dispatcher) LostRotation(r *aggregate.Rotation) bool {
	return r.LostTo(d.cfg.Log.Site, d.silence())
}

// Log is the log that the dispatcher's decisions go to.
func (d *Dispatcher) Log() events.Origin { return d.cfg.Log }

// Await returns once f reports true of the state. It asks each time that
// something was applied, and once a second for what time alone changes. f must
// not keep what it gets, nor call the dispatcher.
func (d *Dispatcher) Await(ctx context.Context, f func(s *aggregate.State, now time.Time) bool) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		d.mu.RLock()
		done, moved := f(d.cfg.State, d.cfg.Now()), d.moved
		d.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Deliver applies what another site decided: records of its ctl log that follow
// each other, from the first one that the state lacks on. It takes as many as
// have all their causes applied, and returns their number; an error wraps
// [aggregate.ErrEarly] when one has to wait for another log. That they were
// applied is durable before anybody sees it.
func (d *Dispatcher) Deliver(ctx context.Context, records []events.Record) (int, error) {
	if err := d.take(ctx); err != nil {
		return 0, err
	}
	n, err := d.deliver(records)
	d.give()
	d.tell(records[:n])
	return n, err
}

func (d *Dispatcher) deliver(records []events.Record) (n int, err error) {
	if d.broken != nil {
		return 0, unavailable(d.broken)
	}
	if d.cfg.Order == nil {
		return 0, errors.New("deliver: this site keeps no order of logs")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for n < len(records) && err == nil {
		if err = d.cfg.State.Apply(records[n]); err == nil {
			d.hear(&records[n].Header)
			n++
		}
	}
	if n == 0 {
		return 0, err
	}
	last := &records[n-1].Header
	if lost := d.cfg.Order(last.Origin(), last.Position); lost != nil {
		d.broken = fmt.Errorf("what %s decided was applied, and that could not be recorded: %w", last.Origin(), lost)
		return 0, unavailable(d.broken)
	}
	d.wake()
	return n, err
}

// Rebuild puts another state in the place of the one that decides, in turn:
// build makes it from the logs. When build fails nothing changes.
func (d *Dispatcher) Rebuild(ctx context.Context, build func() (*aggregate.State, error)) error {
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.give()
	state, err := build()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg.State = state
	d.wake()
	return nil
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
