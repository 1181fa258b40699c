package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

const (
	// maxAtOnce bounds the steps under way at a site, whatever its targets allow.
	maxAtOnce = 32
	// retry is the pause after a step that the site itself could not take.
	retry = 5 * time.Second
	// lastSteps is how long steps under way get to end when the site stops.
	lastSteps = 5 * time.Second
	// collectPause is how long after their use secrets may still be in memory, and
	// the least time between two collections for their sake.
	collectPause = time.Second
	// worthAnEvent is the shortest wait that is written down.
	worthAnEvent = 10 * time.Second
)

// Config says on what a [Manager] works.
type Config struct {
	Dispatcher *commands.Dispatcher
	Sealer     *seal.Sealer
	Keeper     *lockout.Keeper
	Site       events.SiteID
	Now        func() time.Time // nil for time.Now
	Log        *slog.Logger     // nil for slog's default

	// Rotator is what changes secrets of a kind on a kind of target; false
	// where nothing does.
	Rotator func(target events.TargetKind, secret events.SecretKind) (rotator.Rotator, bool)
	// Generate makes a new secret that replaces old, of which it is told the kind
	// and the public half.
	Generate func(target events.TargetKind, p events.RotationPolicy, old rotator.Secret) (rotator.Secret, error)
	// Lease is how long what nobody asked for may go on here from now; nil for
	// without end (rule R13).
	Lease func() time.Duration
	// Copies are what other sites hold; nil where there are none.
	Copies Copies
}

// Manager is the process manager of rotations at one site: it carries out
// those that were planned, and plans those that are due. Nothing that it knows
// is only in memory. It is safe for concurrent use.
type Manager struct {
	cfg   Config
	actor events.Actor
	slots chan struct{} // tokens: steps under way

	mu      sync.Mutex
	running map[events.RotationID]*drive           // guarded by mu
	targets map[events.TargetID]int                // guarded by mu; steps under way
	waiting map[events.RotationID][]chan<- Outcome // guarded by mu
	moved   chan struct{}                          // guarded by mu; closed and replaced when a target's step ended
	due     chan struct{}                          // an event may have made something due; capacity 1
	used    chan struct{}                          // secrets were in memory and are not needed any more; capacity 1
}

// drive is one rotation that is carried out.
type drive struct {
	credential events.CredentialID
	account    events.AccountID
	woken      chan struct{} // capacity 1
}

// New makes a manager. It does nothing until Run.
func New(cfg Config) *Manager {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Copies == nil {
		cfg.Copies = noCopies{}
	}
	return &Manager{
		cfg: cfg, actor: events.SiteActor(cfg.Site), slots: make(chan struct{}, maxAtOnce),
		running: map[events.RotationID]*drive{}, targets: map[events.TargetID]int{},
		waiting: map[events.RotationID][]chan<- Outcome{}, moved: make(chan struct{}), due: make(chan struct{}, 1), used: make(chan struct{}, 1),
	}
}

// OnEvent is to be told of every record of the ctl log after it was applied. A
// record told twice does no harm.
func (m *Manager) OnEvent(r events.Record) {
	switch r.Header.Type {
	case "site.started", "rotation.planned", "rotation.deferred", "rotation.ended", "rotation.policy_set", "secret.revealed", "secret.checked_out", "secret.checked_in",
		"secret.rejected", "secret.applied", "secret.verified", "session.ended", "account.added", "account.removed", "account.restored", "target.restored", "account.via_set", "duty.taken", "duty.given", "site.fenced", "site.left", "site.closed":
		signal(m.due)
	}
	switch r.Header.Type {
	case "secret.revealed", "secret.checked_out", "account.added", "secret.applied":
		signal(m.used)
	}
	m.tell(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.running {
		if d.credential.UUID == r.Header.Stream || d.account.UUID == r.Header.Stream {
			d.wake()
		}
	}
}

func (d *drive) wake() { signal(d.woken) }

// signal fills a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run carries out and plans rotations until ctx ends. Steps under way then get a
// moment to end; what they leave unanswered the next start finds out.
func (m *Manager) Run(ctx context.Context) {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	late := context.AfterFunc(ctx, func() { time.AfterFunc(lastSteps, stop) })
	defer late()
	var drives sync.WaitGroup
	defer drives.Wait()
	drives.Go(func() { m.collect(ctx) })
	for ctx.Err() == nil {
		began := m.cfg.Now()
		open, next := m.scan(ctx)
		for _, r := range open {
			if d := m.begin(r); d != nil {
				drives.Go(func() {
					m.drive(ctx, working, r.id, d)
					m.end(r.id)
				})
			}
		}
		// Scans cost time with the number of accounts: they take a twentieth of it at most.
		m.pause(ctx, max(100*time.Millisecond, 20*m.cfg.Now().Sub(began)))
		m.sleep(ctx, m.due, next)
	}
}

// begin takes up a rotation, nil if that was done.
func (m *Manager) begin(r openRotation) *drive {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[r.id] != nil {
		return nil
	}
	d := &drive{credential: r.credential, account: r.account, woken: make(chan struct{}, 1)}
	m.running[r.id] = d
	return d
}

func (m *Manager) end(id events.RotationID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.running, id)
	signal(m.used)
}

