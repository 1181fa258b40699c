package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/kballard/go-shellquote"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// hostKeys decides which host keys are accepted from the gateway, and which
// algorithms to ask it for, so that it proves a key of a kind that is known.
func (c *client) hostKeys(d destination) (ssh.HostKeyCallback, []string, error) {
	if d.hostKey != nil {
		want := d.hostKey
		return func(_ string, _ net.Addr, got ssh.PublicKey) error {
			if !bytes.Equal(got.Marshal(), want.Marshal()) {
				return hostKeyChanged(d.addr, got, fmt.Sprintf("the site running in this data directory has %s", ssh.FingerprintSHA256(want)))
			}
			return nil
		}, algorithmsFor(want.Type()), nil
	}
	files, err := c.knownHostsFiles()
	if err != nil {
		return nil, nil, err
	}
	known, err := knownhosts.New(files...)
	if err != nil {
		return nil, nil, fmt.Errorf("read known hosts: %w", err)
	}
	var algorithms []string
	for _, k := range knownKeys(known, d.addr) {
		algorithms = append(algorithms, algorithmsFor(k.Key.Type())...)
	}
	return func(host string, remote net.Addr, got ssh.PublicKey) error {
		err := known(host, noAddr{}, got)
		var ke *knownhosts.KeyError
		switch {
		case errors.As(err, &ke) && len(ke.Want) == 0:
			return hostKeyUnknown(d.addr, got, c.firstKnownHosts())
		case errors.As(err, &ke):
			return hostKeyChanged(d.addr, got, fmt.Sprintf("another one stands in %s, line %d", ke.Want[0].Filename, ke.Want[0].Line))
		}
		return err // nil, or a revoked key
	}, algorithms, nil
}

// noAddr keeps a lookup in known_hosts to the name that was given.
type noAddr struct{}

func (noAddr) Network() string { return "tcp" }
func (noAddr) String() string  { return "0.0.0.0:0" }

// knownKeys lists the keys that known_hosts has for an address, by asking it
// about a key that nobody has.
func knownKeys(known ssh.HostKeyCallback, addr string) []knownhosts.KnownKey {
	var ke *knownhosts.KeyError
	if err := known(addr, noAddr{}, noKey{}); errors.As(err, &ke) {
		return ke.Want
	}
	return nil
}

type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// algorithmsFor lists the signature algorithms by which a host proves a key of
// a type (RFC 8332 for RSA).
func algorithmsFor(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

func (c *client) firstKnownHosts() string {
	if c.knownHosts != "" {
		return c.knownHosts
	}
	return filepath.Join(c.getenv("HOME"), ".ssh", "known_hosts")
}

// knownHostsFiles lists the files to read: the one that was named, which must
// exist, or those of the usual two that do.
func (c *client) knownHostsFiles() ([]string, error) {
	if c.knownHosts != "" {
		if _, err := os.Stat(c.knownHosts); err != nil {
			return nil, &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("known hosts: %s", err)}
		}
		return []string{c.knownHosts}, nil
	}
	var files []string
	for _, name := range []string{c.firstKnownHosts(), "/etc/ssh/ssh_known_hosts"} {
		if _, err := os.Stat(name); err == nil {
			files = append(files, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read known hosts: %w", err)
		}
	}
	return files, nil
}

func hostKeyUnknown(addr string, key ssh.PublicKey, file string) error {
	return &console.Fault{
		Exit:    console.Login,
		Message: fmt.Sprintf("the gateway %s is not known here; it proved the key %s", addr, ssh.FingerprintSHA256(key)),
		Hint: fmt.Sprintf("if that is the fingerprint the site showed when it started, run: echo %s >> %s",
			shellquote.Join(knownhosts.Line([]string{addr}, key)), shellquote.Join(file)),
	}
}

func hostKeyChanged(addr string, got ssh.PublicKey, want string) error {
	return &console.Fault{
		Exit: console.Damaged,
		Message: fmt.Sprintf("THE GATEWAY %s PROVED ANOTHER HOST KEY THAN IT SHOULD: %s, but %s; somebody may be in between, nothing was sent",
			addr, ssh.FingerprintSHA256(got), want),
		Hint: "ask whoever runs the site before you go on; only if the site was really set up anew, remove the old key",
	}
}
