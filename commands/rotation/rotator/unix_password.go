package rotator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
)

// unixPassword changes the password of an account of a Unix machine over SSH:
// as the account with passwd, whose questions it answers on a terminal, or
// through root or somebody who may sudo with chpasswd. The password goes over
// standard input only.
type unixPassword struct{}

// Verify logs in over SSH.
func (unixPassword) Verify(ctx context.Context, j Job, candidate Secret) (Answer, error) {
	return verifySSH(ctx, j, candidate)
}

func verifySSH(ctx context.Context, j Job, candidate Secret) (Answer, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	client, answer, err := dialSSH(ctx, j, j.self(candidate))
	if client != nil {
		err = ignoreClosed(client.Close())
	}
	if answer == Accepted {
		return Accepted, nil
	}
	return answer, cleaned(err, candidate)
}

// Change implements [Rotator].
func (u unixPassword) Change(ctx context.Context, j Job, next Secret) (Outcome, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	if err := fitsTerminal(next); err != nil {
		return Refused, notPresented(err)
	}
	who, err := j.actor()
	if err != nil {
		return Refused, err
	}
	client, answer, err := dialSSH(ctx, j, who)
	if client == nil {
		return refusedLogin(who, answer, cleaned(err, who.Secret))
	}
	defer client.Close() // best effort: what was done is known by the exit status
	var outcome Outcome
	if j.Verb == AsItself {
		outcome, err = u.passwd(client, j.Current, next)
	} else {
		outcome, err = u.chpasswd(client, j.Account, next)
	}
	if outcome == Applied {
		return Applied, nil
	}
	return outcome, preserveUnfit(err, cleaned(errors.Join(err, ctx.Err()), j.Current, next, who.Secret))
}

// fitsTerminal refuses what a terminal line or chpasswd's input would take apart.
func fitsTerminal(next Secret) error {
	for _, b := range next.Bytes.Bytes() {
		if b < 0x20 || b == 0x7f {
			return fmt.Errorf("%w: it contains a control character", ErrUnfit)
		}
	}
	if n := next.Bytes.Len(); n == 0 || n > 1024 {
		return fmt.Errorf("%w: a password has 1 to 1024 bytes, not %d", ErrUnfit, n)
	}
	return nil
}

func preserveUnfit(cause, clean error) error {
	if errors.Is(cause, ErrUnfit) {
		return fmt.Errorf("%w: %w", ErrUnfit, clean)
	}
	return clean
}

// asPrivileged runs a program of the system's as root, directly or by sudo
// without a password.
func asPrivileged(program string) string {
	return "sh -c " + quoteSh(`PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin"; export PATH LC_ALL=C; `+
		`if [ "$(id -u)" = 0 ]; then exec `+program+`; else exec sudo -n `+program+`; fi`)
}

// untouched is how programs say that they have changed nothing.
var untouched = regexp.MustCompile(`(?i)unchanged|not changed|changes ignored|does not exist|unknown user|a password is required|not found|` +
	`not allowed|may not run|permission denied|cannot (lock|open|create|update|write)|can't (lock|open|create|update|write)|read-only|no space|unknown id`)

func (unixPassword) chpasswd(client *ssh.Client, account string, next Secret) (Outcome, error) {
	line := append([]byte(account+":"), next.Bytes.Bytes()...)
	line = append(line, '\n')
	defer clear(line)
	r, err := runSSH(client, asPrivileged("chpasswd"), line) // one write, so never a part of the line
	words := string(r.errs) + " " + string(r.out)
	switch {
	case !r.started:
		return Refused, err
	case err != nil:
		return Unknown, fmt.Errorf("chpasswd: %w", err)
	case r.status == 0:
		return Applied, nil
	case unfitText.MatchString(words):
		return Refused, fmt.Errorf("%w: chpasswd says: %s", ErrUnfit, words)
	case untouched.MatchString(words):
		return Refused, fmt.Errorf("chpasswd says: %s", words)
	}
	return Unknown, fmt.Errorf("chpasswd ended with status %d: %s", r.status, words)
}

// prompt is a question of passwd.
type prompt int

const (
	promptNone prompt = iota
	promptOther
	promptCurrent
	promptNew
	promptAgain
)

var (
	againText   = regexp.MustCompile(`(?i)re-?(type|enter)|again|confirm|repeat|verify`)
	currentText = regexp.MustCompile(`(?i)current|old|existing|\blogin\b`)
	newText     = regexp.MustCompile(`(?i)\bnew\b`)
	messageText = regexp.MustCompile(`(?i)^(bad password|passwd|warning|error)\b`)
	unfitText   = regexp.MustCompile(`(?i)bad password|too (short|simple|similar|weak)|palindrome|dictionary|has been already used|already used|remembered|weak password|must (contain|choose|be)`)
)

