package gateway

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/destination"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/relay"
)

// userCert makes a good certificate for bob, changed by change before it is signed.
func userCert(t testing.TB, ca ssh.Signer, key ssh.PublicKey, change func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	now := time.Now()
	c := &ssh.Certificate{
		Key: key, Serial: 7, CertType: ssh.UserCert, KeyId: "bob's laptop", ValidPrincipals: []string{"staff", "bob"},
		ValidAfter: uint64(now.Add(-time.Minute).Unix()), ValidBefore: uint64(now.Add(time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": ""}},
	}
	if change != nil {
		change(c)
	}
	must(t, c.SignCert(rand.Reader, ca))
	return c
}

func freshKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	return signer
}

// Each way in which a certificate can lie, and what is said to it.
func TestAttackCertificates(t *testing.T) {
	s := newSite(t)
	bob := s.addUser("bob", events.Operator)
	s.addUser("carol", events.Operator)
	gone := s.addUser("gone", events.Admin)
	s.asAdmin(commands.DisableUser{User: "gone"})
	ca, other, removed, key := freshKey(t), freshKey(t), freshKey(t), freshKey(t)
	rsaCA, rsaKey := rsaSigner(t, 2048), rsaSigner(t, 1024)
	s.asAdmin(commands.TrustCA{Name: "corp", Key: authorizedKey(ca.PublicKey())})
	s.asAdmin(commands.TrustCA{Name: "old", Key: authorizedKey(rsaCA.PublicKey())})
	s.asAdmin(commands.TrustCA{Name: "removed", Key: authorizedKey(removed.PublicKey())})
	s.asAdmin(commands.DistrustCA{CA: "removed"})
	revoked := freshKey(t)
	s.asAdmin(commands.RevokeCertificate{CA: "corp", Serial: 666})
	s.asAdmin(commands.RevokeCertificate{CA: "corp", KeyID: "stolen"})
	s.asAdmin(commands.RevokeCertificate{CA: "corp", Key: authorizedKey(revoked.PublicKey())})

	unix := func(d time.Duration) uint64 { return uint64(time.Now().Add(d).Unix()) }
	from := &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 4000}
	only := func(list string) func(*ssh.Certificate) {
		return func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": list} }
	}
	for name, tt := range map[string]struct {
		ca, key ssh.Signer
		change  func(*ssh.Certificate)
		after   func(*ssh.Certificate) // after it was signed
		reason  events.DenyReason
		says    string
	}{
		"good":                              {},
		"good for ever":                     {change: func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 0, ssh.CertTimeInfinity }},
		"good source":                       {change: only("198.51.100.0/24,192.0.2.7")},
		"good source prefix":                {change: only("192.0.2.0/24,2001:db8::/32")},
		"unknown extension":                 {change: func(c *ssh.Certificate) { c.Extensions["x@example.com"] = "" }},
		"another authority":                 {ca: other, reason: events.UnknownKey, says: "not known here"},
		"an authority that was removed":     {ca: removed, reason: events.UnknownKey, says: "not known here"},
		"the site's own authority":          {ca: s.server.cfg.CA(), reason: events.UnknownKey, says: "not known here"},
		"the user's own key as authority":   {ca: bob.signer, reason: events.UnknownKey, says: "not known here"},
		"altered after it was signed":       {after: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"carol"} }, reason: events.UnknownKey},
		"extended after it was signed":      {after: func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, reason: events.UnknownKey},
		"signed with SHA-1":                 {ca: rsaCA, after: func(c *ssh.Certificate) { resign(t, c, rsaCA) }, reason: events.UnknownKey},
		"expired":                           {change: func(c *ssh.Certificate) { c.ValidBefore = unix(-time.Second) }, reason: events.BadCertificate, says: "has expired"},
		"not valid yet":                     {change: func(c *ssh.Certificate) { c.ValidAfter = unix(time.Minute) }, reason: events.BadCertificate, says: "not valid yet"},
		"never valid":                       {change: func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 1<<63, 1<<63+1 }, reason: events.UnknownKey},
		"valid until before it began":       {change: func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 10, 0 }, reason: events.UnknownKey},
		"host certificate":                  {change: func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, reason: events.BadCertificate, says: "not a user certificate"},
		"no principals":                     {change: func(c *ssh.Certificate) { c.ValidPrincipals = nil }, reason: events.BadCertificate, says: "for nobody here"},
		"principal of nobody":               {change: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root", "BOB", "bob "} }, reason: events.BadCertificate, says: "for nobody here"},
		"principals of two users":           {change: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob", "carol"} }, reason: events.NameConflict, says: "more than one user"},
		"principal of a disabled user":      {change: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"gone"} }, reason: events.UserIsDisabled, says: "disabled"},
		"revoked by serial":                 {change: func(c *ssh.Certificate) { c.Serial = 666 }, reason: events.BadCertificate, says: "revoked"},
		"revoked by key id":                 {change: func(c *ssh.Certificate) { c.KeyId = "stolen" }, reason: events.BadCertificate, says: "revoked"},
		"revoked by key":                    {key: revoked, reason: events.BadCertificate, says: "revoked"},
		"another source":                    {change: only("198.51.100.0/24"), reason: events.BadCertificate, says: "from your address"},
		"no source":                         {change: only(""), reason: events.BadCertificate, says: "from your address"},
		"source that is no address":         {change: only("192.0.2.0/24,*"), reason: events.BadCertificate, says: "from your address"},
		"forced command":                    {change: func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "id"} }, reason: events.BadCertificate, says: "forces a command"},
		"unknown critical option":           {change: func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"x@example.com": ""} }, reason: events.BadCertificate, says: "x@example.com"},
		"verify-required is not kept to":    {change: func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} }, reason: events.BadCertificate, says: "verify-required"},
		"weak RSA key":                      {key: rsaKey, reason: events.BadCertificate, says: "2048 bits"},
		"escape in the key id is made safe": {change: func(c *ssh.Certificate) { c.KeyId, c.ValidPrincipals = "\x1b[2J", nil }, reason: events.BadCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			by, of := ca, key
			if tt.ca != nil {
				by = tt.ca
			}
			if tt.key != nil {
				of = tt.key
			}
			cert := userCert(t, by, of.PublicKey(), tt.change)
			if tt.after != nil {
				tt.after(cert)
			}
			who, no := s.server.whose(cert, from)
			if tt.reason == "" {
				if no != nil || who.user != bob.id || who.fingerprint != ssh.FingerprintSHA256(of.PublicKey()) {
					t.Fatalf("%+v, %+v", who, no)
				}
				return
			}
			if no == nil || no.reason != tt.reason || !strings.Contains(no.text, tt.says) {
				t.Fatalf("%+v, want %s that says %q", no, tt.reason, tt.says)
			}
			if strings.ContainsRune(no.detail+no.text, 0x1b) {
				t.Errorf("told %q, %q", no.detail, no.text)
			}
			if tt.reason == events.UserIsDisabled && no.user != gone.id {
				t.Errorf("it is laid to %s", no.user)
			}
		})
	}
	s.asAdmin(commands.TrustCA{Name: "again", Key: authorizedKey(removed.PublicKey())})
	if _, no := s.server.whose(userCert(t, removed, key.PublicKey(), nil), from); no != nil {
		t.Errorf("trusted again: %+v", no)
	}
}

