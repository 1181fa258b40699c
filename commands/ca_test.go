package commands_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

func trust(w *world) { w.do("ada", commands.TrustCA{Name: "corp", Key: key("corp")}) }

func TestTheSitesOwnAuthority(t *testing.T) {
	made := func(w *world) { w.do("site", commands.CreateCA{Key: key("site ca")}) }
	runAll(t, []scenario{
		{name: "made", by: "site", when: always(commands.CreateCA{Key: key("site ca")}), then: []string{"ca.created"}},
		{name: "a second one", given: made, by: "site", when: always(commands.CreateCA{Key: key("other")}), code: commands.Conflict, says: "has a certificate authority"},
		{name: "no key", by: "site", when: always(commands.CreateCA{Key: "none"}), code: commands.Invalid, says: "not a public key"},
		{name: "it vouches for no users", given: made, by: "ada", when: always(commands.TrustCA{Name: "corp", Key: key("site ca")}), code: commands.Conflict, says: "key of a site"},
	})
}

func TestTrustCA(t *testing.T) {
	gone := func(w *world) { trust(w); w.do("ada", commands.DistrustCA{CA: "corp", Reason: "replaced"}) }
	runAll(t, []scenario{
		{name: "an authority", by: "ada", when: always(commands.TrustCA{Name: "corp", Key: key("corp")}), then: []string{"ca.trusted"}},
		{name: "name taken", given: trust, by: "ada", when: always(commands.TrustCA{Name: "corp", Key: key("x")}), code: commands.Conflict, says: "user-ca corp exists"},
		{name: "key taken", given: trust, by: "ada", when: always(commands.TrustCA{Name: "x", Key: key("corp")}), code: commands.Conflict, says: "user-ca corp has this key"},
		{name: "host key of the site", by: "ada", when: always(commands.TrustCA{Name: "x", Key: key("host")}), code: commands.Conflict, says: "key of a site"},
		{name: "bad name", by: "ada", when: always(commands.TrustCA{Name: "*", Key: key("x")}), code: commands.Invalid, says: "not a valid user-ca name"},
		{name: "a certificate", by: "ada", when: always(commands.TrustCA{Name: "x", Key: certificate(t)}), code: commands.Invalid, says: "this is a certificate"},
		{name: "removed", given: trust, by: "ada", when: always(commands.DistrustCA{CA: "corp"}), then: []string{"ca.distrusted"}},
		{name: "removed twice", given: gone, by: "ada", when: always(commands.DistrustCA{CA: "corp"}), code: commands.NotFound, says: "user-ca ls"},
		{name: "again after a removal", given: gone, by: "ada", when: always(commands.TrustCA{Name: "corp", Key: key("corp")}), then: []string{"ca.trusted"}},
		{
			name: "removed one by id", given: gone, by: "ada", code: commands.Conflict, says: "is removed",
			when: func(w *world) commands.Command { return commands.DistrustCA{CA: w.state.CAs()[0].ID.String()} },
		},
	})
}

func certificate(t *testing.T) string {
	t.Helper()
	seed := sha256.Sum256([]byte("corp"))
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key("olaf")))
	if err != nil {
		t.Fatal(err)
	}
	c := &ssh.Certificate{Key: public, CertType: ssh.UserCert}
	if err := c.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(c)))
}

