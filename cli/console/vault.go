package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/keyring"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
	"github.com/holdfast-pam/holdfast/events/seal/token"
	"github.com/holdfast-pam/holdfast/site"
)

var _ = noun(func(c *call) *cobra.Command {
	return group("vault", "The site's own key, which opens its secrets and recordings",
		c.vaultStatus(), c.vaultSeal(), c.vaultUnseal(), c.vaultRekey())
})

var vaultColumns = []column[keyring.Status]{
	{"state", func(s keyring.Status) string {
		if s.Sealed {
			return "sealed"
		}
		return "unsealed"
	}},
	{"provider", func(s keyring.Status) string { return string(s.Provider) }},
	{"held by", func(s keyring.Status) string { return s.Holder }},
	{"configured", func(s keyring.Status) string { return string(s.Configured) }},
	{"key", func(s keyring.Status) string { return s.Key }},
	{"data keys", func(s keyring.Status) string { return number(s.DataKeys) }},
	{"shares given", func(s keyring.Status) string {
		if s.Needed == 0 {
			return ""
		}
		return fmt.Sprintf("%d of %d", s.Given, s.Needed)
	}},
	{"rekey", func(s keyring.Status) string {
		if s.Next == "" {
			return s.Rekey
		}
		return fmt.Sprintf("%s %s (%s)", s.Rekey, s.Next, s.NextKind)
	}},
}

func (c *call) vaultStatus() *cobra.Command {
	return c.verb("status", "Show whether the site is sealed, what holds its key, and an unfinished rekey", read, func([]string) error {
		return show(c, "vault", c.cfg.Site.Keys().Status(), vaultColumns)
	})
}

// needReason wants a reason for what can't simply be taken back.
func needReason(verb, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return &Fault{Exit: Usage, Message: verb + " needs a reason, for the audit", Hint: "add --reason TEXT"}
	}
	return nil
}

