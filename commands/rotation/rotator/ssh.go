package rotator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/events"
)

const (
	maxOutput = 1 << 20 // bytes of a remote command that are read
	maxSaid   = 4 << 10 // bytes that a server says during a login that are kept
)

// lockedText is how servers say that an account takes no login now. OpenSSH
// itself says nothing of the kind; what PAM modules say gets through.
var lockedText = regexp.MustCompile(`(?i)\b(account|user|login)\b.{0,60}\b(locked|expired|disabled|inactive)\b|\blocked due to\b`)

// sshLogin is one attempt to log in over SSH.
type sshLogin struct {
	who       Login
	hostKeys  []ssh.PublicKey
	proven    bool   // the host proved a pinned key
	presented bool   // the secret, or the key it stands for, was shown to the target
	expired   bool   // the target took the password and wants another one at once
	said      []byte // banner, instructions and questions
}

// dialSSH logs in to the job's target; the end of ctx closes the connection.
// A client comes with [Accepted] only, an error with everything else.
func dialSSH(ctx context.Context, j Job, who Login) (*ssh.Client, Answer, error) {
	l := &sshLogin{who: who}
	for _, line := range j.HostKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, NoAnswer, notPresented(fmt.Errorf("pinned host key: %w", err))
		}
		l.hostKeys = append(l.hostKeys, key)
	}
	ways, err := l.ways()
	if err != nil {
		return nil, NoAnswer, notPresented(err)
	}
	for i, way := range ways {
		client, err := l.connect(ctx, j, way)
		if err == nil {
			return client, Accepted, nil
		}
		if l.presented || !l.proven || i == len(ways)-1 || !noMethod(err) {
			answer, err := l.answer(ctx, err)
			return nil, answer, err
		}
	}
	return nil, NoAnswer, notPresented(errors.New("there is no way to log in"))
}

// ways lists the methods to try, each on a connection of its own: after a
// password was turned down no second method may present it again, which would
// count twice against a lock-out.
func (l *sshLogin) ways() ([]ssh.AuthMethod, error) {
	switch l.who.Secret.Kind {
	case events.Password:
		return []ssh.AuthMethod{
			ssh.PasswordCallback(func() (string, error) {
				l.presented = true
				return string(l.who.Secret.Bytes.Bytes()), nil
			}),
			ssh.KeyboardInteractive(l.answerQuestions),
		}, nil
	case events.PrivateKey:
		signer, err := ssh.ParsePrivateKey(l.who.Secret.Bytes.Bytes())
		if err != nil { // the cause may quote the content
			return nil, errors.New("the private key can't be read")
		}
		return []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			l.presented = true
			return []ssh.Signer{signer}, nil
		})}, nil
	}
	return nil, fmt.Errorf("no SSH login takes a secret of kind %q", l.who.Secret.Kind)
}

// answerQuestions gives the password to the one hidden question (RFC 4256) and
// to nothing else.
func (l *sshLogin) answerQuestions(_, instruction string, questions []string, echos []bool) ([]string, error) {
	l.hear(instruction + "\n" + strings.Join(questions, "\n") + "\n")
	switch {
	case len(questions) == 0:
		return nil, nil
	case len(questions) == 1 && !echos[0] && !l.presented:
		l.presented = true
		return []string{string(l.who.Secret.Bytes.Bytes())}, nil
	case l.presented && promptKind(questions[0]) == promptNew:
		l.expired = true
		return nil, errors.New("the password has expired, the target asks for a new one")
	}
	return nil, errors.New("the target asks for more than a password")
}

func (l *sshLogin) hear(text string) {
	l.said = append(l.said, text[:min(len(text), maxSaid-len(l.said))]...)
}

func (l *sshLogin) connect(ctx context.Context, j Job, way ssh.AuthMethod) (*ssh.Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", j.Addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // what waits on it then fails and says so
	c, chans, reqs, err := ssh.NewClientConn(conn, j.Addr, l.config(j, way))
	if err != nil {
		stop()
		return nil, errors.Join(err, ignoreClosed(conn.Close()))
	}
	return ssh.NewClient(c, chans, reqs), nil
}

