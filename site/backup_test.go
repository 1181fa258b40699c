package site

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// A backup that is taken while the site and the sites that it hears decide, is
// a site again: it opens, its views are those that its logs say, and none of
// its positions is used twice.
func TestABackupOfABusySiteIsASite(t *testing.T) {
	here, there := testConfig(t), testConfig(t)
	a, b := open(t, here), open(t, there)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	busy.Go(func() { _ = a.deliverOthers(ctx) })
	busy.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			addUser(t, b, "b"+uuid.NewString())
			carry(t, b, a)
			addUser(t, a, "a"+uuid.NewString())
		}
	})
	var backups []bytes.Buffer
	for range 5 {
		var out bytes.Buffer
		if err := a.Backup(t.Context(), &out, uuid.New(), key.Recipient()); err != nil {
			t.Fatal(err)
		}
		backups = append(backups, out)
	}
	stop()
	busy.Wait()
	siteKey, err := os.ReadFile(a.data.siteKey())
	if err != nil {
		t.Fatal(err)
	}
	epoch := a.ctl.Log().Origin().Epoch
	for _, s := range []*Site{a, b} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range backups {
		c := here
		c.Site.Data = filepath.Join(t.TempDir(), "restored")
		got, err := Restore(t.Context(), &backups[i], c.Site.Data, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.Site.Data, "keys", "site.key"), siteKey, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, c)
		if s.ctl.Log().Origin().Epoch <= epoch+1 || s.sealer.Sealed() {
			t.Errorf("epoch %d after %d, sealed %t", s.ctl.Log().Origin().Epoch, epoch, s.sealer.Sealed())
		}
		settled(t, s)
		clock := s.commands
		for _, l := range got.Logs {
			if at, _ := clock.Applied(l.Origin); l.Origin.Kind == events.Ctl && at != l.Records {
				t.Errorf("of %s %d records of %d took effect", l.Origin, at, l.Records)
			}
		}
		for _, log := range append(s.OtherLogs(), s.ctl.Log()) { // its own of before among the others
			size, _ := log.Size()
			if err := s.views.WaitFor(t.Context(), log.Origin(), size); err != nil {
				t.Fatal(err)
			}
		}
		if reports, err := s.VerifyLogs(t.Context()); err != nil || reports[0].Err() != nil || reports[1].Err() != nil {
			t.Errorf("verify: %v, %v, %v", err, reports[0].Err(), reports[1].Err())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
