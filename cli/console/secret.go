package console

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/projections"
)

var versionsColumns = []column[projections.Version]{
	{"version", func(v projections.Version) string { return v.ID.String() }},
	{"state", func(v projections.Version) string { return v.State }},
	{"current", func(v projections.Version) string { return yes(v.Current) }},
	{"staged", func(v projections.Version) string { return stamp(v.Staged) }},
	{"applied", func(v projections.Version) string { return stamp(v.Applied) }},
	{"verified", func(v projections.Version) string { return stamp(v.Verified) }},
	{"rejected", func(v projections.Version) string { return stamp(v.Rejected) }},
	{"single copy", func(v projections.Version) string { return yes(v.SingleCopy) }},
	{"known to", knownTo},
}

func knownTo(v projections.Version) string {
	var names []string
	for _, d := range v.KnownTo {
		name := d.User
		if !d.Until.IsZero() && d.Ended.IsZero() {
			name += " (checked out until " + stamp(d.Until) + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

var _ = noun(func(c *call) *cobra.Command {
	return group("secret", "Versions of an account's secret, and who is shown them",
		c.secretVersions(), c.secretPut(), c.secretReveal(), c.secretCheckout(), c.secretCheckin())
})

func (c *call) secretVersions() *cobra.Command {
	return c.verb("versions ACCOUNT+TARGET", "List the versions of a secret, the newest first, with who was shown each", read, func(args []string) error {
		p, err := c.views()
		if err != nil {
			return err
		}
		all, err := p.Versions(c.ctx, args[0])
		if err != nil {
			return err
		}
		return list(c, "secret", all, versionsColumns)
	})
}

func (c *call) secretPut() *cobra.Command {
	cmd := c.verb("put ACCOUNT+TARGET", "Enter a new version of a secret, which the target holds, at a terminal or from standard input", change, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		known, err := c.knownSecret(account, target)
		if err != nil {
			return err
		}
		held, err := c.enter(known.Kind)
		if err != nil {
			return err
		}
		defer held.Wipe()
		sealed, err := vault.Stage(c.ctx, c.cfg.Site.Sealer(), known, held)
		if err != nil {
			return err
		}
		return carryOut(c, "credential", "secret.applied",
			commands.PutSecret{Account: account, Target: target, Secret: sealed}, (*projections.Projections).Credential)
	})
	cmd.Annotations[DrawsOnTerminal] = "asks"
	return cmd
}

// enter reads a secret that is put: a password is asked for at a terminal,
// everything else is all of standard input.
func (c *call) enter(kind events.SecretKind) (seal.Secret, error) {
	if c.terminal != nil && kind == events.Password {
		return c.secret("password", true)
	}
	b, err := c.input("secret")
	if kind == events.Password {
		b = trimNewline(b)
	}
	return seal.NewSecret(b), err
}

// knownSecret finds a version of an account's secret, sealed as it is.
func (c *call) knownSecret(account, target string) (known vault.Sealed, err error) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) { known, err = commands.KnownSecret(s, account, target) })
	return known, err
}

func (c *call) secretReveal() *cobra.Command {
	var reason, version string
	cmd := c.verb("reveal ACCOUNT+TARGET", "Show a secret on standard output; you are on record as knowing it", judged, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		var id uuid.UUID
		if version != "" {
			if id, err = uuid.Parse(version); err != nil {
				return &Fault{Exit: Usage, Message: fmt.Sprintf("%q is no version", version), Hint: "take its id from secret versions"}
			}
		}
		return c.disclose(commands.RevealSecret{Account: account, Target: target, Version: id, Reason: reason})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit; it must be given")
	cmd.Flags().StringVar(&version, "version", "", "a version other than the current one, by id")
	return cmd
}

// disclosed is the JSON form of a secret that is shown.
type disclosed struct {
	Version events.SecretID `json:"version"`
	Secret  string          `json:"secret"`
	Until   time.Time       `json:"until,omitzero"`
	Event   uuid.UUID       `json:"event"`
}

// disclose shows a secret once the event that says so is durable. The secret
// goes out alone; what there is to say of it is told beside it.
func (c *call) disclose(cmd commands.Command) error {
	if c.cfg.Site.Sealer().Sealed() {
		return seal.ErrSealed
	}
	records, err := c.do(cmd)
	if err != nil {
		return err
	}
	r := records[0]
	e, err := r.Event()
	if err != nil {
		return err
	}
	d := disclosed{Event: r.Header.ID}
	switch e := e.(type) {
	case events.SecretRevealed:
		d.Version = e.Version
	case events.SecretCheckedOut:
		d.Version, d.Until = e.Version, e.Until
	}
	var sealed vault.Sealed
	var unsettled bool
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		id := events.CredentialID{UUID: r.Header.Stream}
		sealed, _ = commands.Sealed(s, id, d.Version)
		if cred, ok := s.Credential(id); ok {
			unsettled = cred.Unsettled()
		}
	})
	secret, err := vault.Open(c.ctx, c.cfg.Site.Sealer(), sealed)
	if err != nil {
		return &Fault{Exit: AsFault(err).Exit, Message: err.Error(), Event: r.Header.ID, cause: err}
	}
	defer secret.Wipe()
	if unsettled {
		c.note("warning: it is not settled which version the target takes; this may be another one; see secret versions")
	}
	c.note("event %s", r.Header.ID)
	if c.json {
		d.Secret = string(secret.Bytes())
		return writeJSON(c.stdout, c.answer("secret", d))
	}
	if _, err = c.stdout.Write(secret.Bytes()); err == nil && !bytes.HasSuffix(secret.Bytes(), []byte("\n")) {
		_, err = c.stdout.Write([]byte("\n"))
	}
	return err
}