// promptKind reads the line that a program has left open: the wording of
// shadow, PAM, busybox, BSD and Solaris.
func promptKind(line string) prompt {
	line = strings.TrimSpace(line)
	switch {
	case line == "" || !strings.HasSuffix(line, ":") && !strings.HasSuffix(line, "?"), messageText.MatchString(line):
		return promptNone
	case againText.MatchString(line):
		return promptAgain
	case currentText.MatchString(line):
		return promptCurrent
	case newText.MatchString(line):
		return promptNew
	}
	return promptOther
}

// dialogue is a run of passwd on a terminal.
type dialogue struct {
	in            io.Writer
	current, next Secret
	open          string // since the last answer
	all           []byte
	asked         map[prompt]bool
}

// passwd changes the password as the account itself. passwd acts only after the
// new password was typed twice; before that, nothing has happened.
func (u unixPassword) passwd(client *ssh.Client, current, next Secret) (Outcome, error) {
	session, err := client.NewSession()
	if err != nil {
		return Refused, fmt.Errorf("open a session: %w", err)
	}
	defer session.Close() // ends what still runs
	modes := ssh.TerminalModes{ssh.ECHO: 0, ssh.ECHOE: 0, ssh.ECHOK: 0, ssh.ECHONL: 0}
	if err := session.RequestPty("dumb", 24, 200, modes); err != nil {
		return Refused, fmt.Errorf("ask for a terminal: %w", err)
	}
	in, err := session.StdinPipe()
	if err != nil {
		return Refused, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return Refused, err
	}
	if err := session.Start("env LC_ALL=C passwd"); err != nil {
		return Refused, fmt.Errorf("start passwd: %w", err)
	}
	d := &dialogue{in: in, current: current, next: next, asked: map[prompt]bool{}}
	if err := d.hold(out); err != nil {
		if d.asked[promptAgain] && !errors.Is(err, errAskedAgain) {
			return Unknown, err
		}
		return Refused, err
	}
	return d.outcome(session.Wait())
}

// errAskedAgain says that passwd did not take the new password.
var errAskedAgain = errors.New("passwd asked for the new password again")

// hold answers until the output ends.
func (d *dialogue) hold(out io.Reader) error {
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		d.open += string(buf[:n])
		d.all = append(d.all, buf[:min(n, maxSaid-len(d.all))]...)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(d.open) > maxSaid {
			return errors.New("passwd writes without end")
		}
		line := d.open[strings.LastIndexByte(d.open, '\n')+1:]
		if kind := promptKind(line); kind != promptNone {
			if err := d.reply(kind, line); err != nil {
				return err
			}
			d.open = ""
		}
	}
}

func (d *dialogue) reply(kind prompt, line string) error {
	if kind == promptOther && !d.asked[promptCurrent] && strings.Contains(strings.ToLower(line), "password") {
		kind = promptCurrent
	}
	secret := d.next
	switch {
	case kind == promptOther:
		return fmt.Errorf("passwd asks what is not known here: %s", line)
	case kind == promptCurrent && d.asked[kind]:
		return errors.New("passwd does not take the current password")
	case kind == promptNew && d.asked[kind]:
		return fmt.Errorf("%w: %w: %s", ErrUnfit, errAskedAgain, d.all)
	case kind == promptAgain && (!d.asked[promptNew] || d.asked[kind]):
		return fmt.Errorf("passwd asks out of order: %s", line)
	case kind == promptCurrent:
		secret = d.current
	}
	d.asked[kind] = true
	typed := append(append([]byte(nil), secret.Bytes.Bytes()...), '\n')
	defer clear(typed)
	_, err := d.in.Write(typed)
	return err
}

func (d *dialogue) outcome(exit error) (Outcome, error) {
	var status *ssh.ExitError
	words := string(d.all)
	switch {
	case exit == nil && d.asked[promptAgain]:
		return Applied, nil
	case !d.asked[promptAgain] && unfitText.MatchString(words):
		return Refused, fmt.Errorf("%w: passwd says: %s", ErrUnfit, words)
	case !d.asked[promptAgain]:
		return Refused, fmt.Errorf("passwd did not ask for a new password: %s", words)
	case errors.As(exit, &status) && unfitText.MatchString(words):
		return Refused, fmt.Errorf("%w: passwd says: %s", ErrUnfit, words)
	case errors.As(exit, &status) && untouched.MatchString(words):
		return Refused, fmt.Errorf("passwd says: %s", words)
	}
	return Unknown, fmt.Errorf("passwd: %w: %s", exit, words)
}
