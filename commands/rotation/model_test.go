package rotation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
)

// crash is the panic by which a site is lost.
type crash struct{ where string }

// model is a target with accounts that does what targets do: it is not
// reached, refuses, acts late, loses its reply, is restored from a snapshot. It
// counts wrong logins as a target does that locks.
type model struct {
	rng    *rand.Rand
	now    func() time.Time
	faults int // percent of calls that something happens to
	crash  func(where string)
	down   bool // not reached at all

	threshold int
	window    time.Duration
	cumulates bool // a good login does not reset the count

	mu       sync.Mutex // held by each act, since sessions log in beside rotations
	accounts map[string]*modelAccount
	broken   []string      // what must never happen
	slow     time.Duration // how long a change takes
}

type modelAccount struct {
	secret  string
	past    []string // true before, the oldest first
	pending []pendingChange
	wrong   []time.Time
}

type pendingChange struct {
	at   time.Time
	next string
}

func (m *model) account(name string) *modelAccount {
	a := m.accounts[name]
	for len(a.pending) > 0 && !a.pending[0].at.After(m.now()) {
		a.take(a.pending[0].next)
		a.pending = a.pending[1:]
	}
	return a
}

func (a *modelAccount) take(secret string) {
	if secret == a.secret {
		return
	}
	a.past = append(a.past, a.secret)
	a.secret = secret
}

// login is one login as an account sees it.
func (m *model) login(name, secret string) bool {
	a := m.account(name)
	if a.secret == secret {
		if !m.cumulates {
			a.wrong = nil
		}
		return true
	}
	now := m.now()
	a.wrong = append(slices.DeleteFunc(a.wrong, func(t time.Time) bool { return t.Before(now.Add(-m.window)) }), now)
	if len(a.wrong) >= m.threshold {
		m.broken = append(m.broken, fmt.Sprintf("%s was locked at %s by logins at %v", name, now, a.wrong))
	}
	return false
}

// drawn is a source that sessions and rotations draw from at once.
type drawn struct {
	mu sync.Mutex
	rand.Source
}

func (d *drawn) Uint64() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Source.Uint64()
}

// happens draws whether something goes wrong.
func (m *model) happens() bool { return m.rng.IntN(100) < m.faults }

func (m *model) pause() time.Duration { return time.Duration(1+m.rng.IntN(300)) * time.Second }

// Change implements [rotator.Rotator].
func (m *model) Change(ctx context.Context, j rotator.Job, next rotator.Secret) (rotator.Outcome, error) {
	m.mu.Lock()
	slow := m.slow
	m.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return rotator.Unknown, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crash("before the change")
	if m.down || m.happens() && m.rng.IntN(3) == 0 {
		return rotator.Refused, fmt.Errorf("not reached: %w", rotator.ErrNotPresented)
	}
	name, secret := j.Account, string(j.Current.Bytes.Bytes())
	if j.Verb == rotator.ByPrivileged {
		name, secret = j.Via.Account, string(j.Via.Secret.Bytes.Bytes())
	}
	lost := m.happens() && m.rng.IntN(3) == 0
	if !m.login(name, secret) {
		if lost {
			return rotator.Unknown, fmt.Errorf("the reply was lost")
		}
		return rotator.Refused, &rotator.LoginError{Account: name, Answer: rotator.Rejected, Err: fmt.Errorf("wrong")}
	}
	m.crash("before the target acts")
	a := m.account(j.Account)
	switch {
	case m.happens() && m.rng.IntN(3) == 0:
		return rotator.Refused, fmt.Errorf("against the target's rules: %w", rotator.ErrUnfit)
	case m.happens() && m.rng.IntN(3) == 0: // the target is slow
		a.pending = append(a.pending, pendingChange{m.now().Add(m.pause()), string(next.Bytes.Bytes())})
		slices.SortStableFunc(a.pending, func(x, y pendingChange) int { return x.at.Compare(y.at) })
		m.crash("while the target is slow")
		if m.rng.IntN(4) == 0 {
			return rotator.Applied, nil // it says so before it is so
		}
		return rotator.Unknown, fmt.Errorf("no reply in time")
	case m.happens() && m.rng.IntN(3) == 0:
		return rotator.Unknown, fmt.Errorf("cut before the target acted")
	}
	a.take(string(next.Bytes.Bytes()))
	m.crash("after the target acted")
	if lost {
		return rotator.Unknown, fmt.Errorf("cut after the target acted")
	}
	return rotator.Applied, nil
}

// Verify implements [rotator.Rotator].
func (m *model) Verify(_ context.Context, j rotator.Job, candidate rotator.Secret) (rotator.Answer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crash("before the test")
	switch {
	case m.down || m.happens() && m.rng.IntN(4) == 0:
		return rotator.NoAnswer, fmt.Errorf("not reached: %w", rotator.ErrNotPresented)
	case m.happens() && m.rng.IntN(8) == 0:
		return rotator.Locked, fmt.Errorf("locked by an administrator")
	}
	yes := m.login(j.Account, string(candidate.Bytes.Bytes()))
	m.crash("after the test")
	switch {
	case m.happens() && m.rng.IntN(4) == 0:
		return rotator.NoAnswer, fmt.Errorf("the reply was lost")
	case yes:
		return rotator.Accepted, nil
	}
	return rotator.Rejected, fmt.Errorf("wrong")
}

// session is a login of a person's session.
func (m *model) session(name, secret string) (lockout.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crash("before a session's login")
	if m.happens() && m.rng.IntN(4) == 0 {
		return lockout.NotPresented, fmt.Errorf("not reached")
	}
	yes := m.login(name, secret)
	m.crash("after a session's login")
	switch {
	case m.happens() && m.rng.IntN(4) == 0:
		return lockout.Unanswered, fmt.Errorf("the reply was lost")
	case yes:
		return lockout.Accepted, nil
	}
	return lockout.Rejected, fmt.Errorf("wrong")
}

// restore takes an account back to what a snapshot held.
func (m *model) restore(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.account(name)
	if n := len(a.past); n > 0 {
		a.take(a.past[n-1-m.rng.IntN(min(n, 2))])
	}
}

var _ rotator.Rotator = (*model)(nil)
