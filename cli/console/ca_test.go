package console

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Everybody gets the site's authority for the targets that they may reach, and for no name besides.
func TestTheAuthorityIsForOnesOwnTargets(t *testing.T) {
	w := newWorld(t)
	if r := w.run(w.operator, "ca export", ""); r.exit != NotFound || !strings.Contains(r.err, "no target here") {
		t.Errorf("exit %d, %s%s", r.exit, r.out, r.err)
	}
	w.furnish()
	for _, tt := range []struct {
		who   Person
		hosts string
	}{{w.operator, "web1"}, {w.admin, "db1,web1"}} {
		r := w.run(tt.who, "ca export", "")
		marker, hosts, key, _, rest, err := ssh.ParseKnownHosts([]byte(r.out))
		if err != nil || marker != "cert-authority" || strings.Join(hosts, ",") != tt.hosts || len(rest) != 0 {
			t.Fatalf("%q: %v", r.out, err)
		}
		var a struct{ Item authority }
		if err := json.Unmarshal([]byte(w.run(tt.who, "ca show --json", "").out), &a); err != nil {
			t.Fatal(err)
		}
		if a.Item.Fingerprint != ssh.FingerprintSHA256(key) || !slices.Equal(a.Item.Hosts, hosts) || a.Item.HostKey != w.site.HostKey() {
			t.Errorf("ca show gives %+v", a.Item)
		}
	}
}

func TestRevocationsAreShown(t *testing.T) {
	w := newWorld(t)
	w.must("user-ca add corp --key '"+keyText("corp")+" vault'", "user-ca revoke corp --serial 18446744073709551615",
		"user-ca revoke corp --key-id 'lap top'", "user-ca revoke corp --key '"+ssh.FingerprintSHA256(publicKey("x"))+"'")
	out := w.run(w.auditor, "user-ca show corp", "").out
	for _, want := range []string{"serial 18446744073709551615", "key id lap top", "key SHA256:", "vault", "trusted"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, line := range []string{"user-ca ls", "user-ca show corp", "user-ca rm corp", "user-ca add x --key y", "user-ca revoke corp --serial 1"} {
		if r := w.run(w.operator, line, ""); r.exit != Denied {
			t.Errorf("an operator's %s: exit %d", line, r.exit)
		}
	}
}
