package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/keyring"
)

// thiefOf holds a copy of a site's keys, table and unlocked site key, and tells
// whether anything in it opens a session's recording; named is whether the table still
// names the session.
func (s *meshSite) thiefOf(session string) (opens, named bool) {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "keys")
	run(s.t, "cp", "-a", filepath.Join(s.data(), "keys"), dir)
	id := uuid.MustParse(session)
	table, err := os.ReadFile(filepath.Join(dir, "table"))
	if err != nil {
		s.t.Fatal(err)
	}
	ring, err := keyring.Open(keyring.Config{Dir: dir, Site: uuid.MustParse(s.id()), Provider: keyring.File, KeyFile: filepath.Join(dir, "site.key")})
	if err != nil {
		s.t.Fatal(err)
	}
	defer ring.Close()
	opened, err := ring.Open(s.t.Context(), seal.Secret{})
	if err == nil {
		err = opened.Use(s.t.Context())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := ring.Sealer().Key(s.t.Context(), id)
	if err != nil && !errors.Is(err, seal.ErrNotFound) {
		s.t.Fatal(err)
	}
	if err == nil {
		key.Release()
	}
	return err == nil, bytes.Contains(table, id[:])
}

// forgot wants a site to have nothing left that opens a session's recording or shows
// a text of it.
func (s *meshSite) forgot(session, text string) {
	s.t.Helper()
	if opens, named := s.thiefOf(session); opens || named {
		s.t.Errorf("%s: the stolen disk opens the recording: %t, names its key: %t", s.name, opens, named)
	}
	for _, line := range []string{"session play " + session, "session export " + session, "session files " + session} {
		if out, err := s.try(line, ""); err == nil || strings.Contains(out, text) || !strings.Contains(err.Error(), "exit status 3") ||
			!strings.Contains(err.Error(), "was erased on") || !strings.Contains(err.Error(), "a card number") {
			s.t.Errorf("%s: %s: %q, %v", s.name, line, out, err)
		}
	}
	err := filepath.WalkDir(s.data(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files come and go
		}
		if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, []byte(text)) {
			s.t.Errorf("%s: %s shows it", s.name, path)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// A pair and a third site hold a recording. It is erased while the third one is cut
// off: that one has it until it hears, and then nobody has; not from an old backup
// either. The logs are whole at all times.
func TestARecordingIsErasedAtAllSites(t *testing.T) {
	a, b, account := pairOfSites(t, 100*time.Millisecond)
	c := newMeshSite(t, a.binary, "c", a.admin)
	c.up()
	c.do("mesh join "+a.do("mesh invite c --addr "+a.mesh, ""), "")
	sites := []*meshSite{a, b, c}
	eve, err := lab.NewKey(filepath.Join(t.TempDir(), "eve"))
	if err != nil {
		t.Fatal(err)
	}
	a.do("user add eve --role admin --key '"+eve.Public+"'", "")
	const text = "number 4711 of a card"
	if out, err := a.session(account, "echo "+text); err != nil || !strings.Contains(out, text) {
		t.Fatal(out, err)
	}
	id := a.lastSession()
	if _, err := a.session(account, "echo another one"); err != nil {
		t.Fatal(err)
	}
	kept := a.lastSession()
	for _, s := range sites {
		s.until("session export "+id+" --format raw", text)
		if opens, named := s.thiefOf(id); !opens || !named {
			t.Fatalf("%s: this test would not see that a disk opens it", s.name)
		}
	}
	b.until("user ls", "eve")
	backup := filepath.Join(b.dir, "backup")
	run(t, "sh", "-c", "ssh -F "+b.configured+" gw 'backup create' >"+backup+" 2>/dev/null")
	run(t, "cp", filepath.Join(b.data(), "keys", "site.key"), filepath.Join(b.dir, "site.key"))

	c.crash()
	a.do("session erase "+id+" --reason 'a card number'", "")
	b.until("session erasures", " asked ")
	if out, err := b.try("session erase "+id+" --confirm", ""); err == nil {
		t.Fatalf("one person has erased it, at two sites: %s", out)
	}
	if out, err := b.as(eve.File, "session erase "+id+" --confirm"); err != nil {
		t.Fatal(out, err)
	}
	for _, s := range []*meshSite{a, b} {
		s.until("session erasures --json", `"waiting":["c"]`)
		s.forgot(id, text)
	}
	a.crash()
	b.crash()
	c.up() // alone: it has heard of nothing
	if out := c.do("session export "+id+" --format raw", ""); !strings.Contains(out, text) {
		t.Errorf("the site that is cut off reads %q", out)
	}
	a.up()
	b.up()
	c.until("session show "+id, "erased on")
	for _, s := range sites {
		s.until("session erasures --json", `"waiting":[]`)
		s.forgot(id, text)
		if out := s.do("session export "+kept+" --format raw", ""); !strings.Contains(out, "another one") {
			t.Errorf("%s reads of another recording %q", s.name, out)
		}
	}
	whole(t, a, b, c)

	b.destroy()
	run(t, "holdfast", "backup", "restore", backup, "--data", b.data(), "--identity", b.admin.File)
	run(t, "cp", filepath.Join(b.dir, "site.key"), filepath.Join(b.data(), "keys", "site.key"))
	b.up()
	b.until("session show "+id, "erased on")
	for _, s := range sites {
		s.until("session erasures --json", `"waiting":[]`)
		s.forgot(id, text)
	}
	whole(t, a, b, c)
	for _, s := range sites {
		s.crash()
		run(t, "holdfast", "verify", s.data())
	}
}
