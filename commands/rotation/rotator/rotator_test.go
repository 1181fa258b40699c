package rotator_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

func full() bool { return os.Getenv("HOLDFAST_TEST_FULL") == "1" }

func secret(text string) rotator.Secret {
	return rotator.Secret{Kind: events.Password, Bytes: seal.NewSecret([]byte(text))}
}

// patience is for a busy machine; no test waits for its end.
const patience = 4 * time.Minute

// subject is one account on a real target, with a rotator for it.
type subject struct {
	*testing.T
	rotator.Rotator
	job    rotator.Job
	true   rotator.Secret // what the target holds
	fresh  func() rotator.Secret
	unlock func() // clears a lock-out, nil where there is none
	used   []string
	no     rotator.Answer // to a wrong secret; zero for Rejected
}

func password(t *testing.T, kind events.TargetKind) func() rotator.Secret {
	return func() rotator.Secret {
		s, err := rotator.NewPassword(kind, rotator.DefaultPolicy(kind))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func key(t *testing.T) func() rotator.Secret {
	return func() rotator.Secret {
		s, err := rotator.NewKey(rotator.Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func rotatorFor(t *testing.T, kind events.TargetKind, secret events.SecretKind) rotator.Rotator {
	t.Helper()
	r, ok := rotator.NewSet(nil).For(kind, secret)
	if !ok {
		t.Fatalf("no rotator for %s on %s", secret, kind)
	}
	return r
}

func effective(kind events.TargetKind, addr string, params map[string]string) map[string]string {
	return targetkind.Effective(kind, addr, targetkind.Sorted(params), nil)
}

// asked is the job as it stands: as the account itself it proves the current secret.
func (s *subject) asked() rotator.Job {
	j := s.job
	j.Current, j.Timeout = s.true, patience
	return j
}

func (s *subject) change(next rotator.Secret) (rotator.Outcome, error) {
	s.used = append(s.used, string(next.Bytes.Bytes()))
	return s.Change(s.Context(), s.asked(), next)
}

func (s *subject) verify(candidate rotator.Secret) rotator.Answer {
	s.Helper()
	a, err := s.Verify(s.Context(), s.asked(), candidate)
	if (err == nil) != (a == rotator.Accepted) {
		s.Errorf("answer %q comes with error %v", a, err)
	}
	s.keepsSecret(err)
	return a
}

// keepsSecret fails if an error repeats a secret.
func (s *subject) keepsSecret(err error) {
	s.Helper()
	if err == nil {
		return
	}
	for _, text := range append(s.used, string(s.true.Bytes.Bytes())) {
		if strings.Contains(err.Error(), text) {
			s.Errorf("an error repeats a secret: %v", err)
		}
	}
}

// must checks what the target takes.
func (s *subject) must(want rotator.Answer, candidate rotator.Secret, what string) {
	s.Helper()
	if got := s.verify(candidate); got != want {
		s.Fatalf("%s: %s, want %s", what, got, want)
	}
	if want == rotator.Rejected && s.unlock != nil {
		s.unlock()
	}
}

// rotate changes the secret once, all the way.
func (s *subject) rotate() {
	s.Helper()
	next, old := s.fresh(), s.true
	outcome, err := s.change(next)
	if outcome != rotator.Applied || err != nil {
		s.Fatalf("change: %s, %v", outcome, err)
	}
	s.must(rotator.Accepted, next, "the new secret")
	s.true = next
	if retirer, ok := s.Rotator.(rotator.Retirer); ok {
		s.must(rotator.Accepted, old, "the old key before it is retired")
		if outcome, err := retirer.Retire(s.Context(), s.asked(), []string{old.Public, next.Public}); outcome != rotator.Applied {
			s.Fatalf("retire: %s, %v", outcome, err)
		}
		s.must(rotator.Accepted, next, "the new key after the old one is retired")
	}
	s.must(cmp.Or(s.no, rotator.Rejected), old, "the old secret")
}

func (s *subject) rotateMany() {
	s.Helper()
	n := 2
	switch {
	case full():
		n = 100
	case testing.Short():
		n = 1
	}
	began := time.Now()
	for range n {
		s.rotate()
	}
	s.Logf("%d rotations, each verified, in %v", n, time.Since(began).Round(time.Millisecond))
}

// wrongOld: who holds a stale secret changes nothing, and is told that it was
// turned down.
func (s *subject) wrongOld() {
	s.Helper()
	j := s.asked()
	j.Current = s.fresh()
	next := s.fresh()
	outcome, err := s.Change(s.Context(), j, next)
	var login *rotator.LoginError
	if outcome != rotator.Refused || !errors.As(err, &login) || login.Answer != rotator.Rejected || login.Account != s.job.Account {
		s.Errorf("with a wrong old secret: %s, %v", outcome, err)
	}
	if s.unlock != nil {
		s.unlock()
	}
	s.must(rotator.Accepted, s.true, "the secret after a change with a wrong one")
}

// down: a target that is not there was not asked.
func (s *subject) down() {
	s.Helper()
	j := s.asked()
	j.Addr = "127.0.0.1:1"
	if outcome, err := s.Change(s.Context(), j, s.fresh()); outcome != rotator.Refused || !errors.Is(err, rotator.ErrNotPresented) {
		s.Errorf("target down: %s, %v", outcome, err)
	}
	if a, err := s.Verify(s.Context(), j, s.true); a != rotator.NoAnswer || !errors.Is(err, rotator.ErrNotPresented) {
		s.Errorf("target down: %s, %v", a, err)
	}
}

// cut cuts the connection at places all over the exchange. Whatever the
// outcome says about the target's secret has to be so, and unknown is one of two.
func (s *subject) cut() {
	s.Helper()
	if testing.Short() {
		return
	}
	proxy := targettest.NewProxy(s.T, s.job.Addr)
	direct := s.job.Addr
	through := func(toTarget, toClient int, silent bool, next rotator.Secret) (rotator.Outcome, error) {
		proxy.Cut(toTarget, toClient, silent)
		s.used = append(s.used, string(next.Bytes.Bytes()))
		j := s.asked()
		j.Addr = proxy.Addr
		if silent {
			j.Timeout = 700 * time.Millisecond
		}
		defer proxy.Drop()
		return s.Change(s.Context(), j, next)
	}
	next := s.fresh()
	if outcome, err := through(-1, -1, false, next); outcome != rotator.Applied {
		s.Fatalf("through a proxy: %s, %v", outcome, err)
	}
	s.true = next
	up, down := proxy.Passed()
	step, from := 3, 0
	switch {
	case full():
		step = 24
	case s.job.Kind == events.SSH: // whose logins cost most
		from = 2
	}
	seen := map[rotator.Outcome]int{}
	for i := from; i < step+2; i++ {
		for _, toTarget := range []bool{true, false} {
			a, b := -1, -1
			part := func(all int) int {
				if i == step+1 {
					return all - 40 // in the last message
				}
				return all * i / step
			}
			if toTarget {
				a = part(up)
			} else {
				b = part(down)
			}
			next := s.fresh()
			silent := i%3 == 2
			began := time.Now()
			outcome, err := through(a, b, silent, next)
			if took := time.Since(began); silent && took > time.Minute {
				s.Errorf("a target that hangs is given up after %v", took)
			}
			s.keepsSecret(err)
			seen[outcome]++
			s.job.Addr = direct
			s.settle(outcome, err, next, fmt.Sprintf("cut after %d/%d bytes", a, b))
		}
	}
	s.Logf("cuts: %v", seen)
}

// settle finds out what the target holds and checks the outcome against it.
func (s *subject) settle(outcome rotator.Outcome, err error, next rotator.Secret, when string) {
	s.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if s.unlock != nil {
			s.unlock()
		}
		fresh := s.verify(next)
		if s.unlock != nil {
			s.unlock()
		}
		old := s.verify(s.true)
		_, both := s.Rotator.(rotator.Retirer)
		switch {
		case outcome == rotator.Applied && fresh == rotator.Accepted, outcome == rotator.Unknown && fresh == rotator.Accepted:
			s.true = next
			return
		case outcome != rotator.Applied && fresh == rotator.Rejected && old == rotator.Accepted:
			return
		case time.Now().After(deadline) || outcome == rotator.Refused && fresh == rotator.Accepted && !both:
			s.Fatalf("%s: outcome %s (%v), yet the new secret is %s and the old one %s", when, outcome, err, fresh, old)
		}
		time.Sleep(50 * time.Millisecond) // the target may still be at it
	}
}

// noTrace fails if a text holds one of the secrets.
func (s *subject) noTrace(where, text string) {
	s.Helper()
	if len(s.used) == 0 || text == "" {
		s.Errorf("nothing to look for in %s, or it is empty", where)
	}
	for _, used := range s.used {
		if strings.Contains(text, used) {
			s.Errorf("%s holds a secret", where)
		}
	}
}

// argvDuring samples the machine's process list while f runs.
func argvDuring(t *testing.T, f func()) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string)
	go func() {
		all, since := map[string]bool{}, map[string]time.Time{}
		for ctx.Err() == nil {
			entries, _ := os.ReadDir("/proc")
			for _, e := range entries {
				if since[e.Name()].IsZero() {
					since[e.Name()] = time.Now()
				}
				if time.Since(since[e.Name()]) > 2*time.Second {
					continue // its arguments stay what they are
				}
				for _, file := range []string{"cmdline", "environ"} {
					if b, err := os.ReadFile("/proc/" + e.Name() + "/" + file); err == nil {
						all[string(b)] = true
					}
				}
			}
			time.Sleep(4 * time.Millisecond) // a program that lives for less is missed, and many are tried
		}
		seen <- strings.Join(slices.Collect(maps.Keys(all)), "\n")
	}()
	f()
	cancel()
	return <-seen
}
