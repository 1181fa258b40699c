// Package token keeps a site key in a PKCS#11 token. The token's library is
// foreign code that needs cgo, so it is loaded by a helper, a program of its own
// (cmd/holdfast-pkcs11), and this side speaks to it through its standard input
// and output in small frames. The PIN goes that way too, never through arguments
// or the environment.
//
// The key is P-256, made in the token, sensitive and not extractable. Opening a
// wrapped data key asks the token for one key exchange; the rest of HPKE is done
// here. A helper that dies takes the access with it until the next unseal: the
// PIN is not kept.
package token

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events/seal"
)

// Config says where the token is.
type Config struct {
	Helper string // the helper program; empty for holdfast-pkcs11 beside this program
	Module string // the token's PKCS#11 library
	Label  string // of the token
}

// answerTime bounds how long the helper may take for one answer.
const answerTime = 30 * time.Second

var (
	// ErrPIN says that the token refused the PIN. Few wrong ones lock it.
	ErrPIN = errors.New("the token refused the PIN")
	// ErrLocked says that the token takes no PIN any more.
	ErrLocked = errors.New("the token's PIN is locked; its security officer has to reset it")
	// ErrAbsent says that the token or the key in it can't be found.
	ErrAbsent = errors.New("it is not in the token")
)

// Provider is a site key in a token; see [seal.Provider].
type Provider struct {
	helper *helper
	name   string
	id     []byte // CKA_ID
	public *ecdh.PublicKey
	key    uint32
}

var _ seal.Provider = (*Provider)(nil)

// Open logs in at the token with a PIN and finds the key of a CKA_ID, whose
// public half must be the given one.
func Open(ctx context.Context, cfg Config, pin seal.Secret, id []byte, public *seal.PublicKey) (*Provider, error) {
	h, err := start(ctx, cfg, pin)
	if err != nil {
		return nil, err
	}
	point, err := h.point(ctx, Public, id)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	p := &Provider{helper: h, name: fmt.Sprintf("token %q", cfg.Label), id: slices.Clone(id), public: point, key: public.Recipient().Key}
	if err := seal.CheckProvider(ctx, p, public); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return p, nil
}

// CreateKey makes a new key in the token under a CKA_ID and gives its public half.
func CreateKey(ctx context.Context, cfg Config, pin seal.Secret, id []byte, site uuid.UUID, key uint32) (*seal.PublicKey, error) {
	h, err := start(ctx, cfg, pin)
	if err != nil {
		return nil, err
	}
	point, err := h.point(ctx, Create, id, []byte("holdfast site "+site.String()))
	if err = errors.Join(err, h.close()); err != nil {
		return nil, err
	}
	return seal.NewPublicKey(site, key, point)
}

// DestroyKey destroys the key of a CKA_ID in the token. One that is not there is
// destroyed already.
func DestroyKey(ctx context.Context, cfg Config, pin seal.Secret, id []byte) error {
	h, err := start(ctx, cfg, pin)
	if err != nil {
		return err
	}
	_, err = h.ask(ctx, Destroy, id)
	return errors.Join(err, h.close())
}

// Name is the token's label.
func (p *Provider) Name() string { return p.name }

// Unwrap opens a wrapped data key with one key exchange in the token.
func (p *Provider) Unwrap(ctx context.Context, sealed, info []byte) (seal.Secret, error) {
	if !seal.IsWrappedTo(p.key, sealed) {
		return seal.Secret{}, seal.ErrMismatch
	}
	return seal.OpenWrap(&exchange{ctx, p}, sealed, info)
}

// Destroy destroys the key in the token. The provider is of no use afterwards.
func (p *Provider) Destroy(ctx context.Context) error {
	_, err := p.helper.ask(ctx, Destroy, p.id)
	return err
}

// Close ends the helper, and with it the login at the token.
func (p *Provider) Close() error { return p.helper.close() }

// exchange is one use of the key.
type exchange struct {
	ctx context.Context
	*Provider
}

func (e *exchange) PublicKey() *ecdh.PublicKey { return e.public }
func (e *exchange) Curve() ecdh.Curve          { return ecdh.P256() }

