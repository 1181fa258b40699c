package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// outer logs in at the console with x/crypto's client.
func (s *site) outer(who string) *ssh.Client {
	s.t.Helper()
	c, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
		User: who, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a test's own server
		Auth: []ssh.AuthMethod{ssh.PublicKeys(s.users[who].signer)},
	})
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// inner jumps to a target over an outer connection, and believes the site's authority alone.
func (s *site) inner(outer *ssh.Client, account, target string) (*ssh.Client, error) {
	nc, err := outer.Dial("tcp", target+":22")
	if err != nil {
		return nil, err
	}
	check := &ssh.CertChecker{IsHostAuthority: func(key ssh.PublicKey, _ string) bool {
		return bytes.Equal(key.Marshal(), s.server.cfg.CA().PublicKey().Marshal())
	}}
	conn, channels, requests, err := ssh.NewClientConn(nc, target+":22", &ssh.ClientConfig{
		User: account, HostKeyCallback: check.CheckHostKey, HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01},
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	return ssh.NewClient(conn, channels, requests), nil
}

// Several sessions run over one outer connection, each with the identity of its login, and each ends by itself.
func TestJumps(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	outer := s.outer("ada")
	for i := range 3 {
		c, err := s.inner(outer, d.User, "web1")
		must(t, err)
		session, err := c.NewSession()
		must(t, err)
		out, err := session.Output(fmt.Sprintf("echo %d", i))
		if err != nil || string(out) != fmt.Sprintf("%d\n", i) {
			t.Errorf("jump %d: %q, %v", i, out, err)
		}
		if i == 1 {
			defer c.Close() // while the others come and go
			continue
		}
		must(t, c.Close())
	}
	waitFor(t, func() bool { return len(eventsOf[events.SessionEnded](t, s.ctl)) == 2 })
	for _, e := range eventsOf[events.SessionStarted](t, s.ctl) {
		if e.User != s.admin || e.Jump != "web1" || e.Login != "ada" || e.Source != outer.LocalAddr().String() ||
			e.Fingerprint != ssh.FingerprintSHA256(s.users["ada"].signer.PublicKey()) {
			t.Errorf("started %+v", e)
		}
	}
	outer.Close()
	if end := s.ended(3); end.Reason != events.EndedByClient || !end.Complete {
		t.Errorf("with the outer connection it ended %+v", end)
	}
}

// A client that is slow at the end of a jump is given up as one at the door is.
func TestJumpLoginGrace(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Limits.LoginGrace = 300 * time.Millisecond })
	s.sshd()
	nc, err := s.outer("ada").Dial("tcp", "web1:22")
	must(t, err)
	if _, err := io.Copy(io.Discard, nc); err != nil {
		t.Error(err)
	}
}

// The certificate says one name, for a short time, and the site's authority stands behind it.
func TestHostCertificate(t *testing.T) {
	s := newSite(t)
	now := time.Now()
	signers, err := s.server.hostCertificate("Web1", now)
	must(t, err)
	cert, ok := signers[0].PublicKey().(*ssh.Certificate)
	if !ok || cert.CertType != ssh.HostCert || !bytes.Equal(cert.Key.Marshal(), s.server.cfg.HostKeys[0].PublicKey().Marshal()) {
		t.Fatalf("%+v", signers[0].PublicKey())
	}
	if got := fmt.Sprint(cert.ValidPrincipals); got != "[Web1 web1]" {
		t.Errorf("for %s", got)
	}
	for _, tt := range []struct {
		name string
		at   time.Time
		good bool
	}{
		{"web1", now, true}, {"web1", now.Add(-4 * time.Minute), true}, {"web1", now.Add(-6 * time.Minute), false},
		{"web1", now.Add(time.Hour - time.Second), true}, {"web1", now.Add(time.Hour + time.Second), false},
		{"web2", now, false}, {"*", now, false}, {"", now, false},
	} {
		check := &ssh.CertChecker{Clock: func() time.Time { return tt.at }}
		if err := check.CheckCert(tt.name, cert); (err == nil) != tt.good {
			t.Errorf("%q at %s: %v", tt.name, tt.at, err)
		}
	}
	if !bytes.Equal(cert.SignatureKey.Marshal(), s.server.cfg.CA().PublicKey().Marshal()) {
		t.Error("somebody else signed it")
	}
	again, err := s.server.hostCertificate("Web1", now)
	must(t, err)
	if again[0].PublicKey().(*ssh.Certificate).Serial == cert.Serial {
		t.Error("two certificates of one serial number")
	}
}

