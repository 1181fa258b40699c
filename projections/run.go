package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pam/holdfast/events"
)

// Config says what the projections are built from and where they are kept.
type Config struct {
	Dir    string           // made with mode 0700 if it is not there; nothing else lives in it
	Source Source           // the logs
	Now    func() time.Time // what "expired" is measured by; nil means time.Now

	// Stopped is told of each projection that stops while the others go on, by
	// a goroutine of Run, which waits for it; nil for nobody.
	Stopped func(*FailedError)
}

// Projections are the views of one site. All methods are safe for concurrent
// use.
type Projections struct {
	source    Source
	files     generations
	now       func() time.Time
	told      func(*FailedError) // Config.Stopped
	defs      []*projection
	discarded string

	rebuilding sync.Mutex // held by Rebuild from begin to end
	applying   sync.Mutex // held by whoever steps the current view or swaps it; taken before mu

	mu         sync.RWMutex // guards what follows; read-locked by queries while they use the view
	view       *view
	generation uint64

	notes   sync.Mutex    // guards what follows
	changed chan struct{} // closed and renewed when a view has moved or was replaced
	running int
	runs    uint64 // that have begun
	stopped error  // how the last Run ended
}

// Open opens the projections in cfg.Dir. A database that is damaged, that is
// ahead of the logs (which were restored from a backup, say) or that an older
// holdfast wrote in another layout is replaced by an empty one, which Run
// fills. The caller closes the result after Run has returned.
func Open(ctx context.Context, cfg Config) (*Projections, error) {
	return open(ctx, cfg, registered())
}

func open(ctx context.Context, cfg Config, defs []*projection) (*Projections, error) {
	p := &Projections{source: cfg.Source, files: generations{cfg.Dir}, now: cfg.Now, told: cfg.Stopped, defs: defs, changed: make(chan struct{})}
	if p.now == nil {
		p.now = time.Now
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open projections: %w", err)
	}
	newest, err := p.files.newest()
	if err != nil {
		return nil, err
	}
	p.generation = max(newest, 1)
	path := p.files.path(p.generation)
	p.view, err = openView(path, defs, false, crashed(path))
	if err == nil {
		if err = p.view.within(cfg.Source); err != nil {
			err = errors.Join(err, p.view.db.close())
		}
	}
	if errors.Is(err, ErrDamaged) {
		p.discarded = err.Error()
		p.generation++
		p.view, err = openView(p.files.path(p.generation), defs, false, false)
	}
	if err != nil {
		return nil, err
	}
	if err := p.files.keepOnly(p.generation); err != nil {
		return nil, errors.Join(err, p.view.db.close())
	}
	p.view.stopped = p.projectionStopped
	return p, nil
}

func (p *Projections) projectionStopped(e *FailedError) {
	p.note(func() {})
	if p.told != nil {
		p.told(e)
	}
}

// Discarded says why the database that Open found was thrown away; it is empty
// when it was not.
func (p *Projections) Discarded() string { return p.discarded }

// Close closes the database. Run must have returned.
func (p *Projections) Close() error {
	p.applying.Lock()
	defer p.applying.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view.db.close()
}

// recPause is how long Run lets rec records gather, so that a session that
// streams is not followed by a transaction a commit.
const recPause = 100 * time.Millisecond

// readAgain is how long Run waits before it reads again what could not be read.
const readAgain = 5 * time.Second

// Run applies events as the logs grow, until ctx ends; it owns the goroutines
// that do it. The two kinds of logs are followed apart, so that damage in one
// stops only what is built from it. Run returns nil after an orderly end,
// [FailedError] for each projection that stopped on the way, or the error of
// the database that ended it at once; it may then be called again, after
// [ErrDamaged] when [Projections.Rebuild] has made a new database.
func (p *Projections) Run(ctx context.Context) error {
	p.note(func() { p.running++; p.runs++; p.stopped = nil })
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return p.follow(inner, events.Ctl, 0) })
	group.Go(func() error { return p.follow(inner, events.Rec, recPause) })
	err := group.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	p.mu.RLock()
	err = errors.Join(err, p.view.failures())
	p.mu.RUnlock()
	p.note(func() {
		p.running--
		p.stopped = errors.New("projections are not running")
		if err != nil {
			p.stopped = fmt.Errorf("%w: %w", p.stopped, err)
		}
	})
	return err
}

