package console

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/factor"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

// enrollment is a second factor as it is shown once.
type enrollment struct {
	ID     events.FactorID `json:"id"`
	User   string          `json:"user"`
	Secret string          `json:"secret"` // base32, for authenticators that can't read the picture
	URI    string          `json:"uri"`    // otpauth://
}

var enrollmentColumns = []column[enrollment]{
	{"user", func(e enrollment) string { return e.User }},
	{"secret", func(e enrollment) string { return e.Secret }},
	{"uri", func(e enrollment) string { return e.URI }},
	{"id", func(e enrollment) string { return e.ID.String() }},
}

// confirmation is what a user gets for a first code. The codes are shown once.
type confirmation struct {
	ID       events.FactorID `json:"id"`
	Event    uuid.UUID       `json:"event"`
	Recovery []string        `json:"recovery"`
}

// userTOTP are the verbs for second factors.
func (c *call) userTOTP() *cobra.Command {
	return group("totp", "Second factors: codes of an authenticator, asked for after the key",
		c.totpEnroll(), c.totpConfirm(), c.totpList(), c.totpReset())
}

func (c *call) totpEnroll() *cobra.Command {
	cmd := c.verb("enroll", "Give yourself a second factor: shows its secret once, and asks for a first code", own, func([]string) error {
		if err := c.enrollFactor(); err != nil {
			return err
		}
		if c.json {
			return nil // for a script, which goes on with confirm
		}
		fmt.Fprint(c.stderr, "Have your authenticator read the picture, or type the secret into it. Both are shown this once.\nThe code that it shows now: ")
		code, err := c.line("code")
		fmt.Fprintln(c.stderr)
		if errors.Is(err, io.EOF) {
			c.note("nothing was given; the second factor counts once you confirm it within an hour: user totp confirm")
			return nil
		}
		if err != nil {
			return err
		}
		return c.confirmFactor(code)
	})
	cmd.Annotations[DrawsOnTerminal] = "yes"
	return cmd
}

func (c *call) totpConfirm() *cobra.Command {
	cmd := c.verb("confirm", "Make the second factor count that you enrolled, by a code on standard input", own, func([]string) error {
		if c.terminal != nil && !c.json {
			fmt.Fprint(c.stderr, "The code that your authenticator shows now: ")
		}
		code, err := c.line("code")
		if errors.Is(err, io.EOF) {
			return &Fault{Exit: Usage, Message: "standard input holds no code", Hint: "pipe it in, or type it and press Enter"}
		}
		if err != nil {
			return err
		}
		return c.confirmFactor(code)
	})
	cmd.Annotations[DrawsOnTerminal] = "yes"
	return cmd
}

// maxTypedLine bounds a line that somebody types, in bytes.
const maxTypedLine = 256

// line reads one line of standard input and no more. io.EOF says that there is none.
func (c *call) line(what string) (string, error) {
	var typed []byte
	defer func() { clear(typed) }()
	for b := make([]byte, 1); ; {
		n, err := c.stdin.Read(b)
		switch {
		case n == 1 && b[0] == '\n':
			return strings.TrimSpace(string(typed)), nil
		case n == 1 && len(typed) == maxTypedLine:
			return "", usageError("the %s is longer than %d bytes", what, maxTypedLine)
		case n == 1:
			typed = append(typed, b[0])
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(typed) > 0 {
				return strings.TrimSpace(string(typed)), nil
			}
			return "", err
		}
	}
}

// enrollFactor makes a factor for the caller and shows it.
func (c *call) enrollFactor() error {
	sealed, secret, err := factor.Add(c.ctx, c.cfg.Site.Sealer())
	if err != nil {
		return err
	}
	defer secret.Wipe()
	if _, err := c.do(commands.EnrollFactor{Sealed: sealed, Proven: c.by.Factor}); err != nil {
		return err
	}
	e := enrollment{ID: sealed.Factor, User: c.name, Secret: factor.Text(secret), URI: factor.URI("holdfast "+c.cfg.Site.Name(), c.name, secret)}
	if !c.json {
		picture, err := qrText(e.URI)
		if err != nil {
			return fmt.Errorf("draw the second factor: %w", err)
		}
		if _, err := io.WriteString(c.stderr, picture); err != nil {
			return err
		}
	}
	return show(c, "factor", e, enrollmentColumns)
}

// confirmFactor takes a first code for the factor that the caller enrolled last.
func (c *call) confirmFactor(code string) error {
	site := c.cfg.Site.ID()
	var pending factor.Sealed
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		if f, ok := s.FactorPending(c.by.ID, site); ok {
			pending = factor.Sealed{Factor: f.ID, Bytes: f.Sealed}
		}
	})
	confirm := commands.ConfirmFactor{Site: site, Factor: pending.Factor, Proven: c.by.Factor}
	var recovery []string
	if !pending.Factor.IsZero() {
		secret, err := factor.Open(c.ctx, c.cfg.Site.Sealer(), pending)
		if err != nil {
			return err
		}
		step, ok := factor.Match(secret, code, time.Now())
		secret.Wipe()
		if !ok {
			return &Fault{Exit: Conflict, Message: "that is not the code that your authenticator should show now",
				Hint: "see that both clocks are right, then: user totp confirm"}
		}
		confirm.Step = step
		recovery, confirm.Recovery = factor.NewRecovery(pending.Factor)
	}
	records, err := c.do(confirm)
	if err != nil {
		return err
	}
	event := records[0].Header.ID
	if c.json {
		return writeJSON(c.stdout, c.answer("factor", confirmation{ID: pending.Factor, Event: event, Recovery: recovery}))
	}
	if _, err := fmt.Fprintf(c.stdout, "factor.confirmed  %s  event %s\n", pending.Factor, event); err != nil {
		return err
	}
	c.note("From the next login on you are asked for a code. Each of these does once in its place; keep them where your\nphone is not. They are shown this once.")
	_, err = fmt.Fprintln(c.stdout, strings.Join(recovery, "\n"))
	return err
}

