package rotator

import (
	"context"
	"errors"
)

// ErrNotPresented is in the error of an outcome or answer that can't have
// counted against a lock-out budget: the target was not reached, or proved
// another host key, or the exchange ended before a secret was presented. An
// error without it counts.
var ErrNotPresented = errors.New("no secret was presented")

// Retirer is a Rotator on whose targets an account holds several secrets at
// once, such as keys in authorized_keys. Its Change adds the new secret and
// keeps the current one, so that both are accepted until the new one is
// verified; then Retire takes the old one away.
type Retirer interface {
	Rotator
	// Retire makes the target refuse old and changes nothing else. It logs in
	// with j.Current, the new secret, or through j.Via. An old secret that the
	// target does not hold is Applied, so it can be asked for again.
	Retire(ctx context.Context, j Job, old Secret) (Outcome, error)
}
