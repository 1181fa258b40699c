package rotator_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/events"
)

// uncounted wants a login to end before the target saw anything of the secret,
// so that no lock-out budget is charged for it, with an error that says why.
func uncounted(t *testing.T, r rotator.Rotator, job rotator.Job, why string) {
	t.Helper()
	a, err := r.Verify(t.Context(), job, secret("some-Secret-88"))
	if a != rotator.NoAnswer || !errors.Is(err, rotator.ErrNotPresented) || !strings.Contains(err.Error(), why) {
		t.Errorf("%s, %v; want an error that says %q and counts against nothing", a, err, why)
	}
	job.Verb, job.Current = rotator.AsItself, secret("some-Secret-88")
	outcome, err := r.Change(t.Context(), job, secret("some-Secret-89"))
	if outcome != rotator.Refused || !errors.Is(err, rotator.ErrNotPresented) {
		t.Errorf("a change: %s, %v", outcome, err)
	}
}

// answering is a listener that says what answer says to each connection, and
// closes it.
func answering(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer(c)
			_ = c.Close() // the client has its answer
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

// greeting is MariaDB's first packet, of a server without TLS.
const greeting = "\x4a\x00\x00\x00\x0a5.5.5-10.11\x00\x01\x00\x00\x00saltsalt\x00\xff\xf7\x08\x02\x00\xff\x81\x15" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00saltsaltsalt\x00mysql_native_password\x00"

// What goes wrong before the target has seen anything of a secret can't have
// been a wrong login.
func TestBeforeTheSecretNothingCounts(t *testing.T) {
	says := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.ReadAtLeast(c, make([]byte, 4), 4)
			_, _ = io.WriteString(c, text)
		}
	}
	greets := func(text string) func(net.Conn) { return func(c net.Conn) { _, _ = io.WriteString(c, text) } }
	for _, c := range []struct {
		name   string
		kind   events.TargetKind
		params map[string]string
		answer func(net.Conn)
		why    string
	}{
		{"postgres, hangs up", events.Postgres, map[string]string{"tls": "disable"}, says(""), ""},
		{"postgres, hangs up in TLS", events.Postgres, nil, says("S"), ""},
		{"postgres, no TLS", events.Postgres, nil, says("N"), "speaks no TLS"},
		{"mysql, hangs up", events.MySQL, map[string]string{"tls": "disable"}, greets(""), ""},
		{"mysql, hangs up in TLS", events.MySQL, nil, greets("\x4a\x00"), ""},
		{"mysql, no TLS", events.MySQL, nil, greets(greeting), "speaks no TLS"},
		{"ldap, hangs up", events.LDAP, map[string]string{"starttls": "yes", "user-dn": "uid={account},dc=x"}, says(""), ""},
		{"ldap, no TLS", events.LDAP, map[string]string{"starttls": "yes", "user-dn": "uid={account},dc=x"},
			says("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00"), "speaks no TLS"},
		{"ssh, hangs up", events.SSH, nil, greets("SSH-2.0-x\r\n"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := answering(t, c.answer)
			job := rotator.Job{Kind: c.kind, Addr: addr, Account: "app", Params: effective(c.kind, addr, c.params)}
			uncounted(t, rotatorFor(t, c.kind, events.Password), job, c.why)
		})
	}
}
