package rotation

import (
	"context"
	"math"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	// leaseRetry is how long what waits for a lease waits before it looks again.
	leaseRetry = time.Second / 2
	// leastLease is what has to be left of a lease for a step to begin.
	leastLease = time.Second / 4
)

// left is how long what nobody asked for may go on here from now.
func (m *Manager) left() time.Duration {
	if m.cfg.Lease == nil {
		return math.MaxInt64
	}
	return m.cfg.Lease()
}

// underLease gives a context in which a rotation may take a step: one that ends
// with the lease of this site, unless somebody asked for the rotation, which never
// waits. False where there is no lease, or as good as none.
func (m *Manager) underLease(ctx context.Context, id events.RotationID) (context.Context, context.CancelFunc, bool) {
	asked := false
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		r, ok := s.Rotation(id)
		asked = ok && r.Why == events.WhyAsked
	})
	left := m.left()
	switch {
	case asked || left == math.MaxInt64:
		ctx, cancel := context.WithCancel(ctx)
		return ctx, cancel, true
	case left < leastLease:
		return nil, nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	return ctx, cancel, true
}

// touches reports whether a step may reach the target. The others only write down
// what is known.
func (k Kind) touches() bool { return k == Stage || k == Send || k == Test || k == Retire }
