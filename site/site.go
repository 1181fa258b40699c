package site

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/erasure"
	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/applylog"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/projections"
)

// Site is one running holdfast. All methods are safe for concurrent use.
type Site struct {
	cfg     Config
	version string
	log     *slog.Logger
	data    data
	who     identity

	unlock   func() error
	keys     *Keys
	sealer   *seal.Sealer
	eraser   *erasure.Eraser
	hostKey  ssh.Signer
	caKeys   sync.Map   // signers of host authorities by public key
	rotating sync.Mutex // one host authority is made at a time
	ctl, rec *store.History
	ticker   *events.Ticker               // of the records of both
	applied  atomic.Pointer[events.Clock] // ctl logs other than the one being written
	order    *applylog.Log
	source   *projections.Woven
	others   *others
	mesh     meshPart
	newKeys  chan uuid.UUID // data keys that custodians are to be told of
	waiting  *waitingKeys
	sharing  *sharing
	wanted   wantedKeys
	unopened sync.Map // versions of secrets, of parts of logs that do not count, that no data key opens
	views    *projections.Projections
	counted  *counted
	pairKeys *pairKeys
	seconds  *seconds
	commands *commands.Dispatcher

	keeper    *lockout.Keeper
	rotations *rotation.Manager
	news      news
	leases    leases
	viewsNow  chan struct{} // somebody asks for views that have stopped; capacity 1
	met       chan struct{} // a member was met; capacity 1

	provenKeys sync.Map // uuid.UUID of data keys of credentials that are known to be right, to true

	gateway  *gateway.Server
	listener net.Listener

	damage damage // that was found in its logs
	aheads aheads

	background sync.WaitGroup
	stop       context.CancelFunc // ends what runs in background
	failed     chan error         // a background part that can't go on; capacity 1
}

