package rotator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxShown bounds what an error repeats of a target's words, in bytes.
const maxShown = 300

// within bounds a call by its job's time.
func within(ctx context.Context, j Job) (context.Context, context.CancelFunc) {
	d := j.Timeout
	if d <= 0 {
		d = DefaultTimeout
	}
	return context.WithTimeout(ctx, d)
}

// actor is who logs in for a change.
func (j Job) actor() (Login, error) {
	switch {
	case j.Verb == AsItself && j.Current.Bytes.Len() > 0:
		return Login{Account: j.Account, Params: j.Params, Secret: j.Current}, nil
	case j.Verb == ByPrivileged && j.Via != nil && j.Via.Secret.Bytes.Len() > 0:
		return *j.Via, nil
	}
	return Login{}, notPresented(fmt.Errorf("a change of %s by verb %q lacks the secret to log in with", j.Account, j.Verb))
}

// self is the account itself with a secret.
func (j Job) self(s Secret) Login { return Login{Account: j.Account, Params: j.Params, Secret: s} }

// notPresented marks an error as one that no lock-out counts.
func notPresented(err error) error { return fmt.Errorf("%w: %w", ErrNotPresented, err) }

// refusedLogin is the outcome of a change whose login did not succeed.
func refusedLogin(who Login, a Answer, err error) (Outcome, error) {
	return Refused, &LoginError{Account: who.Account, Answer: a, Err: err}
}

// shown makes a target's words fit for an error: one line, escaped, bounded, and
// without the secrets that are about.
func shown(text string, secrets ...Secret) string {
	for _, s := range secrets {
		if s.Bytes.Len() > 0 {
			text = string(bytes.ReplaceAll([]byte(text), s.Bytes.Bytes(), []byte("[redacted]")))
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxShown {
		text = text[:maxShown] + "..."
	}
	return strconv.QuoteToGraphic(text)
}

// cleaned is an error with a target's words made fit; classes of errors stay.
func cleaned(err error, secrets ...Secret) error {
	if err == nil {
		return nil
	}
	text := strings.Trim(shown(err.Error(), secrets...), `"`)
	switch {
	case errors.Is(err, ErrNotPresented):
		return notPresented(errors.New(strings.TrimPrefix(text, ErrNotPresented.Error()+": ")))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s", context.DeadlineExceeded, text)
	}
	return errors.New(text)
}
