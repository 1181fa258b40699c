package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/console"
)

const (
	dialTimeout  = 10 * time.Second
	loginTimeout = 60 * time.Second // a person may have to type a passphrase
	answerTime   = 3 * time.Minute  // from each question of the gateway's on: it sets the time itself
)

// client runs verbs at a site over SSH, with the identity of the person at
// this end.
type client struct {
	gateway, data            string
	identityFile, knownHosts string
	noInput                  bool
	began                    bool // a verb that runs here has begun

	ask            func(prompt string) ([]byte, error) // nil where nobody can be asked
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// verb is one console line and what it needs of this end.
type verb struct {
	words    []string
	terminal bool // it draws on a terminal, if there is one
	input    bool // it reads standard input
}

// run sends a verb to the site, passes streams through and gives its exit
// code. An error means that the site gave none.
func (c *client) run(ctx context.Context, v verb) (int, error) {
	d, err := c.destination()
	if err != nil {
		return 0, err
	}
	conn, err := c.login(ctx, d)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	session, err := conn.NewSession()
	if err != nil {
		return 0, unavailable(d, err)
	}
	defer session.Close()
	if v.terminal {
		restore, err := c.attachTerminal(ctx, session)
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	code, err := c.exchange(session, v)
	if ctx.Err() != nil {
		return interrupted, nil
	}
	if err != nil {
		return 0, unavailable(d, err)
	}
	return code, nil
}

// interrupted is the exit code after Ctrl-C, as shells give it.
const interrupted = 130

// exchange runs the verb on an open session. The copy of standard input is not
// waited for: it ends with this process, or with the channel at its next byte.
func (c *client) exchange(session *ssh.Session, v verb) (int, error) {
	session.Stdout, session.Stderr = c.stdout, c.stderr
	stdin, err := session.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := session.Start(shellquote.Join(v.words...)); err != nil {
		return 0, err
	}
	if v.input || v.terminal {
		go func() {
			_, _ = io.Copy(stdin, c.stdin) // the verb says what it misses
			_ = stdin.Close()
		}()
	} else if err := stdin.Close(); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	err = session.Wait()
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Signal() == "":
		return exit.ExitStatus(), nil
	}
	return 0, err
}

// login connects and logs in.
func (c *client) login(ctx context.Context, d destination) (*ssh.Client, error) {
	check, algorithms, err := c.hostKeys(d)
	if err != nil {
		return nil, err
	}
	id, err := c.identity()
	if id != nil {
		defer id.Close()
	}
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, unavailable(d, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(loginTimeout))
	attempt := &attempt{check: check, signers: id.signers, answer: func(instruction string, questions []string, _ []bool) ([]string, error) {
		_ = conn.SetDeadline(time.Now().Add(answerTime))
		return c.answer(instruction, questions)
	}}
	sc, channels, requests, err := ssh.NewClientConn(conn, d.addr, &ssh.ClientConfig{
		User:              d.login,
		Auth:              []ssh.AuthMethod{ssh.PublicKeysCallback(attempt.keys), ssh.RetryableAuthMethod(ssh.KeyboardInteractive(attempt.asked), tries)},
		HostKeyCallback:   attempt.hostKey,
		HostKeyAlgorithms: algorithms,
		BannerCallback:    c.banner,
	})
	if err != nil {
		_ = conn.Close()
		return nil, attempt.explain(d, id, err)
	}
	_ = conn.SetDeadline(time.Time{})
	return ssh.NewClient(sc, channels, requests), nil
}

// banner shows what the gateway says before the login, a line at a time.
func (c *client) banner(message string) error {
	for line := range strings.Lines(message) {
		fmt.Fprintln(c.stderr, console.Printable(strings.TrimRight(line, "\r\n")))
	}
	return nil
}

// tries is how often a question may be answered wrong, as in OpenSSH.
const tries = 3

// answer shows the person what the gateway says, and asks what it asks.
func (c *client) answer(instruction string, questions []string) ([]string, error) {
	_ = c.banner(instruction)
	answers := make([]string, len(questions))
	for i, q := range questions {
		if c.ask == nil {
			return nil, errNobodyAsked
		}
		b, err := c.ask(console.Printable(strings.TrimRight(q, "\r\n")))
		if err != nil {
			return nil, err
		}
		answers[i] = string(b)
		clear(b)
	}
	return answers, nil
}

var errNobodyAsked = errors.New("it asks for a code, and there is nobody to be asked here")

// attempt watches one login, to tell afterwards how far it came.
type attempt struct {
	check    ssh.HostKeyCallback
	signers  []ssh.Signer
	refused  error // by our check of the host key
	proven   bool  // the host key
	askedFor bool  // keys, by the gateway
	question bool  // was asked, once a key was accepted
	answer   func(instruction string, questions []string, echo []bool) ([]string, error)
}

// asked answers the gateway's questions. Before a key is accepted it has none that could be answered.
func (a *attempt) asked(_, instruction string, questions []string, echo []bool) ([]string, error) {
	a.question = a.question || len(questions) > 0
	return a.answer(instruction, questions, echo)
}

func (a *attempt) hostKey(host string, remote net.Addr, key ssh.PublicKey) error {
	a.refused = a.check(host, remote, key)
	a.proven = a.refused == nil
	return a.refused
}

func (a *attempt) keys() ([]ssh.Signer, error) {
	a.askedFor = true
	return slices.Clone(a.signers), nil
}

// explain tells a failed login apart: a host key that is not the right one, a
// login that the gateway refused, or a gateway that is not there.
func (a *attempt) explain(d destination, id *identity, err error) error {
	var ne net.Error
	switch {
	case a.refused != nil:
		return a.refused
	case !a.proven, errors.As(err, &ne) && ne.Timeout():
		return unavailable(d, err)
	}
	f := &console.Fault{Exit: console.Login, Message: fmt.Sprintf("the gateway %s did not accept the login: %s", d.addr, err)}
	switch {
	case errors.Is(err, errNobodyAsked):
		f.Message, f.Hint = fmt.Sprintf("the gateway %s asks for a code of your second factor", d.addr), "run it on a terminal, and without --no-input"
	case a.question:
		f.Hint = "the codes that were given were not taken"
	case len(id.locked) > 0:
		f.Hint = fmt.Sprintf("these keys need a passphrase: %s; add them to an SSH agent with ssh-add", strings.Join(id.locked, ", "))
	case len(id.signers) == 0:
		f.Hint = "no key was found here: name one with --identity FILE, start an SSH agent, or make one with ssh-keygen -t ed25519"
	case a.askedFor:
		f.Hint = fmt.Sprintf("%s offered; an administrator adds a key with: user add NAME --key TEXT", countOf(len(id.signers), "key was", "keys were"))
	}
	return f
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func unavailable(d destination, err error) error {
	var exit *ssh.ExitMissingError
	if errors.As(err, &exit) {
		err = errors.New("the connection was lost before the verb had ended")
	}
	return &console.Fault{Exit: console.Unavailable, Message: fmt.Sprintf("the site at %s can't be used: %s", d.addr, err),
		Hint: "is it running? start one with holdfast up, or name another with --gateway HOST:PORT"}
}
