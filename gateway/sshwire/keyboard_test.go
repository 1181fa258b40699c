package sshwire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

var errWrongCode = errors.New("wrong code")

// twoSteps is a server that wants the user's key and then the code 1234.
func twoSteps() *ServerConfig {
	server := testServer()
	inner := server.Auth.PublicKey
	code := func(_ Meta, ask func(string, string, []Prompt) ([]string, error)) error {
		answers, err := ask("", "", []Prompt{{"Code: ", true}})
		if err != nil {
			return err
		}
		if answers[0] != "1234" {
			return errWrongCode
		}
		return nil
	}
	server.Auth.PublicKey = func(m Meta, key ssh.PublicKey, isProven bool) error {
		if err := inner(m, key, isProven); err != nil || !isProven {
			return err
		}
		return &PartialSuccess{Next: ServerAuth{KeyboardInteractive: code}}
	}
	server.Auth.KeyboardInteractive = func(Meta, func(string, string, []Prompt) ([]string, error)) error { return errWrongCode }
	return server
}

func infoAnswers(answers ...string) []byte {
	p := appendUint32([]byte{MsgUserauthInfoResponse}, uint32(len(answers)))
	for _, a := range answers {
		p = appendString(p, a)
	}
	return p
}

// What a client may try that holds a right key and not the second factor.
func TestKeyboardInteractiveAfterAKey(t *testing.T) {
	k := testKeys()
	key := func(l *clientLogin) []byte {
		return signedBy(l, "publickey", k.user, nil, func([]byte, *ssh.Signature) {})
	}
	keyboard := func(l *clientLogin) []byte {
		return appendString(appendString(l.request("keyboard-interactive"), ""), "")
	}
	as := func(user string) func(*clientLogin) []byte {
		return func(l *clientLogin) []byte {
			p := appendString(appendString([]byte{MsgUserauthRequest}, user), serviceConnection)
			return appendString(appendString(appendString(p, "keyboard-interactive"), ""), "")
		}
	}
	say := func(p []byte) func(*clientLogin) []byte { return func(*clientLogin) []byte { return p } }
	long := strings.Repeat("1", 30<<10)
	const ok, fail, asked = MsgUserauthSuccess, MsgUserauthFailure, MsgUserauthInfoRequest
	type step = func(*clientLogin) []byte
	for _, c := range []struct {
		name   string
		steps  []step
		want   []byte // answered
		reason uint32 // of the end; 0 for a login that ended otherwise
	}{
		{"key and code", []step{key, keyboard, say(infoAnswers("1234"))}, []byte{fail, asked, ok}, 0},
		{"second try", []step{key, keyboard, say(infoAnswers("0")), keyboard, say(infoAnswers("1234"))}, []byte{fail, asked, fail, asked, ok}, 0},
		{"code before the key", []step{keyboard, key, keyboard, say(infoAnswers("1234"))}, []byte{fail, fail, asked, ok}, 0},
		{"the key twice", []step{key, key, key}, []byte{fail, fail, fail}, 0},
		{"the key in place of an answer", []step{key, keyboard, key}, []byte{fail, asked, fail}, 0},
		{"the service once more", []step{key, func(*clientLogin) []byte { return appendString([]byte{MsgServiceRequest}, serviceUserauth) }, keyboard, say(infoAnswers("1234"))}, []byte{fail, MsgServiceAccept, asked, ok}, 0},
		{"the connection before the login", []step{key, func(*clientLogin) []byte { return appendString([]byte{MsgServiceRequest}, serviceConnection) }}, []byte{fail}, ReasonServiceNotAvailable},
		{"the service in place of an answer", []step{key, keyboard, func(*clientLogin) []byte { return appendString([]byte{MsgServiceRequest}, serviceUserauth) }}, []byte{fail, asked}, ReasonProtocolError},
		{"none after the key", []step{key, func(l *clientLogin) []byte { return l.request("none") }}, []byte{fail, fail}, 0},
		{"an answer without a question", []step{say(infoAnswers("1234"))}, nil, ReasonProtocolError},
		{"an answer after the key, without a question", []step{key, say(infoAnswers("1234"))}, []byte{fail}, ReasonProtocolError},
		{"an answer twice", []step{key, keyboard, say(infoAnswers("0")), say(infoAnswers("1234"))}, []byte{fail, asked, fail}, ReasonProtocolError},
		{"no answer", []step{key, keyboard, say(infoAnswers())}, []byte{fail, asked}, ReasonProtocolError},
		{"two answers to one prompt", []step{key, keyboard, say(infoAnswers("1234", "1234"))}, []byte{fail, asked}, ReasonProtocolError},
		{"a count of 2^32-1", []step{key, keyboard, say([]byte{MsgUserauthInfoResponse, 255, 255, 255, 255})}, []byte{fail, asked}, ReasonProtocolError},
		{"fewer answers than it says", []step{key, keyboard, say([]byte{MsgUserauthInfoResponse, 0, 0, 0, 1})}, []byte{fail, asked}, ReasonProtocolError},
		{"bytes after the answers", []step{key, keyboard, say(append(infoAnswers("1234"), 0))}, []byte{fail, asked}, ReasonProtocolError},
		{"an answer that begins with the right one", []step{key, keyboard, say(infoAnswers("1234" + long))}, []byte{fail, asked, fail}, 0},
		{"an answer larger than a packet", []step{key, keyboard, say(infoAnswers(long + long))}, []byte{fail, asked}, ReasonProtocolError},
		{"success of its own", []step{key, keyboard, say([]byte{MsgUserauthSuccess})}, []byte{fail, asked}, ReasonProtocolError},
		{"a channel before the end of the login", []step{key, keyboard, say([]byte{MsgChannelOpen})}, []byte{fail, asked}, ReasonProtocolError},
		{"another name after the key", []step{key, as("root")}, []byte{fail}, ReasonProtocolError},
		{"another name in place of an answer", []step{key, keyboard, as("root")}, []byte{fail, asked, fail}, ReasonProtocolError},
		{"broken request", []step{key, func(l *clientLogin) []byte { return append(keyboard(l), 1) }}, []byte{fail}, ReasonProtocolError},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			answers, err := request(t, twoSteps(), func(_ hostile, l *clientLogin) (packets [][]byte) {
				for _, s := range c.steps {
					packets = append(packets, s(l))
				}
				return packets
			})
			// Where the server ends the connection its DISCONNECT is no answer.
			if !bytes.HasPrefix(answers, c.want) || slices.Contains(answers[len(c.want):], ok) || slices.Contains(c.want, ok) != (err == nil) {
				t.Errorf("answered with %v (%v), want %v", answers, err, c.want)
			}
			var breach *ProtocolError
			if c.reason != 0 && (!errors.As(err, &breach) || breach.Reason != c.reason) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// Wrong answers are failed attempts like any other.
func TestKeyboardInteractiveFailuresAreCounted(t *testing.T) {
	server := twoSteps()
	server.MaxAuthTries = 4
	tries := 0
	client := testClient()
	client.Auth = []ClientAuth{PublicKeys(testKeys().user)}
	for range 10 {
		client.Auth = append(client.Auth, KeyboardInteractive(func(string, string, []Prompt) ([]string, error) {
			tries++
			return []string{"0"}, nil
		}))
	}
	_, _, cerr, _ := tryLogin(t, client, server)
	var d *DisconnectError
	if !errors.As(cerr, &d) || d.Reason != ReasonNoMoreAuthMethods || tries != 4 {
		t.Errorf("after %d tries: %v", tries, cerr)
	}
}

// A server may tell and wait for as long as ctx lets it; a client that leaves is noticed at the next word.
func TestKeyboardInteractiveTellsAndWaits(t *testing.T) {
	server := testServer()
	var end error
	server.Auth = ServerAuth{KeyboardInteractive: func(_ Meta, ask func(string, string, []Prompt) ([]string, error)) error {
		for range 100 {
			if _, err := ask("", "still waiting", nil); err != nil {
				end = err
				return err
			}
		}
		return nil
	}}
	told := 0
	client := testClient()
	client.Auth = []ClientAuth{KeyboardInteractive(func(_, instruction string, prompts []Prompt) ([]string, error) {
		if told++; instruction != "still waiting" || len(prompts) != 0 || told == 20 {
			return nil, errors.New("the person has had enough")
		}
		return nil, nil
	})}
	_, _, cerr, serr := tryLogin(t, client, server)
	if cerr == nil || serr == nil || end == nil || told != 20 {
		t.Errorf("client: %v; server: %v; ask: %v; told %d times", cerr, serr, end, told)
	}
	over := &serverLogin{c: newConn(sink{}, must(Config{}.withDefaults()), true), asked: maxAsked}
	if _, err := over.ask("", "", nil); err == nil || over.fatal == nil {
		t.Errorf("asked for ever: %v", err)
	}
	if _, err := (&serverLogin{}).ask("", "", make([]Prompt, maxPrompts+1)); err == nil {
		t.Error("33 prompts at once")
	}
}

// Stock ssh does both steps, one after the other, and says what is missing where nobody may be asked.
func TestOpenSSHDoesBothSteps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id")
	findOpenSSH(t, "ssh")
	own := writeKey(t, path)
	askpass := filepath.Join(t.TempDir(), "askpass")
	server := twoSteps()
	inner := server.Auth.PublicKey
	server.Auth.PublicKey = func(m Meta, key ssh.PublicKey, proven bool) error {
		if !sameKey(key, own.PublicKey()) {
			return errUnknownKey
		}
		return inner(m, testKeys().user.PublicKey(), proven)
	}
	port := listen(t, server)
	for code, works := range map[string]bool{"1234": true, "4321": false} {
		if err := os.WriteFile(askpass, []byte("#!/bin/sh\necho "+code+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("SSH_ASKPASS", askpass)
		t.Setenv("SSH_ASKPASS_REQUIRE", "force")
		_, log, err := opensshClient(t, port, path, nil, "-o", "BatchMode=no", "ann@127.0.0.1", "true")
		if (err == nil) != works {
			t.Errorf("with code %s: %v\n%s", code, err, log)
		}
	}
	_, log, err := opensshClient(t, port, path, nil, "ann@127.0.0.1", "true")
	if err == nil || !strings.Contains(log, "Permission denied (keyboard-interactive)") {
		t.Errorf("in batch mode: %v\n%s", err, log)
	}
}

// script is a connection that says what it is given and takes everything.
type script struct {
	sink
	said io.Reader
}

func (s script) Read(p []byte) (int, error) { return s.said.Read(p) }

// FuzzKeyboardInteractive feeds a server's second step any packets, each behind a byte of length. None of them gets in
// without the code, or makes the server ask without end.
func FuzzKeyboardInteractive(f *testing.F) {
	l := &clientLogin{c: &Conn{}, cfg: testClient()}
	keyboard := appendString(appendString(l.request("keyboard-interactive"), ""), "")
	frames := func(packets ...[]byte) (out []byte) {
		for _, p := range packets {
			out = append(append(out, byte(len(p))), p...)
		}
		return out
	}
	f.Add(frames(keyboard, infoAnswers("0")))
	f.Add(frames(keyboard, keyboard, infoAnswers()))
	f.Add(frames(infoAnswers("12", "34"), keyboard))
	f.Add(frames(keyboard, []byte{MsgIgnore, 0, 0, 0, 0}, infoAnswers("12345")))
	f.Fuzz(func(t *testing.T, said []byte) {
		var wire bytes.Buffer
		w, _ := ends(t, keys{}, nil)
		code := false
		for len(said) > 0 {
			n := min(int(said[0])+1, len(said))
			if p := said[1:n]; len(p) > 0 {
				code = code || bytes.Contains(p, []byte("1234"))
				w.seal(p, 0)
			}
			said = said[n:]
		}
		if w.pending != nil {
			wire.Write(*w.pending)
		}
		c := newConn(script{said: &wire}, must(Config{}.withDefaults()), true)
		c.kex.rounds, c.kex.sessionID = 1, []byte("id")
		var next *PartialSuccess
		server := twoSteps()
		if err := server.Auth.PublicKey(nil, testKeys().user.PublicKey(), true); !errors.As(err, &next) {
			t.Fatal(err)
		}
		login := &serverLogin{c: c, cfg: server, auth: next.Next}
		for range 1000 {
			p, err := login.next()
			if err != nil {
				return
			}
			method, fields, err := login.request(p)
			if err != nil {
				return
			}
			r, err := login.try(method, p, fields)
			if r == accepted && !code {
				t.Fatal("let in without the code")
			}
			if err != nil || r == accepted {
				return
			}
		}
		t.Fatal("more requests than were sent")
	})
}
