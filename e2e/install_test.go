package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// installation is a site with one target, for tests in Go: the administrator
// is at host gw, who also has the grant for the target, at host target. Lines
// of sshd are added to the target's configuration.
type installation struct {
	t      *testing.T
	dir    string
	data   string // of the site
	config string
	admin  lab.Key
	target *localsshd.Server
	site   *lab.Site
}

func install(t *testing.T, sshd ...string) *installation {
	t.Helper()
	return installAt(t, t.TempDir(), sshd...)
}

// installAt is install with a directory for the site's data.
func installAt(t *testing.T, data string, sshd ...string) *installation {
	t.Helper()
	requireOpenSSH(t)
	in := &installation{t: t, dir: t.TempDir(), data: filepath.Join(data, "site")}
	in.config = filepath.Join(in.dir, "ssh_config")
	var err error
	if in.target, err = localsshd.Start(t.Context(), t.TempDir(), sshd...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.target.Stop() })
	if in.admin, err = lab.NewKey(filepath.Join(in.dir, "admin")); err != nil {
		t.Fatal(err)
	}
	in.up("127.0.0.1:0")
	t.Cleanup(func() { _ = in.site.Kill() })
	in.console("", "target add web1 --addr "+in.target.Addr+" --host-key '"+in.target.HostKey+"'")
	in.console(string(in.target.PrivateKey), "account add "+in.account()+" --private-key-stdin")
	in.console("", "grant add admin "+in.account())
	return in
}

func (in *installation) account() string { return in.target.User + "+web1" }

// up starts the site, as often as one likes.
func (in *installation) up(listen string) {
	in.t.Helper()
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		in.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	in.site, err = lab.Up(ctx, binary, in.data, "--ssh-listen", listen,
		"--admin-name", "admin", "--admin-key", in.admin.File+".pub")
	if err != nil {
		in.t.Fatal(err)
	}
	if err := lab.WriteConfig(in.config,
		lab.Host{Alias: "gw", Addr: in.site.Addr, HostKey: in.site.HostKey, User: "admin", Key: in.admin},
		lab.Host{Alias: "target", Addr: in.site.Addr, HostKey: in.site.HostKey, User: in.account(), Key: in.admin},
	); err != nil {
		in.t.Fatal(err)
	}
}

// restart brings a killed site up at the same address.
func (in *installation) restart() {
	in.t.Helper()
	in.up(in.site.Addr)
}

// ssh is a stock client, args as on its command line.
func (in *installation) ssh(args ...string) *exec.Cmd {
	return exec.CommandContext(in.t.Context(), "ssh", append([]string{"-F", in.config}, args...)...)
}

// console runs a verb, which must end with exit status 0 or the one given, and
// gives what it printed on standard output.
func (in *installation) console(stdin, line string, exit ...int) string {
	in.t.Helper()
	out, err := in.tryConsole(stdin, line)
	for try := 0; exitCode(err) == 8 && try < 5; try++ { // the views are behind on a busy machine
		out, err = in.tryConsole(stdin, line)
	}
	if want := append(exit, 0)[0]; exitCode(err) != want {
		in.t.Fatalf("%s: %v, want exit status %d", line, err, want)
	}
	return out
}

func (in *installation) tryConsole(stdin, line string) (string, error) {
	cmd := in.ssh("gw", line)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), errors.Join(err, errors.New(stderr.String()), errors.New("site: "+in.site.Stderr()))
	}
	return stdout.String(), nil
}

// noise makes a file of the stream that is n bytes long.
func (in *installation) noise(n int64) string {
	in.t.Helper()
	f, err := os.Create(filepath.Join(in.dir, "noise"))
	if err == nil {
		_, err = io.Copy(f, stream(n))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		in.t.Fatal(err)
	}
	return f.Name()
}

func pid(n int) string { return strconv.Itoa(n) }

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}
