package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// client is a real program that can put and get a file.
type client struct {
	name     string
	put, get func(m *middle, local, remote string) (string, int)
}

// clients are the stock ones. Those that aren't installed are skipped.
var clients = []client{
	{"sftp",
		func(m *middle, local, remote string) (string, int) {
			return m.run(fmt.Sprintf("put %q %q\n", local, remote), "sftp", m.opts("-b", "-", "127.0.0.1")...)
		},
		func(m *middle, local, remote string) (string, int) {
			return m.run(fmt.Sprintf("get %q %q\n", remote, local), "sftp", m.opts("-b", "-", "127.0.0.1")...)
		}},
	{"scp",
		func(m *middle, local, remote string) (string, int) {
			return m.run("", "scp", m.opts(local, "127.0.0.1:"+remote)...)
		},
		func(m *middle, local, remote string) (string, int) {
			return m.run("", "scp", m.opts("127.0.0.1:"+remote, local)...)
		}},
	{"scp -O",
		func(m *middle, local, remote string) (string, int) {
			return m.run("", "scp", m.opts("-O", local, "127.0.0.1:"+remote)...)
		},
		func(m *middle, local, remote string) (string, int) {
			return m.run("", "scp", m.opts("-O", "127.0.0.1:"+remote, local)...)
		}},
	{"curl",
		func(m *middle, local, remote string) (string, int) {
			return m.run("", "curl", "-sS", "--insecure", "-u", "me:", "-T", local, "sftp://127.0.0.1:"+m.port+remote)
		},
		func(m *middle, local, remote string) (string, int) {
			return m.run("", "curl", "-sS", "--insecure", "-u", "me:", "-o", local, "sftp://127.0.0.1:"+m.port+remote)
		}},
	{"curl scp",
		func(m *middle, local, remote string) (string, int) {
			return m.run("", "curl", "-sS", "--insecure", "-u", "me:", "-T", local, "scp://127.0.0.1:"+m.port+remote)
		},
		func(m *middle, local, remote string) (string, int) {
			return m.run("", "curl", "-sS", "--insecure", "-u", "me:", "-o", local, "scp://127.0.0.1:"+m.port+remote)
		}},
	{"psftp",
		func(m *middle, local, remote string) (string, int) { return m.psftp("put " + local + " " + remote) },
		func(m *middle, local, remote string) (string, int) { return m.psftp("get " + remote + " " + local) }},
	{"pscp",
		func(m *middle, local, remote string) (string, int) {
			return m.pscp("-sftp", local, "127.0.0.1:"+remote)
		},
		func(m *middle, local, remote string) (string, int) {
			return m.pscp("-sftp", "127.0.0.1:"+remote, local)
		}},
	{"pscp -scp",
		func(m *middle, local, remote string) (string, int) { return m.pscp("-scp", local, "127.0.0.1:"+remote) },
		func(m *middle, local, remote string) (string, int) { return m.pscp("-scp", "127.0.0.1:"+remote, local) }},
	{"lftp",
		func(m *middle, local, remote string) (string, int) { return m.lftp("put " + local + " -o " + remote) },
		func(m *middle, local, remote string) (string, int) { return m.lftp("get " + remote + " -o " + local) }},
}

// sampled is OpenSSH's clients; all of them where tests run in full.
func sampled() []client {
	if os.Getenv("HOLDFAST_TEST_FULL") == "" {
		return clients[:3]
	}
	return clients
}

func (m *middle) psftp(command string) (string, int) {
	script := filepath.Join(m.t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(command+"\nquit\n"), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return m.run("", "psftp", "-batch", "-P", m.port, "-hostkey", ssh.FingerprintSHA256(m.hostKey.PublicKey()), "-b", script, "me@127.0.0.1")
}

func (m *middle) pscp(args ...string) (string, int) {
	return m.run("", "pscp", append([]string{
		"-batch", "-P", m.port, "-l", "me", "-hostkey", ssh.FingerprintSHA256(m.hostKey.PublicKey()),
	}, args...)...)
}

func (m *middle) lftp(command string) (string, int) {
	program := "ssh -a -x " + strings.Join(m.opts(), " ")
	return m.run("", "lftp", "-c", fmt.Sprintf(
		"set net:max-retries 1; set cmd:fail-exit yes; set sftp:connect-program %q; open sftp://me:x@127.0.0.1:%s/ && %s", program, m.port, command))
}

// size is a few windows of every client, and no multiple of a block.
const size = 3<<20 + 12345

func find(ops []Operation, kind Kind, d Direction) (found []Operation) {
	for _, o := range ops {
		if o.Kind == kind && o.Direction == d {
			found = append(found, o)
		}
	}
	return found
}

// TestClientsAreDecoded moves files with each client and compares what was decoded with what is in the files.
func TestClientsAreDecoded(t *testing.T) {
	for _, c := range sampled() {
		for _, n := range []int{size, 0} {
			t.Run(fmt.Sprintf("%s/%d", c.name, n), func(t *testing.T) {
				t.Parallel()
				m := newMiddle(t, Gate{Upload: true, Download: true})
				dir := t.TempDir()
				local, content := file(t, dir, "local", n)
				remote, back := filepath.Join(dir, "remote"), filepath.Join(dir, "back")
				if out, exit := c.put(m, local, remote); exit != 0 {
					t.Fatalf("put: exit %d: %s", exit, out)
				}
				if out, exit := c.get(m, back, remote); exit != 0 {
					t.Fatalf("get: exit %d: %s", exit, out)
				}
				checkMoved(t, m.operations(), remote, content)
			})
		}
	}
}

func checkMoved(t *testing.T, ops []Operation, remote string, content []byte) {
	t.Helper()
	for _, d := range []Direction{Upload, Download} {
		files := find(ops, KindFile, d)
		if len(files) == 0 && len(content) == 0 && d == Download {
			continue // a client that knows the size asks for nothing
		}
		if len(files) != 1 {
			t.Fatalf("%d files in direction %s: %+v", len(files), d, ops)
		}
		o := files[0]
		if o.Path != remote && filepath.Join(filepath.Dir(o.Target), o.Path) != filepath.Join(filepath.Dir(remote), o.Path) {
			t.Errorf("%s: path %q, target %q", d, o.Path, o.Target)
		}
		if !o.OK && o.Note != noteUnanswered || o.Code != 0 || !o.Complete || o.Bytes != uint64(len(content)) || o.SHA256 != sumOf(content) {
			t.Errorf("%s: %+v, want %s", d, o, sumOf(content))
		}
		if o.Started > o.Ended {
			t.Errorf("%s: from %v to %v", d, o.Started, o.Ended)
		}
	}
	if bad := slices.IndexFunc(ops, func(o Operation) bool { return o.Kind == KindUndecoded }); bad >= 0 {
		t.Errorf("not decoded: %+v", ops[bad])
	}
}