// A certificate takes from what the grant allows, and adds nothing.
func TestPermits(t *testing.T) {
	rules, err := destination.Parse("web9:80")
	must(t, err)
	grant := relay.Policy{To: []destination.Rule{rules}, Listen: []destination.Rule{rules}, Agent: true}
	for p, want := range map[permits]relay.Policy{
		allPermits:         grant,
		{}:                 {NoPTY: true},
		{pty: true}:        {},
		{forwarding: true}: {NoPTY: true, To: grant.To, Listen: grant.Listen},
		{agent: true}:      {NoPTY: true, Agent: true},
	} {
		if got := p.limit(grant); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: %+v, want %+v", p, got, want)
		}
	}
	if got := allPermits.limit(relay.Policy{}); !reflect.DeepEqual(got, relay.Policy{}) {
		t.Errorf("a grant of nothing became %+v", got)
	}
}

func rsaSigner(t testing.TB, bits int) ssh.Signer {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0") // a weak key is what this is about
	private, err := rsa.GenerateKey(rand.Reader, bits)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	return signer
}

// resign puts an old signature under a certificate.
func resign(t testing.TB, c *ssh.Certificate, ca ssh.Signer) {
	t.Helper()
	c.Signature = nil
	unsigned := c.Marshal()
	sig, err := ca.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, unsigned[:len(unsigned)-4], ssh.KeyAlgoRSA)
	must(t, err)
	c.Signature = sig
}

