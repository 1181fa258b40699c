package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// recordedAt starts a site with a session on record, and gives what it printed.
func recordedAt(t *testing.T, command string) (a *meshSite, account, printed string) {
	t.Helper()
	requireOpenSSH(t)
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := lab.NewKey(filepath.Join(t.TempDir(), "admin"))
	if err != nil {
		t.Fatal(err)
	}
	sshd, err := localsshd.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sshd.Stop() })
	a = newMeshSite(t, binary, "a", admin)
	a.up()
	account = sshd.User + "+web1"
	a.do("target add web1 --addr "+sshd.Addr+" --host-key '"+sshd.HostKey+"'", "")
	a.do("account add "+account+" --private-key-stdin", string(sshd.PrivateKey))
	a.do("grant add admin "+account, "")
	if printed, err = a.session(account, command); err != nil {
		t.Fatal(err)
	}
	return a, account, printed
}

// held is how many bytes of recordings of other sites are in the files of one,
// which are made longer than what they hold.
func (s *meshSite) held() (n int64) {
	s.t.Helper()
	err := filepath.WalkDir(filepath.Join(s.data(), "log", "others"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.Contains(path, "/rec/") || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		n += int64(len(bytes.TrimRight(content, "\x00")))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// A site that keeps headers only replays what another one has recorded, as long
// as that one can be reached, and says so when it can't.
func TestRecordingsOnDemand(t *testing.T) {
	a, _, printed := recordedAt(t, "seq 700000")
	t.Setenv("HOLDFAST_MESH_RECORDINGS", "headers")
	b := newMeshSite(t, a.binary, "b", a.admin)
	b.up()
	t.Setenv("HOLDFAST_MESH_RECORDINGS", "all")
	b.do("mesh join "+a.do("mesh invite b --addr "+a.mesh, ""), "")
	b.until("session ls", "client closed")
	export := func() (string, error) { return b.try("session export last --format raw", "") }
	eventually(t, time.Minute, "the recording is read at b", func() bool {
		raw, err := export()
		return err == nil && raw+"\n" == printed
	})
	if held := b.held(); held > int64(len(printed))/4 {
		t.Errorf("b holds %d bytes of recordings, of which one alone has %d", held, len(printed))
	}
	b.do("log verify", "")
	a.crash()
	if raw, err := export(); err == nil || !strings.Contains(err.Error(), "nobody in reach has it") {
		t.Errorf("read at b, %d bytes, and a is gone: %v", len(raw), err)
	}
	a.up()
	eventually(t, time.Minute, "the recording is read at b again", func() bool {
		raw, err := export()
		return err == nil && raw+"\n" == printed
	})
}

// A new site lets people in before the recordings of others have arrived, and
// never shows a part of one as the whole.
func TestServesBeforeRecordingsArrive(t *testing.T) {
	t.Setenv("HOLDFAST_MESH_REC_RATE", "200000")
	a, account, printed := recordedAt(t, "seq 700000")
	b := newMeshSite(t, a.binary, "b", a.admin)
	b.up()
	began := time.Now()
	b.do("mesh join "+a.do("mesh invite b --addr "+a.mesh, ""), "")
	b.until("grant ls", "web1")
	eventually(t, 10*time.Second, "a session at b", func() bool {
		out, err := b.session(account, "echo let in")
		return err == nil && out == "let in\n"
	})
	if held := b.held(); held > int64(len(printed)) {
		t.Errorf("b had %d bytes of recordings before it let anybody in", held)
	}
	t.Logf("let in after %s", time.Since(began))
	id := ""
	b.until("session ls", "client closed")
	for line := range strings.Lines(b.do("session ls", "")) {
		id, _, _ = strings.Cut(line, " ") // the oldest one is the last
	}
	raw, err := b.try("session export "+id+" --format raw", "")
	switch {
	case err == nil && raw+"\n" != printed:
		t.Errorf("b showed %d of %d bytes as if that were all", len(raw), len(printed))
	case err != nil && !strings.Contains(err.Error(), "have arrived here"):
		t.Errorf("b showed %d of %d bytes, and said %v", len(raw), len(printed), err)
	}
	eventually(t, 2*time.Minute, "the recording has arrived", func() bool {
		raw, err := b.try("session export "+id+" --format raw", "")
		return err == nil && raw+"\n" == printed
	})
}
