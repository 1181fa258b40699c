package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 64 << 10

// identity is the keys that a person can prove. Its owner closes it when the
// login is over.
type identity struct {
	signers []ssh.Signer
	locked  []string // key files that need a passphrase nobody can be asked for
	agent   io.Closer
}

func (id *identity) Close() error {
	if id.agent == nil {
		return nil
	}
	return id.agent.Close()
}

// identity collects the keys: the file that was named and nothing else, or
// those of the agent and then the usual files.
func (c *client) identity() (*identity, error) {
	file := c.identityFile
	if file == "" {
		file = c.getenv("HOLDFAST_IDENTITY")
	}
	id := &identity{}
	held, err := c.agentKeys(id)
	if err != nil && file == "" {
		fmt.Fprintf(c.stderr, "note: the SSH agent is not used: %s\n", console.Printable(err.Error()))
	}
	if file != "" {
		err := c.addNamed(id, file, held)
		return id, err
	}
	id.signers = held
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		path := filepath.Join(c.getenv("HOME"), ".ssh", name)
		if err := c.addFile(id, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(c.stderr, "note: %s is not used: %s\n", path, console.Printable(err.Error()))
		}
	}
	return id, nil
}

// agentKeys lists the keys of the SSH agent; without an agent there are none.
func (c *client) agentKeys(id *identity) ([]ssh.Signer, error) {
	socket := c.getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, nil
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	id.agent = conn
	return agent.NewClient(conn).Signers()
}

// addNamed adds the key of a file that was named: a private key, or a public
// key whose private half the agent holds.
func (c *client) addNamed(id *identity, file string, held []ssh.Signer) error {
	b, err := readBounded(file, maxKeyFile)
	if err != nil {
		return &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("identity: %s", err)}
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		if err := c.addFile(id, file); err != nil {
			return &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("identity %s: %s", file, err)}
		}
		return nil
	}
	i := slices.IndexFunc(held, func(s ssh.Signer) bool { return bytes.Equal(s.PublicKey().Marshal(), pub.Marshal()) })
	if i < 0 {
		return &console.Fault{Exit: console.Login, Message: fmt.Sprintf("identity %s is a public key that the SSH agent does not hold", file),
			Hint: "name the private key, or add it with ssh-add"}
	}
	id.signers = append(id.signers, held[i])
	return nil
}

// addFile adds the private key in a file. The passphrase of a protected one is
// asked for only once the gateway is willing to take that key.
func (c *client) addFile(id *identity, file string) error {
	b, err := readBounded(file, maxKeyFile)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(b)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked) && c.ask == nil:
		id.locked = append(id.locked, file)
		return nil
	case errors.As(err, &locked):
		pub := locked.PublicKey
		if pub == nil {
			if pub, err = publicHalf(file); err != nil {
				return err
			}
		}
		signer = &lockedSigner{file: file, sealed: b, public: pub, ask: c.ask}
	case err != nil:
		return err
	}
	same := func(s ssh.Signer) bool { return bytes.Equal(s.PublicKey().Marshal(), signer.PublicKey().Marshal()) }
	if !slices.ContainsFunc(id.signers, same) {
		id.signers = append(id.signers, signer)
	}
	return nil
}

// publicHalf reads the public key beside a private one in an old format, which
// does not show it.
func publicHalf(file string) (ssh.PublicKey, error) {
	b, err := readBounded(file+".pub", maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("it is protected by a passphrase and its public half can't be read: %s", err)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(b)
	return pub, err
}

// lockedSigner is a private key that is unlocked when it must sign.
type lockedSigner struct {
	file   string
	sealed []byte
	public ssh.PublicKey
	ask    func(prompt string) ([]byte, error)
	opened ssh.AlgorithmSigner
}

func (s *lockedSigner) PublicKey() ssh.PublicKey { return s.public }

func (s *lockedSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.public.Type())
}

func (s *lockedSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if s.opened == nil {
		if err := s.unlock(); err != nil {
			return nil, err
		}
	}
	return s.opened.SignWithAlgorithm(rand, data, algorithm)
}

func (s *lockedSigner) unlock() error {
	passphrase, err := s.ask("Passphrase for " + s.file + ": ")
	if err != nil {
		return fmt.Errorf("ask for the passphrase of %s: %w", s.file, err)
	}
	defer clear(passphrase)
	signer, err := ssh.ParsePrivateKeyWithPassphrase(s.sealed, passphrase)
	if err != nil {
		return fmt.Errorf("unlock %s: %w", s.file, err)
	}
	opened, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return fmt.Errorf("unlock %s: a key of type %s can't sign here", s.file, s.public.Type())
	}
	s.opened = opened
	return nil
}
