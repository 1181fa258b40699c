package sshwire

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Reasons of DISCONNECT: RFC 4253 section 11.1.
const (
	ReasonHostNotAllowed       uint32 = 1
	ReasonProtocolError        uint32 = 2
	ReasonKeyExchangeFailed    uint32 = 3
	ReasonMACError             uint32 = 5
	ReasonServiceNotAvailable  uint32 = 7
	ReasonVersionNotSupported  uint32 = 8
	ReasonHostKeyNotVerifiable uint32 = 9
	ReasonConnectionLost       uint32 = 10
	ReasonByApplication        uint32 = 11
	ReasonTooManyConnections   uint32 = 12
	ReasonAuthCancelled        uint32 = 13
	ReasonNoMoreAuthMethods    uint32 = 14
	ReasonIllegalUserName      uint32 = 15
)

// A DisconnectError is a DISCONNECT: the peer's when returned by this package, our own to be sent when returned
// by ServerAuth.Accept.
type DisconnectError struct {
	Reason uint32
	Text   string
}

func (e *DisconnectError) Error() string {
	return fmt.Sprintf("disconnected (reason %d): %q", e.Reason, e.Text)
}

// A ProtocolError says how the peer broke the protocol, or why no agreement was reached. Reason is what it was told in our DISCONNECT.
type ProtocolError struct {
	Reason uint32
	Err    error
}

func (e *ProtocolError) Error() string { return e.Err.Error() }

// Unwrap gives the cause, such as ErrMalformed or ErrForged.
func (e *ProtocolError) Unwrap() error { return e.Err }

// A NoCommonError is wrapped when client and server share no algorithm of a kind: "cipher", "MAC", "key exchange",
// "host key algorithm" or "compression".
type NoCommonError struct {
	Kind           string
	Client, Server []string // what each offered
}

func (e *NoCommonError) Error() string {
	return fmt.Sprintf("no common SSH %s: client has %q, server has %q", e.Kind, strings.Join(e.Client, ","), strings.Join(e.Server, ","))
}

// ErrForged is wrapped when a packet's authentication tag is wrong: damaged or forged on its way.
var ErrForged = errors.New("SSH packet failed its integrity check")

// ErrPasswordChange is wrapped when the server demands a new password before it lets the user in.
var ErrPasswordChange = errors.New("the server demands a new password")

// An AuthError is returned by Client when the server accepted none of the ways to log in.
type AuthError struct {
	User    string
	Tried   []string // methods, in order
	Offered []string // methods that the server would still take
}

func (e *AuthError) Error() string {
	tried := strings.Join(e.Tried, ", ")
	if tried == "" {
		tried = "nothing"
	}
	return fmt.Sprintf("server refused to authenticate %q: tried %s; it takes %s",
		e.User, tried, strings.Join(e.Offered, ", "))
}

// A LoginError is returned by Server when a client ended or lost its login without breaking the protocol.
type LoginError struct {
	User string // last user name given, empty if none
	Err  error
}

func (e *LoginError) Error() string {
	if e.User == "" {
		return fmt.Sprintf("login: %v", e.Err)
	}
	return fmt.Sprintf("login of %q: %v", e.User, e.Err)
}

// Unwrap gives the cause.
func (e *LoginError) Unwrap() error { return e.Err }

func violation(reason uint32, format string, args ...any) error {
	return &ProtocolError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

func unexpected(number byte, state string) error {
	return violation(ReasonProtocolError, "peer sent SSH message %d %s", number, state)
}

// clip cuts text that we send to maxText bytes at a character's edge.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// checkUserName bounds what a log-in name may be: RFC 4252 section 5 says UTF-8, the rest is ours.
func checkUserName(name string) error {
	if name == "" || len(name) > maxUserName {
		return fmt.Errorf("user name of %d bytes; want 1 to %d", len(name), maxUserName)
	}
	if !utf8.ValidString(name) {
		return errors.New("user name is not UTF-8")
	}
	for _, r := range name {
		if r < ' ' || (r >= 0x7f && r < 0xa0) {
			return errors.New("user name holds a control character")
		}
	}
	return nil
}
