package targetkind_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
)

func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestValues(t *testing.T) {
	cert := certificate(t)
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	for _, c := range []struct {
		kind        events.TargetKind
		name, value string
		ok          bool
	}{
		{events.Postgres, "ca", cert + cert, true},
		{events.Postgres, "ca", cert + key, false},
		{events.Postgres, "ca", cert + "trailing", false},
		{events.Postgres, "ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", false},
		{events.Postgres, "ca", strings.Repeat(cert, 200), false},
		{events.Postgres, "database", "my db", true},
		{events.Postgres, "database", "my\x00db", false},
		{events.Postgres, "database", strings.Repeat("x", 513), false},
		{events.LDAP, "user-dn", "uid={account},ou=x", true},
		{events.LDAP, "user-dn", "uid=all,ou=x", false},
		{events.LDAP, "user-dn", "uid={account},ou={account}", false},
		{events.LDAP, "attribute", "sAMAccountName", true},
		{events.LDAP, "attribute", "uid)(cn=*", false},
		{events.LDAP, "directory", "ad", true},
		{events.LDAP, "directory", "nis", false},
		{events.MySQL, "tls", "REQUIRE", false},
		{events.MySQL, "host", "%", false}, // of an account, not of the target
	} {
		if err := targetkind.Check(c.kind, map[string]string{c.name: c.value}); (err == nil) != c.ok {
			t.Errorf("%s %s=%.40q: %v", c.kind, c.name, c.value, err)
		}
	}
	for value, ok := range map[string]bool{".ssh/keys": true, "/etc/ssh/keys/app": true, "../x": false, "/a/../b": false, "-x": false, "x/": false, "a\nb": false} {
		if err := targetkind.CheckAccount(events.SSH, events.PrivateKey, map[string]string{"authorized-keys": value}); (err == nil) != ok {
			t.Errorf("authorized-keys=%q: %v", value, err)
		}
	}
}

func TestEffective(t *testing.T) {
	own := []events.Param{{Name: "dn", Value: "cn=admin"}}
	for addr, want := range map[string]string{"dir:389": "yes", "[::1]:3268": "yes", "dir:636": "no", "dir:1389": "no"} {
		got := targetkind.Effective(events.LDAP, addr, []events.Param{{Name: "attribute", Value: "cn"}}, own)
		if got["starttls"] != want || got["tls"] != "verify" || got["attribute"] != "cn" || got["dn"] != "cn=admin" || got["directory"] != "ldap" {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if got := targetkind.Effective(events.Postgres, "db:1", nil, nil); got["database"] != "postgres" || got["tls"] != "verify" {
		t.Errorf("postgres: %v", got)
	}
}