func TestJumpTarget(t *testing.T) {
	s := newSite(t)
	key := authorizedKey(newKey(t, filepath.Join(s.dir, "unused")).PublicKey())
	bob := s.addUser("bob", events.Operator).id
	for _, name := range []string{"web1", "Web2", "db", "DB"} {
		s.addTarget(name, "127.0.0.1:2222", key, "root", events.Password, []byte("s3cret"))
	}
	if got, no := s.server.jumpTarget(&identity{user: bob}, "WEB1", 22); got != "web1" {
		t.Errorf("a target whose account may be asked for: %q, %+v", got, no)
	}
	s.asAdmin(commands.AddPolicy{Name: "closed", Account: "root", Target: "web1", MaxTime: time.Minute, MaxUses: 1, DecideIn: time.Minute})
	for _, tt := range []struct {
		user events.UserID
		host string
		port uint32
		want string // target, or the reason for the log
	}{
		{s.admin, "web1", 22, "web1"}, {s.admin, "web1", 2222, "web1"}, {s.admin, "WEB1", 22, "web1"},
		{s.admin, "web2", 22, "Web2"}, {s.admin, "db", 22, "db"}, {s.admin, "DB", 22, "DB"},
		{s.admin, "web1", 80, "verb not allowed"}, {s.admin, "web1", 0, "verb not allowed"}, {s.admin, "web1", 65536 + 22, "verb not allowed"},
		{s.admin, "127.0.0.1", 2222, "unknown target"}, {s.admin, "localhost", 22, "unknown target"}, {s.admin, "", 22, "unknown target"},
		{s.admin, "web1.", 22, "unknown target"}, {s.admin, "root+web1", 22, "unknown target"}, {s.admin, "web1\n", 22, "unknown target"},
		{bob, "web1", 22, "no grant"}, {bob, "web1", 80, "no grant"}, {bob, "web9", 22, "unknown target"},
	} {
		got, no := s.server.jumpTarget(&identity{user: tt.user}, tt.host, tt.port)
		if no != nil {
			got = string(no.reason)
			if strings.ContainsAny(no.text+no.detail, "\n\x1b") || tt.user == bob && !strings.HasPrefix(no.text, "no grant for "+tt.host+";") {
				t.Errorf("%q port %d: %+v", tt.host, tt.port, no)
			}
		}
		if got != tt.want {
			t.Errorf("%q port %d leads to %q, want %q", tt.host, tt.port, got, tt.want)
		}
	}
	s.asAdmin(commands.RemoveTarget{Target: "web1"})
	if got, no := s.server.jumpTarget(&identity{user: s.admin}, "web1", 22); no == nil {
		t.Errorf("a removed target: %q", got)
	}
}

// A client that tries thousands of ways gets answers, and makes a bounded number of events.
func TestAttackManyRefusedJumps(t *testing.T) {
	s := newSite(t)
	outer := s.outer("ada")
	for range refusedJumps + 50 {
		_, err := outer.Dial("tcp", "10.0.0.1:443")
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || refused.Reason != ssh.Prohibited || !strings.Contains(refused.Message, "no grant for 10.0.0.1") {
			t.Fatal(err)
		}
	}
	all := eventsOf[events.AccessDenied](t, s.ctl)
	if len(all) != refusedJumps || !strings.Contains(all[len(all)-1].Detail, "not recorded") || all[0].Detail != "jump to 10.0.0.1:443" || all[0].User != s.admin {
		t.Errorf("%d events, the last %+v", len(all), all[len(all)-1])
	}
}

// At the end of a jump nobody becomes somebody else by showing another key.
func TestAttackKeysAfterAJump(t *testing.T) {
	s := newSite(t)
	bob := s.addUser("bob", events.Operator)
	l := &login{server: s.server, claimed: &identity{user: bob.id}, jump: "web1", jumpTo: "web1"}
	from := fakeMeta{user: "root", from: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
	for name, key := range map[string]ssh.PublicKey{
		"another user's": s.users["ada"].signer.PublicKey(), "unknown": freshKey(t).PublicKey(),
	} {
		if l.innerAuth(t.Context()).PublicKey(from, key, true) == nil || l.identity != nil {
			t.Errorf("%s key is taken", name)
		}
	}
	if err := l.innerAuth(t.Context()).PublicKey(from, bob.signer.PublicKey(), true); err != nil || l.identity.user != bob.id {
		t.Errorf("one's own key: %v", err)
	}
}

// fakeMeta is a login as sshwire shows it.
type fakeMeta struct {
	sshwire.Meta
	user string
	from net.Addr
}

func (m fakeMeta) User() string         { return m.user }
func (m fakeMeta) RemoteAddr() net.Addr { return m.from }
