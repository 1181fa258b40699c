package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-pam/holdfast/events"
)

// ErrRebuilding says that a rebuild is running already.
var ErrRebuilding = errors.New("a rebuild is running already; wait for it")

// Rebuild builds all projections again from the first record, in a fresh file,
// and puts it in the place of the old one when it is complete and durable. Until
// then queries and Run go on with the old one; when it fails or the process
// dies, the old one stays. progress, which may be nil, is told how many of the
// records that are held by now have been applied. Run need not be running. When
// the new views are in place but some projection stopped, the error holds its
// [FailedError]. A view that has what can't be read now is not given up.
func (p *Projections) Rebuild(ctx context.Context, progress func(done, total uint64)) error {
	if !p.rebuilding.TryLock() {
		return ErrRebuilding
	}
	defer p.rebuilding.Unlock()
	path := p.files.unfinished()
	if err := removeDatabase(path); err != nil {
		return err
	}
	fresh, err := openView(path, p.defs, true, false)
	if err != nil {
		return fmt.Errorf("rebuild projections: %w", err)
	}
	if err := p.fill(ctx, fresh, progress); err != nil {
		return errors.Join(fmt.Errorf("rebuild projections: %w", err), fresh.db.close(), removeDatabase(path))
	}
	return p.replace(ctx, fresh)
}

// fill applies everything that the source holds.
func (p *Projections) fill(ctx context.Context, v *view, progress func(done, total uint64)) error {
	var done uint64
	for more := true; more; {
		more = false
		for _, kind := range []events.Kind{events.Ctl, events.Rec} {
			if err := ctx.Err(); err != nil {
				return err
			}
			read, again, err := v.step(ctx, p.source, kind, false)
			if err != nil {
				return err
			}
			done, more = done+uint64(read), more || again
		}
		if progress != nil {
			held := distance(events.Clock{}, p.source.Held(events.Ctl)) + distance(events.Clock{}, p.source.Held(events.Rec))
			progress(done, max(done, held))
		}
	}
	return nil
}

// replace brings the fresh view up to date while Run stands still, makes its
// file the next generation, and hands it to Run and the queries.
func (p *Projections) replace(ctx context.Context, fresh *view) error {
	p.applying.Lock()
	defer p.applying.Unlock()
	err := p.fill(ctx, fresh, nil)
	if err == nil {
		err = p.view.lostIn(fresh)
	}
	if err = errors.Join(err, fresh.db.close()); err != nil {
		return errors.Join(fmt.Errorf("rebuild projections: %w", err), removeDatabase(p.files.unfinished()))
	}
	next := p.generation + 1
	if err := p.files.publish(next); err != nil {
		return err
	}
	swapped, err := openView(p.files.path(next), p.defs, false, false)
	if err != nil {
		return errors.Join(err, removeDatabase(p.files.path(next)))
	}
	for i, pr := range fresh.progress { // both are in the order of p.defs
		swapped.progress[i].failed = pr.failed
	}
	swapped.stopped = p.projectionStopped
	p.mu.Lock()
	old := p.view
	p.view, p.generation = swapped, next
	p.mu.Unlock()
	close(old.replaced)
	p.note(func() {})
	return errors.Join(old.db.close(), p.files.keepOnly(next), fresh.failures())
}

// lostIn is the failure of a projection that runs in v and that fresh could not
// build, because the records can't be read any more.
func (v *view) lostIn(fresh *view) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, pr := range fresh.progress {
		if pr.failed != nil && pr.failed.unread() && v.progress[i].failed == nil {
			return pr.failed
		}
	}
	return nil
}