func TestRevokeCertificate(t *testing.T) {
	revoke := func(r commands.RevokeCertificate) func(*world) commands.Command {
		r.CA = "corp"
		return always(r)
	}
	wrote := []string{"ca.certificate_revoked"}
	runAll(t, []scenario{
		{name: "by serial", given: trust, by: "ada", when: revoke(commands.RevokeCertificate{Serial: 1 << 63}), then: wrote},
		{name: "by key id", given: trust, by: "ada", when: revoke(commands.RevokeCertificate{KeyID: "laptop", Reason: "lost"}), then: wrote},
		{name: "by key", given: trust, by: "ada", when: revoke(commands.RevokeCertificate{Key: key("olaf")}), then: wrote},
		{name: "by fingerprint", given: trust, by: "ada", when: revoke(commands.RevokeCertificate{Key: fingerprint("olaf")}), then: wrote},
		{name: "by the certificate itself", given: trust, by: "ada", when: revoke(commands.RevokeCertificate{Key: certificate(t)}), then: wrote},
		{name: "by nothing", given: trust, by: "ada", when: revoke(commands.RevokeCertificate{}), code: commands.Invalid, says: "not one thing but 0"},
		{name: "by two things", given: trust, by: "ada", when: revoke(commands.RevokeCertificate{Serial: 1, KeyID: "x"}), code: commands.Invalid, says: "not one thing but 2"},
		{name: "by what is no key", given: trust, by: "ada", when: revoke(commands.RevokeCertificate{Key: "SHA256:short"}), code: commands.Invalid, says: "neither"},
		{name: "unknown authority", by: "ada", when: revoke(commands.RevokeCertificate{Serial: 1}), code: commands.NotFound, says: "no user-ca"},
		{
			name: "what is revoked", by: "ada", code: commands.Conflict, says: "has revoked it",
			given: func(w *world) {
				trust(w)
				w.do("ada", commands.RevokeCertificate{CA: "corp", Key: certificate(t), Reason: "lost"})
			},
			when: revoke(commands.RevokeCertificate{Key: fingerprint("olaf"), Reason: "stolen"}),
		},
	})
}

// StartSession asks again what the gateway saw at the handshake, for each thing that may have changed since.
func TestAttackStartSessionWithACertificate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(w *world, c *commands.StartSession)
		why    events.DenyReason
		says   string
	}{
		"good": {},
		"ran out since": {func(w *world, _ *commands.StartSession) { w.now = w.now.Add(2 * time.Hour) }, events.BadCertificate,
			"your certificate has expired; get a new one"},
		"clock set back": {func(w *world, _ *commands.StartSession) { w.now = w.now.Add(-time.Hour) }, events.BadCertificate, "not valid yet"},
		"revoked since": {func(w *world, _ *commands.StartSession) {
			w.do("ada", commands.RevokeCertificate{CA: "corp", Serial: 7})
		}, events.BadCertificate,
			"is revoked"},
		"authority removed since": {func(w *world, _ *commands.StartSession) { w.do("ada", commands.DistrustCA{CA: "corp"}) }, events.UnknownKey, "not known here"},
		"user disabled since":     {func(w *world, _ *commands.StartSession) { w.do("ada", commands.DisableUser{User: "olaf"}) }, events.UserIsDisabled, "disabled"},
		"another user":            {func(w *world, c *commands.StartSession) { c.Certificate.Principals = []string{"aud"} }, events.UnknownKey, "not known here"},
		"nobody":                  {func(w *world, c *commands.StartSession) { c.Certificate.Principals = []string{"root"} }, events.BadCertificate, "for nobody here"},
		"certificate of another key": {func(w *world, c *commands.StartSession) { c.Certificate.Key = fingerprint("ada") }, events.UnknownKey,
			"not known here"},
		"the key without its certificate": {func(w *world, c *commands.StartSession) { c.Certificate = nil }, events.UnknownKey, "not known here"},
		"another authority":               {func(w *world, c *commands.StartSession) { c.Certificate.Authority = fingerprint("eve") }, events.UnknownKey, "not known here"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			trust(w)
			w.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
			c := w.start("olaf", "root", "web1")
			c.Fingerprint, c.Jump = fingerprint("laptop"), "web1"
			c.Certificate = &aggregate.Certificate{
				Authority: fingerprint("corp"), Key: fingerprint("laptop"), Serial: 7, KeyID: "olaf's laptop",
				Principals: []string{"olaf"}, After: w.now.Add(-time.Minute), Before: w.now.Add(time.Hour),
			}
			if tt.change != nil {
				tt.change(w, &c)
			}
			before := len(w.site.Records)
			_, err := w.d.StartSession(t.Context(), events.UserActor(c.User), c)
			if tt.why != "" {
				scenario{code: commands.Denied, why: tt.why, says: tt.says}.checkRefusal(t, err, w.site.Records[before:])
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := last[events.SessionStarted](t, w)
			want := events.Certificate{CA: w.state.CAs()[0].ID, Serial: 7, KeyID: "olaf's laptop"}
			if got.Certificate != want || got.Jump != "web1" || got.Login != "root+web1" {
				t.Errorf("started %+v", got)
			}
		})
	}
}