func (l *sshLogin) config(j Job, way ssh.AuthMethod) *ssh.ClientConfig {
	cfg := &ssh.ClientConfig{
		User: l.who.Account, Auth: []ssh.AuthMethod{way}, ClientVersion: "SSH-2.0-holdfast",
		BannerCallback: func(text string) error { l.hear(text); return nil },
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			l.proven = slices.ContainsFunc(l.hostKeys, func(p ssh.PublicKey) bool { return bytes.Equal(p.Marshal(), key.Marshal()) })
			if !l.proven {
				return fmt.Errorf("the target proved host key %s, which is not pinned", ssh.FingerprintSHA256(key))
			}
			return nil
		},
	}
	safe, legacy := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	with := func(safe, legacy []string) []string {
		for _, name := range j.Algorithms {
			if slices.Contains(legacy, name) {
				safe = append(safe, name)
			}
		}
		return safe
	}
	cfg.KeyExchanges = with(safe.KeyExchanges, legacy.KeyExchanges)
	cfg.Ciphers = with(safe.Ciphers, legacy.Ciphers)
	cfg.MACs = with(safe.MACs, legacy.MACs)
	for _, key := range l.hostKeys {
		if key.Type() != ssh.KeyAlgoRSA {
			cfg.HostKeyAlgorithms = append(cfg.HostKeyAlgorithms, key.Type())
			continue
		}
		cfg.HostKeyAlgorithms = append(cfg.HostKeyAlgorithms, with([]string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}, legacy.HostKeys)...)
	}
	return cfg
}

// answer says what a failed login means.
func (l *sshLogin) answer(ctx context.Context, err error) (Answer, error) {
	switch {
	case !l.presented:
		return NoAnswer, notPresented(err)
	case l.expired:
		return Accepted, err
	case ctx.Err() != nil:
		return NoAnswer, errors.Join(ctx.Err(), err)
	case lockedText.Match(l.said):
		return Locked, fmt.Errorf("the target says: %s", shown(string(l.said), l.who.Secret))
	case noMethod(err), strings.Contains(err.Error(), "Too many authentication failures"):
		return Rejected, fmt.Errorf("the target does not take the %s", strings.ReplaceAll(string(l.who.Secret.Kind), "_", " "))
	}
	return NoAnswer, err
}

// noMethod reports that the server turned down what it was shown, or offers no
// method to show it; the library has no better sign of it.
func noMethod(err error) bool { return strings.Contains(err.Error(), "unable to authenticate") }

// ran is what a remote command gave.
type ran struct {
	out, errs []byte
	status    int
	started   bool // the command may have got its input; without it, it certainly did not
}

// runSSH runs a command with input and waits for its exit status; the error is
// for a command without one.
func runSSH(client *ssh.Client, command string, input []byte) (r ran, err error) {
	session, err := client.NewSession()
	if err != nil {
		return r, fmt.Errorf("open a session: %w", err)
	}
	defer func() { err = errors.Join(err, ignoreClosed(session.Close())) }()
	out, errs := &bounded{left: maxOutput}, &bounded{left: maxSaid}
	session.Stdin, session.Stdout, session.Stderr = bytes.NewReader(input), out, errs
	if err := session.Start(command); err != nil {
		return r, fmt.Errorf("start a command: %w", err)
	}
	r.started = true
	err = session.Wait()
	r.out, r.errs = out.kept, errs.kept
	var exit *ssh.ExitError
	if errors.As(err, &exit) && exit.Signal() == "" {
		r.status = exit.ExitStatus()
		err = nil
	}
	if err == nil && out.cut {
		err = fmt.Errorf("the target wrote more than %d bytes", maxOutput)
	}
	return r, err
}

// bounded keeps the first bytes that are written to it and drops the rest.
type bounded struct {
	kept []byte
	left int
	cut  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.kept, b.left, b.cut = append(b.kept, p[:n]...), b.left-n, b.cut || n < len(p)
	return len(p), nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// quoteSh makes one word of a POSIX shell.
func quoteSh(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