// Open opens the data directory of a site, or makes a new one, and loads its
// history. The caller closes the site.
func Open(ctx context.Context, cfg Config, version string, log *slog.Logger) (*Site, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s := &Site{
		cfg: cfg, version: version, log: log, data: data{cfg.Site.Data}, others: newOthers(), counted: newCounted(), pairKeys: newPairKeys(),
		newKeys: make(chan uuid.UUID, 1024), viewsNow: make(chan struct{}, 1), met: make(chan struct{}, 1), waiting: newWaitingKeys(), sharing: newSharing(), failed: make(chan error, 1),
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Site) open(ctx context.Context) (err error) {
	if s.unlock, err = s.data.open(); err != nil {
		return err
	}
	if s.who, err = s.data.loadIdentity(s.cfg.Site.Name); err != nil {
		return err
	}
	if err := s.openOwnLogs(ctx); err != nil {
		return err
	}
	if err := s.openState(ctx); err != nil {
		return err
	}
	doubted, err := s.data.loadDoubt()
	if err != nil {
		return err
	}
	isNew := false
	s.commands.View(func(state *aggregate.State) {
		_, known := state.Site(s.who.ID)
		isNew = !known && doubted.Why == "" // else that is still to come back
	})
	if s.hostKey, err = s.data.loadHostKey(isNew); err != nil {
		return err
	}
	if err := s.openKeys(ctx, isNew); err != nil {
		return err
	}
	s.eraser = erasure.New(erasure.Config{Dispatcher: s.commands, Sealer: s.sealer, Site: s.who.ID, Log: s.log})
	if isNew {
		if err := s.create(ctx); err != nil {
			return err
		}
	}
	if err := s.openCA(ctx); err != nil {
		return err
	}
	if err := s.loadMeshIdentity(); err != nil {
		return err
	}
	s.maskViews()
	if err := s.openLeases(); err != nil {
		return err
	}
	s.openRotations()
	if err := s.openViews(ctx); err != nil {
		return err
	}
	if err := s.recordRestore(ctx); err != nil {
		return err
	}
	if err := s.recordDoubt(ctx); err != nil {
		return err
	}
	if err := s.endLostSessions(ctx); err != nil {
		return err
	}
	if err := s.eraser.Once(ctx); err != nil { // nothing opens it meanwhile, so the site may serve
		s.log.Error("what is erased is not destroyed here yet", "error", err)
	}
	s.keys.settle(ctx)
	return nil
}

func (s *Site) openLogs(ctx context.Context) (err error) {
	s.ticker = &events.Ticker{Now: WallClock}
	engine := segment.Engine{Options: segment.Options{SegmentSize: s.cfg.Log.SegmentSize, Reserve: s.cfg.Log.Headroom}}
	s.applied.Store(&events.Clock{})
	open := func(kind events.Kind, clock func() events.Clock) (*store.History, error) {
		cfg := store.HistoryConfig{
			Dir: s.data.log(kind), Site: s.who.ID, Kind: kind, Engine: engine, Known: s.who.Epochs[kind],
			Writer: store.WriterConfig{Ticker: s.ticker, Now: WallClock, Clock: clock},
		}
		if err := s.afterDoubt(&cfg); err != nil {
			return nil, fmt.Errorf("find the logs that were set aside: %w", err)
		}
		return store.OpenHistory(ctx, cfg)
	}
	if s.ctl, err = open(events.Ctl, func() events.Clock { return *s.applied.Load() }); err != nil {
		return err
	}
	if s.rec, err = open(events.Rec, nil); err != nil {
		return err
	}
	for _, h := range []*store.History{s.ctl, s.rec} {
		if t := h.TailDropped(); t != nil {
			s.log.Warn("a log had a tail that was never acknowledged; it was dropped in an earlier or this start, and a new epoch began",
				"log", h.Log().Origin().String(), "dropped", t.String())
		}
	}
	epochs := map[events.Kind]uint32{}
	for _, h := range []*store.History{s.ctl, s.rec} {
		epochs[h.Log().Origin().Kind] = h.Log().Origin().Epoch
	}
	if err := s.data.saveEpochs(&s.who, epochs); err != nil {
		return err
	}
	if err := s.keepOrder(); err != nil {
		return err
	}
	s.source = projections.NewWoven(s.order, s.ctl.Logs(), s.rec.Logs())
	return s.openOthers()
}

// openState folds the decisions of all logs in the order in which they were
// applied, and from then on counts the logs other than its newest as known.
func (s *Site) openState(ctx context.Context) (err error) {
	was, err := s.data.loadJoined()
	s.mesh.joined.Store(was)
	if err != nil {
		return err
	}
	state, err := s.load(ctx)
	if err != nil {
		return err
	}
	s.knowOthers()
	s.commands = commands.NewDispatcher(commands.DispatcherConfig{
		Writer: s.ctl.Writer(), Log: s.ctl.Log().Origin(), State: state, Order: s.orderOther, Release: s.releaseCtl(),
		Now: WallClock, Silence: s.silence,
	})
	return nil
}

// knowOthers has the writer of decisions count as known what was applied of all
// logs but the one that it writes.
func (s *Site) knowOthers() {
	applied := s.order.Clock().With(s.ctl.Log().Origin(), 0)
	s.applied.Store(&applied)
}

// orderOther records that another site's log was applied up to a position,
// after all that this site has written. The dispatcher calls it in turn.
func (s *Site) orderOther(log events.Origin, to uint64) error {
	if err := s.keepOrder(); err != nil {
		return err
	}
	if err := s.order.Append(log, to); err != nil {
		return err
	}
	s.knowOthers()
	s.source.Grew(events.Ctl)
	return nil
}

// keepOrder brings the apply log up to this site's own ctl logs. The order
// within the log that it writes is the order of application; a cell is needed
// only where an epoch began, where another site's log was applied in between,
// and at each start and stop.
func (s *Site) keepOrder() (err error) {
	if s.order == nil {
		if s.order, err = applylog.Open(s.data.order()); err != nil {
			return err
		}
	}
	for _, log := range s.ctl.Logs() {
		size, _ := log.Size()
		if known := s.order.Clock().At(log.Origin()); size < known {
			return fmt.Errorf("log %s holds %d records, and %d were applied earlier; restore it from a replica or a backup, nothing was changed",
				log.Origin(), size, known)
		} else if size > known {
			if err := s.order.Append(log.Origin(), size); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Site) create(ctx context.Context) error {
	_, err := s.commands.Do(ctx, s.actor(), commands.CreateSite{
		Name: s.who.Name, SealingKey: s.keys.Status().Public, HostKey: s.HostKey(),
	})
	return err
}

// openViews opens the projections and starts what keeps them up to date.
func (s *Site) openViews(ctx context.Context) error {
	var err error
	stopped := func(e *projections.FailedError) {
		s.log.Error("a view is not kept up to date; the others go on", "view", e.Projection, "error", e)
		s.background.Go(func() { s.noteDamage(ctx, e.Err) })
	}
	if s.views, err = projections.Open(ctx, projections.Config{Dir: s.data.views(), Source: s.source, Now: WallClock, Stopped: stopped}); err != nil {
		return err
	}
	if why := s.views.Discarded(); why != "" {
		s.log.Warn("the views are being built again from the logs", "why", why)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.background.Go(func() { s.runViews(running) })
	s.background.Go(func() { s.keepCounted(running) })
	return nil
}

const (
	// viewsRetry is how long views that have stopped wait before they are tried
	// again, unless somebody asks for them.
	viewsRetry = 5 * time.Second
	// viewsStart bounds how long who asks for them waits for that.
	viewsStart = time.Second
)

// runViews keeps the views up to date. They are disposable, so their trouble
// (a full disk, a damaged file) is told and never ends the site.
func (s *Site) runViews(ctx context.Context) {
	var told time.Time
	for ctx.Err() == nil {
		err := s.views.Run(ctx)
		if errors.Is(err, projections.ErrDamaged) {
			s.log.Warn("the views are damaged and are being built again from the logs", "error", err)
			err = s.views.Rebuild(ctx, nil)
		}
		if err != nil && ctx.Err() == nil {
			if time.Since(told) >= viewsRetry { // and not each time that somebody asks
				told = time.Now()
				s.log.Error("the views are not kept up to date; trying again", "error", err, "in", viewsRetry.String())
			}
			select {
			case <-ctx.Done():
			case <-s.viewsNow:
			case <-time.After(viewsRetry):
			}
		}
	}
}

// wakeViews has views that have stopped, for want of space perhaps, tried again now.
func (s *Site) wakeViews(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, viewsStart)
	defer cancel()
	s.views.Again(ctx, func() {
		select {
		case s.viewsNow <- struct{}{}:
		default: // they are about to be
		}
	})
}

// fail makes the site's end known to [Site.Failed]; the first cause counts.
func (s *Site) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// Failed gives the error of a part that the site can't go on without.
func (s *Site) Failed() <-chan error { return s.failed }

// Close takes the site down: it waits for what was handed to the logs, signs a
// last head and lets the data directory go.
func (s *Site) Close() error {
	errs := []error{s.closeMesh()}
	if s.stop != nil {
		s.stop()
		s.background.Wait()
	}
	if s.views != nil {
		errs = append(errs, s.views.Close())
	}
	errs = append(errs, s.closeLogs())
	if s.keys != nil {
		errs = append(errs, s.keys.ring.Close())
	}
	if s.unlock != nil {
		errs = append(errs, s.unlock())
	}
	return errors.Join(errs...)
}

func (s *Site) closeLogs() error {
	var errs []error
	if s.source != nil {
		s.source.Close()
	}
	if s.order != nil {
		if s.ctl != nil {
			errs = append(errs, s.keepOrder())
		}
		errs = append(errs, s.order.Close())
	}
	for _, h := range []*store.History{s.ctl, s.rec} {
		if h != nil {
			errs = append(errs, h.Close())
		}
	}
	return errors.Join(append(errs, s.others.close())...)
}

func (s *Site) actor() events.Actor { return events.SiteActor(s.who.ID) }

// ID is the site's own id.
func (s *Site) ID() events.SiteID { return s.who.ID }

// Name is what people call the site.
func (s *Site) Name() string { return s.who.Name }

// HostKey is the gateway's public host key in authorized_keys form.
func (s *Site) HostKey() string { return authorizedKey(s.hostKey.PublicKey()) }

// Commands is the site's dispatcher.
func (s *Site) Commands() *commands.Dispatcher { return s.commands }

// Keys are the site's keys.
func (s *Site) Keys() *Keys { return s.keys }

// Sealer makes and finds data keys.
func (s *Site) Sealer() *seal.Sealer { return s.sealer }

// Views are the site's projections.
func (s *Site) Views() *projections.Projections { return s.views }

// Source holds the logs that views are built from.
func (s *Site) Source() projections.Source { return s.source }

// Histories are the site's two logs, ctl first.
func (s *Site) Histories() []*store.History { return []*store.History{s.ctl, s.rec} }

// CaughtUp returns once the views hold everything that was durable when it was
// called, but for those that have stopped, whose queries say so, and nothing that
// does not count any more.
func (s *Site) CaughtUp(ctx context.Context) error {
	if err := s.viewsMatch(ctx); err != nil {
		return err
	}
	s.wakeViews(ctx)
	for _, h := range s.Histories() {
		size, _ := h.Log().Size()
		if err := s.views.WaitFor(ctx, h.Log().Origin(), size); err != nil {
			return err // it says of what
		}
	}
	return nil
}

func authorizedKey(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}