// collect has the garbage collected soon after secrets were used: what libraries
// have kept of them is freed then, and overwritten (see [seal.OverwriteFreed]).
func (m *Manager) collect(ctx context.Context) {
	for ctx.Err() == nil {
		m.sleep(ctx, m.used, time.Time{})
		m.pause(ctx, collectPause)
		runtime.GC()
	}
}

// pause waits for a time, or the end of ctx.
func (m *Manager) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// sleep waits until a time (zero for none), a wake or the end of ctx.
func (m *Manager) sleep(ctx context.Context, woken <-chan struct{}, until time.Time) {
	var late <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(until.Sub(m.cfg.Now()))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-late:
	case <-woken:
	case <-ctx.Done():
	}
}

// drive carries out one rotation until it has ended.
func (m *Manager) drive(ctx, working context.Context, id events.RotationID, d *drive) {
	for ctx.Err() == nil {
		step, target, ok := m.next(id)
		switch {
		case !ok:
			return
		case step.Kind == Wait:
			m.putOff(working, id, step)
			m.sleep(ctx, d.woken, step.Until)
			continue
		}
		leave, err := m.enter(ctx, target)
		if err != nil {
			return
		}
		in, done := working, context.CancelFunc(func() {})
		if step.Kind.touches() {
			var leased bool
			if in, done, leased = m.underLease(working, id); !leased {
				leave()
				m.sleep(ctx, d.woken, m.cfg.Now().Add(leaseRetry))
				continue
			}
		}
		err = m.Step(in, id)
		done()
		leave()
		if err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("a rotation waits for this site", "rotation", id.String(), "error", err, "again in", retry.String())
			m.stuck(working, id, err)
			m.sleep(ctx, d.woken, m.cfg.Now().Add(retry))
		}
	}
}

// next tells the next step of a rotation and its target; false once it has ended.
func (m *Manager) next(id events.RotationID) (step Step, target events.TargetID, ok bool) {
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		var r *aggregate.Rotation
		if r, ok = s.Rotation(id); !ok {
			return
		}
		step = Plan(s, r, m.cfg.Site, m.cfg.Now())
		if a, known := s.Account(r.Account); known {
			target = a.Target
		}
	})
	return step, target, ok
}

// putOff writes down a wait that people may wonder about.
func (m *Manager) putOff(ctx context.Context, id events.RotationID, step Step) {
	if step.Until.Sub(m.cfg.Now()) < worthAnEvent {
		return
	}
	same := false
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		if r, ok := s.Rotation(id); ok {
			_, until, _ := r.Deferred()
			same = until.Equal(step.Until.UTC()) || until.Sub(step.Until).Abs() < time.Second
		}
	})
	if same {
		return
	}
	if err := m.do(ctx, commands.DeferRotation{Rotation: id, Until: step.Until, Detail: step.Detail}); err != nil {
		m.cfg.Log.Warn("a rotation's wait could not be recorded", "rotation", id.String(), "error", err)
	}
}

// stuck writes down, once until it goes on, that this site can't take a step: others,
// who hear this site, would wait for it.
func (m *Manager) stuck(ctx context.Context, id events.RotationID, why error) {
	said := false
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		r, ok := s.Rotation(id)
		said = !ok || r.Waits()
	})
	if said {
		return
	}
	if err := m.do(ctx, commands.DeferRotation{Rotation: id, Until: m.cfg.Now().Add(retry), Detail: "its site can't take the next step: " + why.Error()}); err != nil {
		m.cfg.Log.Warn("a rotation's wait could not be recorded", "rotation", id.String(), "error", err)
	}
}

