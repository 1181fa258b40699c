package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-pam/holdfast/cli"
	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// full asks for every count in full (make test-full).
var full = os.Getenv("HOLDFAST_TEST_FULL") != ""

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"holdfast": func() {
			setClock()
			os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// requireOpenSSH skips a test where the stock programs are missing, and fails
// it where they have to be there.
func requireOpenSSH(t *testing.T) {
	t.Helper()
	_, err := localsshd.Find()
	if _, err2 := exec.LookPath("ssh"); err == nil {
		err = err2
	}
	switch {
	case err != nil && os.Getenv("HOLDFAST_REQUIRE_OPENSSH") != "":
		t.Fatal(err)
	case err != nil:
		t.Skip("needs OpenSSH: ", err)
	}
}

func TestScripts(t *testing.T) {
	requireOpenSSH(t)
	if _, err := exec.LookPath("oathtool"); err != nil && os.Getenv("HOLDFAST_REQUIRE_CLIENTS") != "" {
		t.Error(err) // without it second-factor.txtar is skipped
	}
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, path := range scripts {
		if b, err := os.ReadFile(path); err != nil || strings.Contains(string(b), "\nstop") {
			t.Errorf("%s ends with a stop (%v): what comes after it is never run", path, err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[worldKey] = &world{dir: env.WorkDir, keys: map[string]lab.Key{}}
			env.Setenv("CFG", filepath.Join(env.WorkDir, "ssh_config"))
			env.Setenv("DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"site": cmdSite, "down": cmdDown, "crash": cmdCrash, "target": cmdTarget, "key": cmdKey,
			"notfound": cmdNotFound, "sh": cmdShell, "bg": cmdBackground,
			"port": cmdPort, "until": cmdUntil, "serve": cmdServe, "ask": cmdAsk,
			"within": cmdWithin,
		},
	})
}

const worldKey = "world"

// world is the installation of one script.
type world struct {
	dir  string
	site *lab.Site
	keys map[string]lab.Key // by user; admin's is always there
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey).(*world) }

// site [ARG...] starts the site (with an administrator "admin") and writes
// ssh_config with a host gw for admin and gw-NAME for every key NAME.
func cmdSite(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if _, ok := w.keys["admin"]; !ok {
		k, err := lab.NewKey(filepath.Join(w.dir, "admin"))
		ts.Check(err)
		w.keys["admin"] = k
	}
	binary, err := exec.LookPath("holdfast")
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w.site, err = lab.Up(ctx, binary, filepath.Join(w.dir, "data"), append([]string{
		"--ssh-listen", "127.0.0.1:0", "--admin-name", "admin", "--admin-key", w.keys["admin"].File + ".pub"}, args...)...)
	ts.Check(err)
	s := w.site
	ts.Defer(func() { _ = s.Kill() })
	ts.Setenv("GATEWAY", s.Addr)
	ts.Check(w.writeConfig())
}

func (w *world) writeConfig() error {
	if w.site == nil {
		return nil
	}
	hosts := []lab.Host{{Alias: "gw", Addr: w.site.Addr, HostKey: w.site.HostKey, Key: w.keys["admin"]}}
	for name, k := range w.keys {
		hosts = append(hosts, lab.Host{Alias: "gw-" + name, Addr: w.site.Addr, HostKey: w.site.HostKey, Key: k})
	}
	return lab.WriteConfig(filepath.Join(w.dir, "ssh_config"), hosts...)
}

// down ends the site in order; crash kills it. (testscript has a stop of its own: it ends
// the script.)
func cmdDown(ts *testscript.TestScript, neg bool, _ []string)  { ts.Check(worldOf(ts).site.Stop()) }
func cmdCrash(ts *testscript.TestScript, neg bool, _ []string) { ts.Check(worldOf(ts).site.Kill()) }

// target NAME starts an sshd and sets NAME_ADDR, NAME_HOSTKEY, ACCOUNT (the
// login that it takes) and the file NAME.key (the private key for it).
func cmdTarget(ts *testscript.TestScript, neg bool, args []string) {
	name := args[0]
	dir := ts.MkAbs("sshd-" + name)
	ts.Check(os.Mkdir(dir, 0o700))
	s, err := localsshd.Start(context.Background(), dir, args[1:]...)
	ts.Check(err)
	ts.Defer(func() { _ = s.Stop() })
	ts.Setenv(name+"_ADDR", s.Addr)
	ts.Setenv(name+"_HOSTKEY", s.HostKey)
	ts.Setenv("ACCOUNT", s.User)
	ts.Check(os.WriteFile(ts.MkAbs(name+".key"), s.PrivateKey, 0o600))
}

// key NAME makes a key pair, sets NAME_PUB and adds the host gw-NAME.
func cmdKey(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	k, err := lab.NewKey(filepath.Join(w.dir, args[0]))
	ts.Check(err)
	w.keys[args[0]] = k
	ts.Setenv(args[0]+"_PUB", k.Public)
	ts.Check(w.writeConfig())
}

// notfound TEXT PATH... fails when a file in or under a path holds TEXT.
func cmdNotFound(ts *testscript.TestScript, neg bool, args []string) {
	for _, path := range args[1:] {
		ts.Check(filepath.WalkDir(ts.MkAbs(path), func(file string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(file)
			if err == nil && strings.Contains(string(b), args[0]) {
				ts.Fatalf("%s holds %q", file, args[0])
			}
			return err
		}))
	}
}

// sh LINE runs LINE by the shell; `! sh` wants it to fail.
func cmdShell(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("sh", "-c", strings.Join(args, " "))
	if (err != nil) != neg {
		ts.Fatalf("sh -c %q: %v", strings.Join(args, " "), err)
	}
}

// within TIME CAUSE EFFECT wants the newest event of type EFFECT to have come at most TIME after the newest CAUSE, by the
// site's own clock: how long a busy machine takes to start a client is not measured.
func cmdWithin(ts *testscript.TestScript, neg bool, args []string) {
	most, err := time.ParseDuration(args[0])
	ts.Check(err)
	at := func(kind string) time.Time {
		ts.Check(ts.Exec("ssh", "-F", ts.Getenv("CFG"), "gw", "audit tail -n 1 --json --type "+kind))
		var event struct{ Item struct{ Time time.Time } }
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &event))
		return event.Item.Time
	}
	cause, effect := at(args[1]), at(args[2])
	for range 50 { // who saw the effect may ask before its event is in the view
		if !effect.Before(cause) {
			break
		}
		time.Sleep(100 * time.Millisecond)
		effect = at(args[2])
	}
	if took := effect.Sub(cause); took < 0 || took > most {
		ts.Fatalf("%s came %s after %s", args[2], took, args[1])
	}
}

// bg LINE starts LINE by the shell and goes on; it is ended with the script.
func cmdBackground(ts *testscript.TestScript, neg bool, args []string) {
	cmd := exec.Command("sh", "-c", strings.Join(args, " "))
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "CFG="+ts.Getenv("CFG"), "ACCOUNT="+ts.Getenv("ACCOUNT"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it has usually ended
		_ = cmd.Wait()
	})
}