func (c *call) vaultSeal() *cobra.Command {
	var reason string
	cmd := c.verb("seal", "Let the site's key go: it records, and opens nothing, until it is unsealed", change, func([]string) error {
		if err := needReason("vault seal", reason); err != nil {
			return err
		}
		r, err := c.cfg.Site.Keys().Seal(c.from(), c.by.actor(), reason)
		if err != nil {
			return err
		}
		return c.vaultDid(r)
	})
	cmd.Long = cmd.Short + ".\n\nSessions that run go on and are recorded. New ones are refused, and no recording can\n" +
		"be read. A restart unseals the site where nobody has to enter anything for it."
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

// vaultDid answers with the event of what was done.
func (c *call) vaultDid(r events.Record) error {
	if c.json {
		return writeJSON(c.stdout, c.answer("vault", struct {
			keyring.Status
			Event string `json:"event"`
		}{c.cfg.Site.Keys().Status(), r.Header.ID.String()}))
	}
	_, err := fmt.Fprintf(c.stdout, "%s  %s  event %s\n", r.Header.Type, r.Header.Stream, r.Header.ID)
	return err
}

func (c *call) vaultUnseal() *cobra.Command {
	cmd := c.verb("unseal", "Open the site's key, with what its provider needs from standard input", change, func([]string) error {
		keys := c.cfg.Site.Keys()
		status := keys.Status()
		var secret seal.Secret
		if keys.NeedsSecret() && status.Sealed {
			var err error
			if secret, err = c.secret(entered(status.Provider), false); err != nil {
				return err
			}
			defer secret.Wipe()
		}
		r, err := keys.Unseal(c.from(), c.by.actor(), secret)
		if errors.Is(err, lock.ErrTooFew) {
			s := keys.Status()
			return errors.Join(c.vaultDid(r), &Fault{Exit: Waiting, Message: fmt.Sprintf("%d of %d shares were given; the site stays sealed until the others are", s.Given, s.Needed),
				Event: r.Header.ID, Hint: "each holder runs vault unseal", cause: err})
		}
		if err != nil {
			return vaultFault(r, err)
		}
		return c.vaultDid(r)
	})
	cmd.Long = cmd.Short + ".\n\nIt asks for a passphrase, a PIN or a share where it has a terminal, and reads it from\n" +
		"standard input otherwise: shares one a line, as many as there are. Shares may come from\n" +
		"several people, each in a call of their own; they are kept in memory until enough are there."
	cmd.Annotations[DrawsOnTerminal] = "asks"
	return cmd
}

// entered names what somebody enters for a kind of provider.
func entered(kind keyring.Kind) string {
	switch kind {
	case keyring.Shares:
		return "share"
	case keyring.Token:
		return "PIN"
	}
	return "passphrase"
}

// vaultFault gives the errors of the keys their exit codes.
func vaultFault(r events.Record, err error) error {
	f := AsFault(err)
	f.Event = r.Header.ID
	switch {
	case errors.Is(err, lock.ErrWrong), errors.Is(err, token.ErrPIN), errors.Is(err, token.ErrLocked):
		f.Exit = Denied
	case errors.As(err, new(*site.TooManyTriesError)), errors.Is(err, keyring.ErrAbsent), errors.Is(err, token.ErrAbsent):
		f.Exit = Unavailable
	case errors.Is(err, keyring.ErrBusy):
		f.Exit = Conflict
	case errors.Is(err, keyring.ErrNeedsSecret):
		f.Exit = Usage
	}
	return f
}

// secret asks for a secret at a terminal, twice for a new one, or reads it from
// standard input. The caller wipes it.
func (c *call) secret(what string, isNew bool) (seal.Secret, error) {
	if c.terminal == nil {
		b, err := c.input(what)
		return seal.NewSecret(b), err
	}
	first, err := c.prompt("%s: ", what)
	if err != nil || !isNew {
		return first, err
	}
	again, err := c.prompt("the same %s again: ", what)
	defer again.Wipe()
	if err == nil && !bytes.Equal(first.Bytes(), again.Bytes()) {
		err = usageError("the two are not the same; nothing was done")
	}
	if err != nil {
		first.Wipe()
	}
	return first, err
}

// prompt reads one line that is typed at the terminal and not shown.
func (c *call) prompt(format, what string) (seal.Secret, error) {
	fmt.Fprintf(c.stderr, format, what)
	line := make([]byte, 0, 4096)
	var b [1]byte
	for {
		_, err := io.ReadFull(c.stdin, b[:])
		switch {
		case err == nil && b[0] == '\n', errors.Is(err, io.EOF) && len(line) > 0:
			fmt.Fprintln(c.stderr)
			if len(line) == 0 {
				return seal.Secret{}, usageError("no %s was entered", what)
			}
			return seal.NewSecret(line), nil
		case err != nil:
			clear(line)
			return seal.Secret{}, fmt.Errorf("read the %s: %w", what, err)
		case len(line) == cap(line):
			clear(line)
			return seal.Secret{}, usageError("what was entered is too long")
		case b[0] == 0x7f || b[0] == '\b':
			line = line[:max(0, len(line)-1)]
		default:
			line = append(line, b[0])
		}
	}
}

// rekeyed is the answer of vault rekey.
type rekeyed struct {
	Stage    keyring.Stage `json:"stage"`
	From     string        `json:"from"`
	To       string        `json:"to"`
	Provider keyring.Kind  `json:"provider"`
	DataKeys int           `json:"data_keys"`
	Unopened int           `json:"unopened,omitempty"`
	Shares   []string      `json:"shares,omitempty"` // shown once
}

func (c *call) vaultRekey() *cobra.Command {
	var reason string
	var abandon bool
	cmd := c.verb("rekey", "Give the site a new key, held by the configured provider, or go on with that", change, func([]string) error {
		if err := needReason("vault rekey", reason); err != nil {
			return err
		}
		return c.rekey(abandon)
	})
	cmd.Long = cmd.Short + ".\n\nEvery data key is wrapped to the new key, the new key proves that it opens them all, and\n" +
		"the old one is destroyed. A rekey that was interrupted goes on with the next call; until\n" +
		"it has ended the site opens everything with the old key. What opens the new key (a new\n" +
		"passphrase, a PIN) is asked for at a terminal, else read from standard input.\n\n" +
		"With provider shares, the first call shows the shares, once, and nowhere else; the second\n" +
		"one takes enough of them back, one a line, as proof that they are kept. Backups from\n" +
		"before open with the old key only: keep what opens it as long as you keep them."
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	cmd.Flags().BoolVar(&abandon, "abandon", false, "give an unfinished rekey up instead; the site keeps its key")
	cmd.Annotations[DrawsOnTerminal] = "asks"
	return cmd
}

func (c *call) rekey(abandon bool) error {
	keys := c.cfg.Site.Keys()
	if keys.Status().Sealed {
		return fmt.Errorf("rekey: %w", seal.ErrSealed)
	}
	var secret seal.Secret
	var err error
	begun := keys.Status().Next != ""
	needed, kind := keys.RekeyNeedsSecret()
	if needed && (!abandon || kind == keyring.Token) {
		secret, err = c.secretFor(kind, keys.Status().Needs, !begun)
		if err != nil {
			return err
		}
		defer secret.Wipe()
	}
	act := keys.Rekey
	if abandon {
		act = keys.AbandonRekey
	}
	out, err := act(c.from(), c.by.actor(), secret, c.rekeyProgress())
	if out != nil {
		err = errors.Join(c.showRekeyed(out), err)
	}
	if err != nil {
		return vaultFault(events.Record{}, err)
	}
	if out.Stage == keyring.Unproven {
		return &Fault{Exit: Waiting, Message: "the new key is not in use before its shares have proven that they open it",
			Hint: "hand the shares out, then give enough of them to vault rekey, one a line"}
	}
	return nil
}

// secretFor reads what opens a key of a kind: at a terminal share for share.
func (c *call) secretFor(kind keyring.Kind, shares int, isNew bool) (seal.Secret, error) {
	if kind != keyring.Shares || c.terminal == nil {
		return c.secret(entered(kind), isNew && kind == keyring.Passphrase)
	}
	all := make([]byte, 0, 64<<10)
	for range shares {
		one, err := c.secret(entered(kind), false)
		if err != nil {
			clear(all)
			return seal.Secret{}, err
		}
		all = append(append(all, one.Bytes()...), '\n')
		one.Wipe()
	}
	return seal.NewSecret(all), nil
}

// rekeyProgress tells how far a rekey is, once a second at most and at each step's end.
func (c *call) rekeyProgress() keyring.Progress {
	var last time.Time
	return func(step string, done, total int) {
		if now := time.Now(); done == total || now.Sub(last) >= time.Second {
			last = now
			c.note("%s: %d of %d data keys", step, done, total)
		}
	}
}

func (c *call) showRekeyed(out *keyring.Rekeyed) error {
	defer func() {
		for _, s := range out.Shares {
			s.Wipe()
		}
	}()
	a := rekeyed{
		Stage: out.Stage, From: fmt.Sprintf("%08x", out.FromID), To: fmt.Sprintf("%08x", out.ToID), Provider: out.ToKind,
		DataKeys: out.DataKeys, Unopened: out.Unopened,
	}
	if c.json {
		for _, s := range out.Shares {
			text := s.Text()
			a.Shares = append(a.Shares, string(text.Bytes()))
			text.Wipe()
		}
		return writeJSON(c.stdout, c.answer("rekey", a))
	}
	if len(out.Shares) > 0 {
		c.note("these shares are shown once and are kept nowhere; give each to another person:")
		if err := keyring.WriteShares(c.stdout, out.Shares); err != nil {
			return err
		}
	}
	if a.Unopened > 0 {
		c.note("warning: %d data keys could not be opened by the old key either, and stay closed", a.Unopened)
	}
	if out.Stage == keyring.Unproven {
		return nil
	}
	_, err := fmt.Fprintf(c.stdout, "rekey %s  key %s  provider %s  data keys %d\n", a.Stage, a.To, a.Provider, a.DataKeys)
	return err
}