// enter waits for a place among the steps on a target.
func (m *Manager) enter(ctx context.Context, target events.TargetID) (leave func(), err error) {
	for {
		most := m.concurrency(target)
		m.mu.Lock()
		if m.targets[target] < most {
			m.targets[target]++
			m.mu.Unlock()
			break
		}
		moved := m.moved
		m.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		m.leave(target)
		return nil, ctx.Err()
	}
	return func() { <-m.slots; m.leave(target) }, nil
}

func (m *Manager) leave(target events.TargetID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.targets[target]--; m.targets[target] == 0 {
		delete(m.targets, target)
	}
	close(m.moved)
	m.moved = make(chan struct{})
}

func (m *Manager) concurrency(target events.TargetID) (n int) {
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		n = int(s.OwnRotationPolicy(target.UUID).Concurrency)
	})
	if n == 0 {
		n = int(aggregate.DefaultRotationPolicy().Concurrency)
	}
	return n
}

// do carries out a command of the site.
func (m *Manager) do(ctx context.Context, c commands.Command) error {
	_, err := m.cfg.Dispatcher.Do(ctx, m.actor, c)
	return err
}

// refused reports whether a step came too late: somebody has taken it already.
func refused(err error) bool {
	var r *commands.Refusal
	return errors.As(err, &r) && r.Code != commands.Unavailable
}

// Outcome is how a rotation stands when somebody waits for it.
type Outcome struct {
	State  events.RotationResult // verified, failed or unknown
	Detail string
	Next   time.Time // when it goes on by itself; zero if it has ended
}

// Await returns when a rotation has ended, when nobody knows which secret is
// true and the next test waits, or when nothing is heard of its site any more.
func (m *Manager) Await(ctx context.Context, id events.RotationID) (Outcome, error) {
	told := make(chan Outcome, 1)
	m.mu.Lock()
	m.waiting[id] = append(m.waiting[id], told)
	m.mu.Unlock()
	defer m.forget(id, told)
	silent := time.NewTicker(time.Second)
	defer silent.Stop()
	for {
		if o, ok := m.stands(id); ok {
			return o, nil
		}
		select {
		case o := <-told:
			return o, nil
		case <-silent.C: // no event tells that nothing is heard
		case <-ctx.Done():
			return Outcome{}, fmt.Errorf("wait for rotation %s: %w", id, ctx.Err())
		}
	}
}

func (m *Manager) forget(id events.RotationID, told chan<- Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := m.waiting[id][:0]
	for _, c := range m.waiting[id] {
		if c != told {
			left = append(left, c)
		}
	}
	if m.waiting[id] = left; len(left) == 0 {
		delete(m.waiting, id)
	}
}

// stands tells how a rotation stands if it has ended already, waits, or is lost.
func (m *Manager) stands(id events.RotationID) (o Outcome, ok bool) {
	verified := m.verified(id)
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		if r, open := s.Rotation(id); open {
			if _, until, why := r.Deferred(); until.After(m.cfg.Now()) && !verified {
				o, ok = Outcome{State: events.RotationUnknown, Detail: why, Next: until}, true
			} else if m.cfg.Dispatcher.LostRotation(r) {
				o, ok = Outcome{State: events.RotationUnknown, Detail: stillAt(s, r)}, true
			}
			return
		}
		if e, found := s.EndedRotation(id); found {
			o, ok = Outcome{State: e.Result, Detail: e.Detail}, true
		}
	})
	return o, ok
}

// verified reports whether the target takes the new secret of a rotation that
// has not ended.
func (m *Manager) verified(id events.RotationID) (yes bool) {
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		r, ok := s.Rotation(id)
		if !ok {
			return
		}
		v, _ := r.Staged()
		all := r.Attempts()
		yes = len(all) > 0 && all[len(all)-1].Answer == aggregate.AnswerAccepted && all[len(all)-1].Version == v
	})
	return yes
}

// tell answers who waits for the rotation that a record is of.
func (m *Manager) tell(r events.Record) {
	if r.Header.Type != "rotation.ended" && r.Header.Type != "rotation.deferred" {
		return
	}
	id := events.RotationID{UUID: r.Header.Stream}
	e, err := r.Event()
	if err != nil {
		return
	}
	var o Outcome
	switch e := e.(type) {
	case events.RotationEnded:
		o = Outcome{State: e.Result, Detail: e.Detail}
	case events.RotationDeferred:
		if m.verified(id) { // what is left to do is worth waiting for
			return
		}
		o = Outcome{State: events.RotationUnknown, Detail: e.Detail, Next: e.Until}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, told := range m.waiting[id] {
		select {
		case told <- o:
		default:
		}
	}
}