// follow steps the view through one kind of log. Once it has caught up it
// waits for more, and lets at least pause go by between two looks.
func (p *Projections) follow(ctx context.Context, kind events.Kind, pause time.Duration) error {
	const closedPause = 50 * time.Millisecond // a closed source wakes at once and has nothing
	for vain, again := false, false; ; {
		read, more, err := p.step(ctx, kind, again)
		if err != nil {
			return err
		}
		switch {
		case more:
		case read > 0:
			err = sleep(ctx, pause)
		case vain:
			err = sleep(ctx, closedPause)
		}
		if vain, again = read == 0, false; vain && err == nil {
			again, err = p.wait(ctx, kind)
		}
		if err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait returns once there may be something to do: the source has more, the view
// was replaced by another, or it is time to read again what could not be read.
func (p *Projections) wait(ctx context.Context, kind events.Kind) (again bool, err error) {
	var grown <-chan struct{} // stays nil when no projection of this kind runs
	var due <-chan time.Time
	p.mu.RLock()
	replaced := p.view.replaced
	for _, group := range p.view.groups(kind, false) {
		grown = p.source.Watch(kind, group[0].at)
	}
	if p.view.waiting(kind) {
		due = time.After(readAgain)
	}
	p.mu.RUnlock()
	select {
	case <-grown:
		return false, nil
	case <-replaced:
		return false, nil
	case <-due:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (p *Projections) step(ctx context.Context, kind events.Kind, again bool) (read int, more bool, err error) {
	p.applying.Lock()
	defer p.applying.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	p.mu.RLock()
	v := p.view
	p.mu.RUnlock()
	read, more, err = v.step(ctx, p.source, kind, again)
	if read > 0 {
		p.note(func() {})
	}
	if isDamage(err) && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return read, more, err
}

// note changes what is guarded by notes and wakes everybody who waits.
func (p *Projections) note(f func()) {
	p.notes.Lock()
	defer p.notes.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// WaitFor returns once every projection of that kind of log has applied a
// position, except those that have stopped, whose queries say so. It fails when
// ctx ends or when Run does.
func (p *Projections) WaitFor(ctx context.Context, origin events.Origin, position uint64) error {
	for {
		p.notes.Lock()
		changed, running, stopped := p.changed, p.running, p.stopped
		p.notes.Unlock()
		p.mu.RLock()
		reached := p.view.reached(origin, position)
		p.mu.RUnlock()
		switch {
		case reached:
			return nil
		case running == 0 && stopped != nil:
			return fmt.Errorf("the views may lack %s position %d: %w", origin, position, stopped)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the views have not reached %s position %d: %w", origin, position, ctx.Err())
		}
	}
}

// Again returns at once while Run does its work. Where it has ended with an error,
// again is to have it called anew, and Again returns when it was, or when ctx ends.
func (p *Projections) Again(ctx context.Context, again func()) {
	p.notes.Lock()
	runs, changed, idle := p.runs, p.changed, p.running == 0 && p.stopped != nil
	p.notes.Unlock()
	if !idle {
		return
	}
	again()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		p.notes.Lock()
		now := p.runs
		changed = p.changed
		p.notes.Unlock()
		if now > runs {
			return
		}
	}
}

// Trouble is why nothing is applied, nil while Run does its work.
func (p *Projections) Trouble() error {
	p.notes.Lock()
	defer p.notes.Unlock()
	if p.running > 0 {
		return nil
	}
	return p.stopped
}

// Status is where one projection stands.
type Status struct {
	Name       string              `json:"name"`
	Version    int                 `json:"version"`
	Reads      events.Kind         `json:"reads"`
	Checkpoint []events.ClockEntry `json:"checkpoint"`
	Behind     uint64              `json:"behind"`     // records that the logs hold beyond it
	Unknown    uint64              `json:"unknown"`    // records of types that this version does not know
	Absent     uint64              `json:"absent"`     // records whose payload it needs and which is not held here
	Unreadable uint64              `json:"unreadable"` // records whose payload does not decode
	Failed     string              `json:"failed,omitempty"`
}

// Status tells where each projection stands, by name.
func (p *Projections) Status() []Status {
	p.mu.RLock()
	defer p.mu.RUnlock()
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []Status
	for _, pr := range v.progress {
		s := Status{
			Name: pr.def.name, Version: pr.def.version, Reads: pr.def.reads, Checkpoint: pr.at.Entries(),
			Unknown: pr.unknown, Absent: pr.absent, Unreadable: pr.unreadable,
			Behind: distance(pr.at, p.source.Held(pr.def.reads)),
		}
		if pr.failed != nil {
			s.Failed = pr.failed.Error()
		}
		all = append(all, s)
	}
	return all
}

// distance counts the records that lie between two clocks.
func distance(from, to events.Clock) uint64 {
	var n uint64
	for _, e := range to.Entries() {
		if at := from.At(e.Origin); e.Position > at {
			n += e.Position - at
		}
	}
	return n
}
