package site

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway"
)

// The whole disk of a site that is no custodian, with its own keys open, opens no
// secret and no recording of the mesh, although it holds all of their ciphertexts:
// there is no data key on it, for whomever it is wrapped, and nothing in the clear.
// That goes for one that was a custodian only until the first secret was made, too.
func TestAttackDiskOfANonCustodian(t *testing.T) {
	for name, once := range map[string]bool{"never a custodian": false, "a custodian before the first secret": true} {
		t.Run(name, func(t *testing.T) {
			a, b, c := serveMember(t, "a"), serveMember(t, "b"), serveMember(t, "c")
			admin := adminAt(t, a)
			token, _, err := a.Invite(t.Context(), admin, commands.InviteSite{Name: "b", Valid: time.Hour, Role: events.PeerSite, Custodian: once}, a.MeshAddr())
			if err == nil {
				_, err = b.Join(t.Context(), admin, token)
			}
			if err != nil {
				t.Fatal(err)
			}
			c.join(a, admin, events.PeerSite)
			if once {
				k := b.siteKeys()
				a.say(b.ID().UUID, events.SiteAdmitted{
					Name: k.Name, Identity: k.Identity, Addr: k.Addr, SealingKey: k.SealingKey, HostKey: k.HostKey, Role: events.PeerSite,
				})
			}
			for _, m := range []*member{b, c} {
				m.hears(a)
			}

			const password, typed = "correct horse battery staple", "rm -rf /srv/secret-plans"
			sealed, err := vault.Add(t.Context(), a.sealer, events.Password, seal.NewSecret([]byte(password)))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []commands.Command{
				commands.AddTarget{Name: "web1", Addr: "192.0.2.1:22", HostKeys: []string{newPublicKey(t)}},
				commands.AddAccount{Name: "root", Target: "web1", Secret: sealed},
			} {
				if _, err := a.commands.Do(t.Context(), admin, c); err != nil {
					t.Fatal(err)
				}
			}
			session := events.SessionID{UUID: uuid.Must(uuid.NewV7())}
			a.say(session.UUID, events.SessionStarted{User: events.UserID{UUID: admin.ID}})
			key, err := a.sealer.NewKey(t.Context(), session.UUID)
			if err != nil {
				t.Fatal(err)
			}
			defer key.Release()
			a.record(session, key, 0, typed)
			for _, m := range []*member{b, c} {
				m.hears(a)
				m.recorded(a)
			}
			if got, err := c.blocks(session); err != nil || !slices.Equal(got, []string{typed}) { // a custodian opens it
				t.Fatalf("a custodian reads %q, %v", got, err)
			}
			a.share(t.Context(), b.ID(), 0)
			b.share(t.Context(), a.ID(), 0)
			time.Sleep(300 * time.Millisecond)

			thief := copyOf(t, b)
			for id := range thief.KeyIDs() {
				k, err := thief.Key(t.Context(), id)
				if err != nil {
					continue // wrapped for somebody else; looked for below
				}
				if vault.Opens(k, sealed) {
					t.Errorf("data key %s opens the secret", id)
				}
				for e, err := range b.recLog(a.rec.Log().Origin()).Read(t.Context(), 1) {
					r, bad := events.DecodeEntry(e)
					if err != nil || bad != nil {
						t.Fatal(err, bad)
					}
					if _, err := gateway.OpenRecord(r, k); err == nil && r.Header.Type == "session.packets" {
						t.Errorf("data key %s opens the recording", id)
					}
				}
				k.Release()
			}
			absent := map[string][]byte{"the password": []byte(password), "what was typed": []byte(typed)}
			made := []uuid.UUID{sealed.Credential.UUID, session.UUID}
			for _, id := range made {
				for to, m := range map[string]*member{"its maker": a, "a custodian": c} {
					public, err := seal.ParsePublicKey(m.ID().UUID, m.keys.Status().Public)
					if err != nil {
						t.Fatal(err)
					}
					wrap, err := a.sealer.WrapFor(t.Context(), id, public)
					if err != nil {
						t.Fatal(err)
					}
					absent["data key "+id.String()+" wrapped for "+to] = wrap.Sealed
				}
				if slices.Contains(slices.Collect(thief.KeyIDs()), id) {
					t.Errorf("the disk has data key %s", id)
				}
			}
			if found := files(t, b.data.dir, map[string][]byte{"the ciphertext": sealed.Bytes}); !found["the ciphertext"] {
				t.Error("the ciphertext is not there, so this looks for nothing")
			}
			for what := range files(t, b.data.dir, absent) {
				t.Errorf("%s is on the disk", what)
			}
			if found := files(t, c.data.dir, absent); len(found) < len(made) {
				t.Errorf("on a custodian's disk only %v are found", found)
			}
		})
	}
}

// files tells which of some bytes are in any file of a directory.
func files(t *testing.T, dir string, what map[string][]byte) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // the site goes on meanwhile
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for name, wanted := range what {
			if bytes.Contains(b, wanted) {
				found[name] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