// writeCert puts a key and its certificate where OpenSSH finds both.
func (s *site) writeCert(name string, ca ssh.Signer, change func(*ssh.Certificate)) *user {
	s.t.Helper()
	u := &user{key: filepath.Join(s.dir, name)}
	u.signer = newKey(s.t, u.key)
	cert := userCert(s.t, ca, u.signer.PublicKey(), change)
	must(s.t, os.WriteFile(u.key+"-cert.pub", []byte(authorizedKey(cert)+"\n"), 0o600))
	s.users[name] = u
	return u
}

// A certificate opens what its user may open, is named in the session's start, and takes away what it doesn't permit.
func TestCertificateLogin(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	s.asAdmin(commands.AddGrant{User: "bob", Account: d.User, Target: "web1"})
	ca := freshKey(t)
	trusted := s.asAdmin(commands.TrustCA{Name: "corp", Key: authorizedKey(ca.PublicKey())})
	laptop := s.writeCert("laptop", ca, nil)
	as := func(who, login string, args ...string) (string, string, int) {
		all := append(s.options(who), "-p", s.port(), "-l", login)
		return run(t, s.command("ssh", append(append(all, "127.0.0.1"), args...)...))
	}
	if out, errs, exit := as("laptop", d.User+"+web1", "echo in"); exit != 0 || out != "in\n" {
		t.Fatalf("exit %d, %q, %q", exit, out, errs)
	}
	start := eventsOf[events.SessionStarted](t, s.ctl)[0]
	want := events.Certificate{CA: events.CAID{UUID: trusted[0].Header.Stream}, Serial: 7, KeyID: "bob's laptop"}
	if start.User != bob.id || start.Certificate != want || start.Fingerprint != ssh.FingerprintSHA256(laptop.signer.PublicKey()) {
		t.Errorf("started %+v", start)
	}
	if out, _, exit := as("laptop", "console", "status"); exit != 7 || !strings.Contains(out, "bob (operator)") {
		t.Errorf("console: exit %d, %q", exit, out)
	}
	// the key by itself is nobody's
	must(t, os.Rename(laptop.key+"-cert.pub", laptop.key+"-kept"))
	s.want(s.refused("laptop", d.User+"+web1"), "your key is not known here")
	must(t, os.Rename(laptop.key+"-kept", laptop.key+"-cert.pub"))

	s.writeCert("plain", ca, func(c *ssh.Certificate) { c.Extensions = nil })
	if _, errs, _ := as("plain", d.User+"+web1", "-tt", "tty"); !strings.Contains(errs, "PTY allocation request failed") {
		t.Errorf("a terminal without permit-pty: %q", errs)
	}
	if _, errs, _ := as("plain", "console", "-tt", "status"); !strings.Contains(errs, "PTY allocation request failed") {
		t.Errorf("a terminal at the console without permit-pty: %q", errs)
	}
}

// What a certificate opened ends when it is revoked or its authority removed, the jump's session too.
func TestRevocationEndsSessions(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	s.addUser("bob", events.Operator)
	s.asAdmin(commands.AddGrant{User: "bob", Account: d.User, Target: "web1"})
	ca := freshKey(t)
	s.asAdmin(commands.TrustCA{Name: "corp", Key: authorizedKey(ca.PublicKey())})
	s.writeCert("laptop", ca, nil)
	startSleep(t, s, d.User)
	s.asAdmin(commands.RevokeCertificate{CA: "corp", Serial: 8}) // another one
	if got := len(s.server.Live()); got != 1 {
		t.Fatalf("%d sessions live", got)
	}
	s.asAdmin(commands.RevokeCertificate{CA: "corp", Serial: 7})
	if end := s.ended(1); end.Reason != events.EndedByPolicy {
		t.Errorf("ended %+v", end)
	}
	s.writeCert("laptop", ca, func(c *ssh.Certificate) { c.Serial = 9 })
	startSleep(t, s, d.User)
	s.asAdmin(commands.DistrustCA{CA: "corp"})
	if end := s.ended(2); end.Reason != events.EndedByPolicy {
		t.Errorf("ended %+v", end)
	}
}

// startSleep starts a session of the laptop's by a jump, and waits until it runs.
func startSleep(t *testing.T, s *site, account string) {
	t.Helper()
	outer := strings.Join(append(append([]string{"ssh"}, s.options("laptop")...), "-p", s.port(), "-l", "bob", "-W", "%h:%p", "127.0.0.1"), " ")
	c := s.command("ssh", append(s.options("laptop"), "-o", "ProxyCommand="+outer, fmt.Sprintf("%s@web1", account), "sleep 60")...)
	must(t, c.Start())
	t.Cleanup(func() { _ = c.Wait() })
	waitFor(t, func() bool { l := s.server.Live(); return len(l) == 1 && l[0].Connected })
}