func (c *call) totpReset() *cobra.Command {
	var reason string
	cmd := c.verb("reset NAME", "Take a user's second factor away, for whoever lost it", change, func(args []string) error {
		return carryOut(c, "user", "user.factor_reset", commands.ResetFactor{User: args[0], Reason: reason}, (*projections.Projections).User)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) userFactor() *cobra.Command {
	var reuse string
	cmd := c.verb("factor NAME NEED", "Say whether a user needs a second factor: required, off, or role for what their role says", change, func(args []string) error {
		rule := commands.SetFactorRule{User: args[0], Need: events.FactorNeed(args[1])}
		if reuse != "" {
			var err error
			if rule.Reuse, err = reuseTime(reuse); err != nil {
				return err
			}
		}
		return carryOut(c, "user", "user.factor_rule_set", rule, (*projections.Projections).User)
	})
	cmd.Flags().StringVar(&reuse, "reuse", "", "let a code do for further logins from the same address by the same key, for so long (10m), or off")
	return cmd
}

// reuseTime reads for how long a code does for further logins, in seconds.
func reuseTime(s string) (uint64, error) {
	if s == "off" {
		return 0, nil
	}
	return wholeSeconds(s)
}

// factorState is how it stands with a user's second factor.
type factorState struct {
	User     string          `json:"user"`
	UserID   events.UserID   `json:"user_id"`
	Needed   bool            `json:"needed"`
	Reuse    uint64          `json:"reuse,omitempty"` // seconds
	State    string          `json:"state"`           // "none", "waits for a code", "active", "locked"
	ID       events.FactorID `json:"id,omitzero"`
	Site     events.SiteID   `json:"site,omitzero"` // that spends its codes
	Enrolled time.Time       `json:"enrolled,omitzero"`
	Recovery int             `json:"recovery"` // codes that are left
	Missed   int             `json:"missed,omitempty"`
	Locked   time.Time       `json:"locked,omitzero"`
}

var factorColumns = []column[factorState]{
	{"user", func(f factorState) string { return f.User }},
	{"needed", func(f factorState) string { return yes(f.Needed) }},
	{"state", func(f factorState) string { return f.State }},
	{"enrolled", func(f factorState) string { return stamp(f.Enrolled) }},
	{"recovery codes", func(f factorState) string { return number(f.Recovery) }},
	{"reuse", func(f factorState) string { return seconds(f.Reuse) }},
	{"locked until", func(f factorState) string { return stamp(f.Locked) }},
}

func (c *call) totpList() *cobra.Command {
	return c.verb("ls", "List who needs a second factor and who has one; an operator sees their own", own, func([]string) error {
		var all []factorState
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			for _, u := range s.Users() {
				if !u.Disabled() && (c.seesAll() || u.ID == c.by.ID) {
					all = append(all, factorStateOf(s, u, c.cfg.Site.Commands().Log()))
				}
			}
		})
		slices.SortStableFunc(all, func(a, b factorState) int { return cmp.Compare(a.User, b.User) })
		return list(c, "factor", all, factorColumns)
	})
}

// factorStateOf tells it as the site does whose log is given.
func factorStateOf(s *aggregate.State, u *aggregate.User, in events.Origin) factorState {
	needed, reuse := s.FactorRule(u.ID)
	out := factorState{User: u.Name, UserID: u.ID, Needed: needed, Reuse: uint64(reuse / time.Second), State: "none"} //nolint:gosec // not negative
	f, ok := s.FactorOf(u.ID)
	switch pending, waits := s.FactorPending(u.ID, in.Site); {
	case ok:
		out.State = "active"
		if out.Locked = f.Locked(); out.Locked.After(time.Now()) {
			out.State = "locked"
		}
		out.Recovery, out.Missed = f.RecoveryLeft(in), f.Missed()
	case waits:
		f, out.State = pending, "waits for a code"
	default:
		return out
	}
	out.ID, out.Site, out.Enrolled = f.ID, s.FactorOwner(f), f.Enrolled.Time()
	return out
}

// qrText draws a QR code in half blocks, light modules as blocks: right on a dark terminal, and inverted on a light one,
// which most cameras read as well. Colours would need bytes that a terminal obeys. The quiet zone is two modules wide
// instead of four (ISO/IEC 18004), which cameras read, and fits more terminals.
func qrText(text string) (string, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return "", err
	}
	const quiet = 2
	size := code.Bounds().Dx()
	light := func(x, y int) bool {
		if x < 0 || y < 0 || x >= size || y >= size {
			return true
		}
		r, _, _, _ := code.At(x, y).RGBA()
		return r != 0
	}
	halves := map[[2]bool]string{{true, true}: "█", {true, false}: "▀", {false, true}: "▄", {}: " "}
	var b strings.Builder
	for y := -quiet; y < size+quiet; y += 2 {
		for x := -quiet; x < size+quiet; x++ {
			b.WriteString(halves[[2]bool{light(x, y), light(x, y+1)}])
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
