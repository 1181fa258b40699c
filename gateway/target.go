package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// hostKeyError says that a target proved another host key than the pinned ones.
type hostKeyError struct{ presented ssh.PublicKey }

func (e *hostKeyError) Error() string {
	return fmt.Sprintf("the target proved host key %s, which is not pinned", ssh.FingerprintSHA256(e.presented))
}

// targetLogin is one login at a target with a credential from the vault.
type targetLogin struct {
	sealer  *seal.Sealer
	started *commands.Started
	config  sshwire.Config
	limits  Limits
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	issue   func(events.CertificateIssued) error // records a certificate before it is presented
	permits permits                              // of the way in which the person logged in
	now     func() time.Time
	site    events.SiteID
	from    net.Addr // our end of the connection
	to      net.Addr
	fresh   ed25519.PrivateKey // made for this login, to be wiped

	pinned  []ssh.PublicKey
	proven  ssh.PublicKey // host key that the target proved
	secrets []seal.Secret // opened, to be wiped
	tried   bool          // the password was presented
	vault   error         // why the secret could not be opened
}

// run connects and logs in. Nothing secret is opened before the target has proven a pinned host key, and nothing
// stays open after it.
func (t *targetLogin) run(ctx context.Context) (*leg, *sshwire.Conn, error) {
	gate := &rekeyGate{}
	t.config.OnRekey = gate.onRekey
	cfg, err := t.clientConfig()
	if err != nil {
		return nil, nil, err
	}
	dialling, cancel := context.WithTimeout(ctx, t.limits.TargetDial)
	defer cancel()
	nc, err := t.dial(dialling, "tcp", t.started.Addr)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", t.started.Addr, err)
	}
	t.limits.keepAlive(nc)
	t.from, t.to = nc.LocalAddr(), nc.RemoteAddr()
	login, cancel := context.WithTimeout(ctx, t.limits.TargetLogin)
	defer cancel()
	defer t.wipe()
	conn, err := sshwire.Client(login, nc, cfg)
	if err != nil {
		return nil, nil, errors.Join(t.vault, err)
	}
	return newLeg(conn, gate, nc), conn, nil
}

func (t *targetLogin) clientConfig() (*sshwire.ClientConfig, error) {
	var algorithms []string
	for _, line := range t.started.HostKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("pinned host key of target %s: %w", t.started.Target, err)
		}
		t.pinned = append(t.pinned, key)
		algorithms = append(algorithms, hostKeyAlgorithms(key.Type())...)
	}
	cfg := &sshwire.ClientConfig{
		Config: t.config, User: t.started.Account, HostKey: t.checkHostKey, HostKeyAlgorithms: slices.Compact(algorithms),
	}
	if err := t.allowLegacy(cfg); err != nil {
		return nil, err
	}
	auth, err := t.ways()
	cfg.Auth = auth
	return cfg, err
}

// allowLegacy opts in to what the target was allowed. SHA-1 host key signatures need a pinned RSA key as well.
func (t *targetLogin) allowLegacy(cfg *sshwire.ClientConfig) error {
	for _, name := range t.started.Algorithms {
		if name == ssh.KeyAlgoRSA && !slices.ContainsFunc(t.pinned, func(k ssh.PublicKey) bool { return k.Type() == ssh.KeyAlgoRSA }) {
			continue
		}
		if err := cfg.Allow(name); err != nil {
			return fmt.Errorf("target %s: %w", t.started.Target, err)
		}
	}
	return nil
}

func hostKeyAlgorithms(format string) []string {
	if format == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{format}
}

func (t *targetLogin) checkHostKey(_ net.Addr, key ssh.PublicKey) error {
	for _, p := range t.pinned {
		if string(p.Marshal()) == string(key.Marshal()) {
			t.proven = key
			return nil
		}
	}
	return &hostKeyError{presented: key}
}

// ways lists how to log in with the kind of secret that there is.
func (t *targetLogin) ways() ([]sshwire.ClientAuth, error) {
	switch t.started.Secret.Kind {
	case events.Password:
		return []sshwire.ClientAuth{sshwire.Password(t.password), sshwire.KeyboardInteractive(t.answer)}, nil
	case events.UserCertificate:
		return t.certificates()
	case events.PrivateKey:
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(t.started.Secret.Public))
		if err != nil {
			return nil, fmt.Errorf("public half of secret %s: %w", t.started.Secret.Version, err)
		}
		return []sshwire.ClientAuth{sshwire.PublicKeys(&vaultSigner{login: t, public: public})}, nil
	}
	return nil, fmt.Errorf("secret %s is of kind %q, which no login takes", t.started.Secret.Version, t.started.Secret.Kind)
}

// open takes the secret out of the vault; wipe clears it.
func (t *targetLogin) open() (seal.Secret, error) {
	s, err := vault.Open(context.Background(), t.sealer, t.started.Secret)
	if err != nil {
		t.vault = err
		return s, err
	}
	t.secrets = append(t.secrets, s)
	return s, nil
}

func (t *targetLogin) wipe() {
	for _, s := range t.secrets {
		s.Wipe()
	}
	t.secrets = nil
	clear(t.fresh)
}

func (t *targetLogin) password() ([]byte, error) {
	s, err := t.open()
	if err != nil {
		return nil, err
	}
	t.tried = true
	return s.Bytes(), nil
}

var (
	errPrompt      = errors.New("the target asks for something other than one password")
	errNotAccepted = errors.New("the target did not accept the password")
)

// answer gives the password to a single question that hides its answer, once. A password that was refused before is not
// presented again: it would count twice against the account.
func (t *targetLogin) answer(_, _ string, prompts []sshwire.Prompt) ([]string, error) {
	if len(prompts) == 0 {
		return nil, nil
	}
	switch {
	case t.tried:
		return nil, errNotAccepted
	case len(prompts) != 1 || prompts[0].Echo:
		return nil, errPrompt
	}
	b, err := t.password()
	if err != nil {
		return nil, err
	}
	return []string{string(b)}, nil
}

// vaultSigner signs with a private key that leaves the vault only for the moment of signing.
type vaultSigner struct {
	login  *targetLogin
	public ssh.PublicKey
}

var _ ssh.AlgorithmSigner = (*vaultSigner)(nil)

func (v *vaultSigner) PublicKey() ssh.PublicKey { return v.public }

func (v *vaultSigner) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return v.SignWithAlgorithm(random, data, "")
}

func (v *vaultSigner) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	secret, err := v.login.open()
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	signer, err := ssh.ParsePrivateKey(secret.Bytes())
	if err != nil { // the cause may quote the key
		return nil, fmt.Errorf("secret %s is not a private key", v.login.started.Secret.Version)
	}
	if random == nil {
		random = rand.Reader
	}
	if able, ok := signer.(ssh.AlgorithmSigner); ok && algorithm != "" {
		return able.SignWithAlgorithm(random, data, algorithm)
	}
	return signer.Sign(random, data)
}
