package sshwire

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Defaults and bounds. Each is checked before anything is allocated for the peer.
const (
	// DefaultVersion is the identification string sent when Config.Version is empty. It names no product version.
	DefaultVersion = "SSH-2.0-holdfast"
	// DefaultMaxPacket is the largest payload accepted after login, as in OpenSSH.
	DefaultMaxPacket = 256 << 10
	// DefaultMaxAuthTries is how many failed attempts a login gets.
	DefaultMaxAuthTries = 6

	defaultRekeyBytes   = 1 << 30
	defaultRekeyPackets = 1 << 31 // RFC 4344 section 3.1
	preAuthMaxPayload   = 35000   // RFC 4253 section 6.1
	preAuthMaxBytes     = 1 << 20 // all that a peer may send before it is authenticated
	rekeyTimeout        = 2 * time.Minute
	maxWhileKex         = 256 << 20 // what a peer may send between our KEXINIT and its own
	disconnectWait      = 2 * time.Second
	fitOfferWait        = 100 * time.Millisecond
	maxUserName         = 255
	maxText             = 8 << 10 // banner, disconnect text, prompt: longer ones are cut when sent
)

// Config is what both roles share. The zero value is the modern default.
type Config struct {
	// Rand gives cookies and Diffie-Hellman exponents; nil is crypto/rand. Other key exchanges take their
	// randomness from the standard library whatever stands here.
	Rand io.Reader
	// Version is the identification string without its line end; empty is DefaultVersion.
	Version string
	// KeyExchanges, Ciphers and MACs in order of preference; nil takes the defaults (algorithms.go). Naming a legacy
	// algorithm here is the only way to allow it.
	KeyExchanges []string
	Ciphers      []string
	MACs         []string
	// RekeyBytes and RekeyPackets start a key exchange when either direction has carried so much under one set of
	// keys; 0 is 1 GiB and 2^31 packets.
	RekeyBytes   uint64
	RekeyPackets uint64
	// RekeyInterval starts a key exchange when so much time has passed since login or the last request by time; 0 is never.
	RekeyInterval time.Duration
	// MaxPacket is the largest payload in bytes, sent or received, after login; 0 is DefaultMaxPacket.
	MaxPacket int
	// OnRekey, when not nil, is told that WritePacket began to wait for a key exchange (true), and that it no longer
	// does (false). A key exchange ends only if ReadPacket is called, so an owner that has stopped reading for
	// back-pressure must read on while it is true; windows keep what then comes in small. Calls are ordered and never
	// overlap; they must return soon and must not call WritePacket, Rekey, Disconnect or Close.
	OnRekey func(started bool)
}

// ServerConfig configures [Server].
type ServerConfig struct {
	Config
	// HostKeys holds at most one signer per key format; host certificates come from ssh.NewCertSigner. Order is preference.
	HostKeys []ssh.Signer
	Auth     ServerAuth
	// Banner is shown before the first authentication method is answered; empty is none.
	Banner string
	// MaxAuthTries is how many failed attempts end the login; 0 is DefaultMaxAuthTries.
	MaxAuthTries int
	// FitOffer waits up to 100 ms for the client's KEXINIT before sending ours, and fits ours to it. A client that has
	// AES-GCM is offered no other cipher: its order decides otherwise, and OpenSSH puts the dearer chacha20-poly1305 first.
	// A NIST curve is offered only to a client that shares no other key exchange with us. It costs a client one round trip.
	FitOffer bool
}

// ClientConfig configures [Client].
type ClientConfig struct {
	Config
	User string
	// Auth is tried in order; each is used once, and again after a partial success of another one.
	Auth []ClientAuth
	// HostKeyAlgorithms in order of preference; nil is the modern default. Set it from the pinned keys. Listing "ssh-rsa"
	// allows SHA-1 signatures by the host, and by our own RSA keys when the server doesn't announce better.
	HostKeyAlgorithms []string
	// HostKey decides whether to trust the key (or *ssh.Certificate) that the server has proven to hold. It must not be nil.
	HostKey func(addr net.Addr, key ssh.PublicKey) error
	// BannerFunc gets each banner as sent: text of the server's that is not safe to show unfiltered. nil drops them.
	BannerFunc func(text string)
}

