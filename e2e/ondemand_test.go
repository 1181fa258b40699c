package e2e

import (
	"bytes"
	"encoding/json"
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

// With two copies a recording is kept where it was made and at one more site. The
// third one reads it from there when the first is gone, and fetches it when three
// copies are wanted.
func TestCopiesOfRecordings(t *testing.T) {
	a, account, _ := recordedAt(t, "echo first")
	sites := map[string]*meshSite{}
	for _, name := range []string{"b", "c"} {
		s := newMeshSite(t, a.binary, name, a.admin)
		s.up()
		s.do("mesh join "+a.do("mesh invite "+name+" --role steward --addr "+a.mesh, ""), "")
		s.until("session ls", "client closed")
		sites[name] = s
	}
	a.do("mesh set-copies 2", "")
	sites["b"].until("mesh copies", " 2 ")
	var kept struct {
		Items []struct {
			Site   string   `json:"site"`
			KeptAt []string `json:"kept_at"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(sites["b"].do("mesh copies --json", "")), &kept); err != nil {
		t.Fatal(err)
	}
	var keeper, other *meshSite
	for _, k := range kept.Items {
		if len(k.KeptAt) != 2 || k.KeptAt[0] != k.Site {
			t.Errorf("recordings of %s are kept at %q", k.Site, k.KeptAt)
		}
		if k.Site == "a" {
			keeper = sites[k.KeptAt[1]]
		}
	}
	for _, s := range sites {
		if s != keeper {
			other = s
		}
	}
	a.do("mesh copies", "")
	printed, err := a.session(account, "seq 700000")
	if err != nil {
		t.Fatal(err)
	}
	whole := func(s *meshSite) func() bool {
		return func() bool {
			raw, err := s.try("session export last --format raw", "")
			return err == nil && raw+"\n" == printed
		}
	}
	eventually(t, time.Minute, "the recording is at the keeper", whole(keeper))
	eventually(t, time.Minute, "the other reads it", whole(other))
	if keeper.held() < int64(len(printed)) || other.held() > int64(len(printed))/4 {
		t.Errorf("the keeper holds %d bytes and the other %d, of %d", keeper.held(), other.held(), len(printed))
	}
	a.crash()
	eventually(t, time.Minute, "the other reads it from the keeper", whole(other))

	keeper.do("mesh set-copies all", "")
	eventually(t, time.Minute, "the other has fetched it", func() bool { return other.held() > int64(len(printed)) })
	other.crash()
	other.up()
	keeper.crash()
	eventually(t, time.Minute, "the other reads it alone", whole(other))
	other.do("log verify", "")
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
