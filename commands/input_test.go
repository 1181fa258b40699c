package commands_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
)

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "A9", "web-1.example_net", strings.Repeat("x", 63)} {
		if err := commands.CheckName("user", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", ".", "-rf", "_x", "a+b", "a@b", "a:b", "a b", "a/b", "a\n", "\na", "a\x00", "é", "a\u202e", strings.Repeat("x", 64),
		"0190b6a0-0000-7000-8000-000000000000", // looks like an id
	} {
		err := commands.CheckName("user", bad)
		if err == nil || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"h:22", "web1.example.net:2222", "192.0.2.1:22", "[2001:db8::1]:65535", "[fe80::1%eth0]:22", "my_host:1", "h.:22"} {
		if err := commands.CheckAddr(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "h", "h:", ":22", "h:0", "h:65536", "h:022", "h:+22", "h:ssh", "2001:db8::1:22", "[h]:22", "[192.0.2.1]:22",
		"h h:22", "h\n:22", "-oProxyCommand=x:22", "h..x:22", "user@h:22", "h/x:22", strings.Repeat("x", 254) + ":22", "h:22:22", "[::1]22",
	} {
		if err := commands.CheckAddr(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

// line is the authorized_keys form of a public key.
func line(t *testing.T, public any) string {
	t.Helper()
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(k))
}

func rsaLine(t *testing.T, bits int) string {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return line(t, &k.PublicKey)
}

func TestKeysThatAreTaken(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{key("x"), line(t, &ec.PublicKey), rsaLine(t, 2048), key("x") + "\r\n"} {
		got, fingerprint, _, err := commands.ParseUserKey(text)
		if err != nil || got != strings.TrimSpace(text) || !strings.HasPrefix(fingerprint, "SHA256:") {
			t.Errorf("%.30q: %q %v", text, got, err)
		}
	}
}

func TestKeysThatAreNotTaken(t *testing.T) {
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key("x")))
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: public, CertType: ssh.UserCert, SignatureKey: public, Signature: &ssh.Signature{Format: "ssh-ed25519", Blob: make([]byte, 64)}}
	for text, says := range map[string]string{
		"":                                     "empty",
		"ssh-ed25519":                          "not a public key",
		"ssh-ed25519 AAAA":                     "not a public key",
		key("x") + "\n" + key("y"):             "more than one line",
		"junk\n" + key("x"):                    "more than one line",
		`command="x" ` + key("x"):              "options",
		string(ssh.MarshalAuthorizedKey(cert)): "certificate",
		"ssh-dss AAAAB3NzaC1kc3MAAACB":         "DSA",
		rsaLine(t, 1024):                       "2048",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END": "private key",
		"ssh-ed25519 " + strings.Repeat("A", 20000):              "limit",
	} {
		_, _, _, err := commands.ParseUserKey(text)
		var r *commands.Refusal
		if !errors.As(err, &r) || r.Code != commands.Invalid || r.Hint == "" || !strings.Contains(r.Message, says) || strings.Contains(r.Error(), "hunter2") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func FuzzUserKey(f *testing.F) {
	f.Add(key("x") + " a comment")
	f.Add(`from="x" ` + key("x"))
	f.Add("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAA==")
	f.Fuzz(func(t *testing.T, text string) {
		stored, fingerprint, comment, err := commands.ParseUserKey(text)
		if err != nil {
			if msg := err.Error(); len(msg) > 1000 || strings.ContainsFunc(msg, unicode.IsControl) {
				t.Errorf("message %q", msg)
			}
			return
		}
		if strings.ContainsFunc(comment, unicode.IsControl) || len(comment) > 512 || !utf8.ValidString(comment) {
			t.Errorf("comment %q", comment)
		}
		again, fingerprint2, _, err := commands.ParseUserKey(stored)
		if err != nil || again != stored || fingerprint2 != fingerprint {
			t.Errorf("%q does not parse to itself: %q %v", stored, again, err)
		}
	})
}

func FuzzTextFromOutside(f *testing.F) {
	f.Add("h:22", 4)
	f.Add("aé\xff\x00漢", 3)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || n > 600 {
			return
		}
		got := commands.Bounded(s, n)
		if len(got) > n || !utf8.ValidString(got) || (utf8.ValidString(s) && len(s) <= n && got != s) {
			t.Errorf("%q bounded to %d is %q", s, n, got)
		}
		if err := commands.CheckAddr(s); err == nil && (strings.ContainsFunc(s, unicode.IsControl) || strings.HasPrefix(s, "-")) {
			t.Errorf("address %q passed", s)
		}
		if err := commands.CheckName("x", s); err == nil && strings.ContainsAny(s, "+@: \n") {
			t.Errorf("name %q passed", s)
		}
	})
}
