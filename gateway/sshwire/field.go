package sshwire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every error about a message that doesn't follow its RFC's layout.
var ErrMalformed = errors.New("malformed SSH message")

// malformed names the message and what is wrong with it.
func malformed(message, why string) error {
	return fmt.Errorf("%s: %s: %w", message, why, ErrMalformed)
}

// maxName is the longest name that RFC 4251 section 6 allows (algorithms, methods, request and channel types).
const maxName = 64

// fields takes the data types of RFC 4251 section 5 off the front of a packet.
// The first failure sticks: later reads give zero values, and err names the first cause.
type fields struct {
	rest []byte
	why  string
}

func (f *fields) fail(why string) {
	if f.why == "" {
		f.why = why
	}
	f.rest = nil
}

func (f *fields) byte(what string) byte {
	if len(f.rest) < 1 {
		f.fail(what + " missing")
		return 0
	}
	b := f.rest[0]
	f.rest = f.rest[1:]
	return b
}

// bool reads any non-zero byte as true, as RFC 4251 section 5 asks of readers.
func (f *fields) bool(what string) bool { return f.byte(what) != 0 }

func (f *fields) uint32(what string) uint32 {
	if len(f.rest) < 4 {
		f.fail(what + " cut short")
		return 0
	}
	v := binary.BigEndian.Uint32(f.rest)
	f.rest = f.rest[4:]
	return v
}

// bytes reads a string without copying it.
func (f *fields) bytes(what string) []byte {
	n := f.uint32(what)
	if uint64(n) > uint64(len(f.rest)) {
		f.fail(what + " longer than its packet")
		return nil
	}
	v := f.rest[:n:n]
	f.rest = f.rest[n:]
	return v
}

func (f *fields) string(what string) string { return string(f.bytes(what)) }

// name reads a name of RFC 4251 section 6: 1 to 64 printable US-ASCII characters without space or comma.
func (f *fields) name(what string) string {
	b := f.bytes(what)
	if f.why != "" {
		return ""
	}
	if len(b) == 0 || len(b) > maxName {
		f.fail(what + " is not 1 to 64 characters long")
		return ""
	}
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || c == ',' {
			f.fail(what + " holds a character outside printable US-ASCII")
			return ""
		}
	}
	return intern(b)
}

// remainder takes everything that is left: the type-specific part of a message.
func (f *fields) remainder() []byte {
	v := f.rest[:len(f.rest):len(f.rest)]
	f.rest = nil
	return v
}

// err reports the first failure, or bytes left over where the RFC ends the message.
func (f *fields) err(message string) error {
	if f.why == "" && len(f.rest) > 0 {
		f.why = "bytes after its end"
	}
	if f.why == "" {
		return nil
	}
	return malformed(message, f.why)
}

// open starts reading packet, which must carry the message number given.
func open(packet []byte, number byte) *fields {
	f := &fields{rest: packet}
	if f.byte("message number") != number && f.why == "" {
		f.fail("another message number")
	}
	return f
}

// frequent holds names that relays meet all the time, so that reading one doesn't allocate.
var frequent = func() map[string]string {
	m := map[string]string{}
	for _, s := range []string{
		"session", "shell", "exec", "subsystem", "pty-req", "window-change", "env", "signal",
		"exit-status", "exit-signal", "eow@openssh.com", "keepalive@openssh.com",
		"direct-tcpip", "forwarded-tcpip", "auth-agent-req@openssh.com",
		"winadj@putty.projects.tartarus.org", "ssh-userauth", "ssh-connection",
	} {
		m[s] = s
	}
	return m
}()

func intern(b []byte) string {
	if s, ok := frequent[string(b)]; ok {
		return s
	}
	return string(b)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendUint32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

func appendString[T string | []byte](dst []byte, v T) []byte {
	return append(appendUint32(dst, uint32(len(v))), v...)
}