func (e *exchange) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	fields, err := e.helper.ask(e.ctx, Derive, e.id, peer.Bytes())
	if err != nil {
		return nil, err
	}
	if len(fields) != 1 || len(fields[0]) != 32 {
		return nil, errors.New("the PKCS#11 helper answered a key exchange with something else than 32 bytes")
	}
	return fields[0], nil
}

// helper is a running helper program, logged in at a token.
type helper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser

	mu   sync.Mutex // one request at a time; guards the rest
	gone error      // why nothing can be asked any more
}

func start(ctx context.Context, cfg Config, pin seal.Secret) (*helper, error) {
	path, err := cfg.program()
	if err != nil {
		return nil, err
	}
	h := &helper{cmd: exec.Command(path)}
	h.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HOLDFAST_") })
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the terminal is not for it
	if h.in, err = h.cmd.StdinPipe(); err == nil {
		h.out, err = h.cmd.StdoutPipe()
	}
	if err == nil {
		err = h.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the PKCS#11 helper: %w", err)
	}
	if _, err := h.ask(ctx, Login, []byte(cfg.Module), []byte(cfg.Label), pin.Bytes()); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// program finds the helper. It is given the PIN, so nobody else may be able to
// put another in its place.
func (c *Config) program() (string, error) {
	path := c.Helper
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find the PKCS#11 helper: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), "holdfast-pkcs11")
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find the PKCS#11 helper: %w; build it with make pkcs11, or name it with keys.pkcs11_helper", err)
	}
	if err != nil {
		return "", fmt.Errorf("find the PKCS#11 helper: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("the PKCS#11 helper %s can be replaced by others (mode %04o); chmod it to 0755", path, info.Mode().Perm())
	}
	return path, nil
}

// ask sends one request and waits for its answer.
func (h *helper) ask(ctx context.Context, op Op, fields ...[]byte) ([][]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone != nil {
		return nil, h.gone
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = h.cmd.Process.Kill() }) // ends the read below
	err := WriteFrame(h.in, byte(op), fields...)
	var head byte
	var answer [][]byte
	if err == nil {
		head, answer, err = ReadFrame(h.out)
	}
	if !stop() { // the helper is being killed, whether or not it could answer before
		err = ctx.Err()
	}
	if err != nil {
		h.gone = fmt.Errorf("the PKCS#11 helper is gone (%w); seal the site, then unseal the site again (vault seal, vault unseal)", err)
		return nil, h.gone
	}
	if Status(head) == OK {
		return answer, nil
	}
	text := "no reason given"
	if len(answer) == 1 {
		text = string(answer[0])
	}
	switch Status(head) {
	case BadPIN:
		return nil, ErrPIN
	case Locked:
		return nil, ErrLocked
	case NoToken, NoKey:
		return nil, fmt.Errorf("%w: %s", ErrAbsent, text)
	}
	return nil, fmt.Errorf("PKCS#11: %s", text)
}

func (h *helper) point(ctx context.Context, op Op, fields ...[]byte) (*ecdh.PublicKey, error) {
	answer, err := h.ask(ctx, op, fields...)
	if err != nil {
		return nil, err
	}
	if len(answer) != 1 {
		return nil, errors.New("the PKCS#11 helper answered with no point")
	}
	point, err := ecdh.P256().NewPublicKey(answer[0])
	if err != nil {
		return nil, fmt.Errorf("the token's public key: %w", err)
	}
	return point, nil
}

// close ends the helper: it leaves when its input does, and is killed otherwise.
func (h *helper) close() error {
	h.mu.Lock()
	if h.gone == nil {
		h.gone = seal.ErrSealed
	}
	h.mu.Unlock()
	_ = h.in.Close() // it may be gone already
	late := time.AfterFunc(5*time.Second, func() { _ = h.cmd.Process.Kill() })
	defer late.Stop()
	_, _ = io.Copy(io.Discard, h.out)
	var exit *exec.ExitError
	if err := h.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("end the PKCS#11 helper: %w", err)
	}
	return nil
}