// ServerAuth decides who logs in. Only methods whose function is non-nil are offered. A function that returns
// a [PartialSuccess] has accepted its step and names what must follow; one that returns a [DisconnectError] ends the
// login with it; any other error is a failed attempt.
type ServerAuth struct {
	// None lets in without proof of anything (RFC 4252 section 5.2), for a client whose identity is known from what the
	// connection runs over. It is not announced: a client asks for it first or not at all.
	None func(m Meta) error
	// PublicKey is asked whether key may log in: with proven false for a probe, with proven true after the
	// signature was verified. Certificates arrive as *ssh.Certificate, unchecked but for their holder's signature.
	PublicKey func(m Meta, key ssh.PublicKey, proven bool) error
	// KeyboardInteractive asks as often as it needs (RFC 4256), at most 32 prompts at once. With none at all it tells
	// something, or only learns whether the client is still there; clients answer that by themselves, as soon as they
	// have shown it. Answers are as sent: of any length that a packet holds, of any bytes. An error from ask must be
	// returned as it is.
	KeyboardInteractive func(m Meta, ask func(name, instruction string, prompts []Prompt) ([]string, error)) error
	// Password is called with bytes that are wiped when it returns.
	Password func(m Meta, password []byte) error
	// Accept runs once after authentication succeeded, before USERAUTH_SUCCESS is sent. It may show banners
	// (m.Banner) and take long. An error refuses the login: the person gets its text by DISCONNECT, with the reason
	// of a *DisconnectError if it is one. ctx is the one given to Server.
	Accept func(ctx context.Context, m Meta) error
}

// Meta is what is known of a login under way.
type Meta interface {
	User() string
	SessionID() []byte
	ClientVersion() []byte
	RemoteAddr() net.Addr
	LocalAddr() net.Addr
	// Banner shows text to the person; only valid until the login has ended.
	Banner(text string) error
}

// A Prompt is one question of keyboard-interactive.
type Prompt struct {
	Text string
	Echo bool // whether the answer may be shown while typed
}

// PartialSuccess is returned by a ServerAuth function whose step succeeded but does not suffice; Next decides from then on.
// Accept of the first ServerAuth still has the last word.
type PartialSuccess struct{ Next ServerAuth }

func (p *PartialSuccess) Error() string { return "authentication succeeded in part; more is required" }

// withDefaults checks c and fills in what it leaves open.
func (c Config) withDefaults() (Config, error) {
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Version == "" {
		c.Version = DefaultVersion
	}
	if !strings.HasPrefix(c.Version, "SSH-2.0-") || len(c.Version) > maxVersionLine-2 || !printable(c.Version) {
		return c, fmt.Errorf("SSH version string %q: want SSH-2.0-, printable ASCII, at most 253 bytes", c.Version)
	}
	var err error
	if c.KeyExchanges, err = chosen("key exchange", c.KeyExchanges, defaultKeyExchanges, known(exchanges)); err != nil {
		return c, err
	}
	if c.Ciphers, err = chosen("cipher", c.Ciphers, defaultCiphers, known(ciphers)); err != nil {
		return c, err
	}
	if c.MACs, err = chosen("MAC", c.MACs, defaultMACs, known(macs)); err != nil {
		return c, err
	}
	if c.RekeyBytes == 0 {
		c.RekeyBytes = defaultRekeyBytes
	}
	if c.RekeyPackets == 0 || c.RekeyPackets > defaultRekeyPackets {
		c.RekeyPackets = defaultRekeyPackets
	}
	if c.MaxPacket == 0 {
		c.MaxPacket = DefaultMaxPacket
	}
	if c.MaxPacket < 32768 || c.MaxPacket > 16<<20 {
		return c, fmt.Errorf("SSH MaxPacket %d: want 32768 (RFC 4253 section 6.1) to 16 MiB", c.MaxPacket)
	}
	return c, nil
}

// chosen gives the names asked for, or the defaults, and refuses unknown ones.
func chosen(what string, names, defaults []string, isKnown func(string) bool) ([]string, error) {
	if names == nil {
		return defaults, nil
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no SSH %s is allowed; name at least one", what)
	}
	for _, n := range names {
		if !isKnown(n) {
			return nil, fmt.Errorf("unknown SSH %s %q", what, n)
		}
	}
	return names, nil
}

func known[T any](table map[string]T) func(string) bool {
	return func(n string) bool { _, ok := table[n]; return ok }
}

func (c *ServerConfig) check() error {
	if len(c.HostKeys) == 0 {
		return errors.New("SSH server without a host key")
	}
	if len(c.Auth.methods()) == 0 && c.Auth.None == nil {
		return errors.New("SSH server without an authentication method")
	}
	return nil
}

func (c *ClientConfig) check() error {
	if c.HostKey == nil {
		return errors.New("SSH client without a host key check")
	}
	return checkUserName(c.User)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
