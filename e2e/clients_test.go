package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// entryForm is a way to a target through the gateway. Scripts know it by the
// hosts of their ssh_config, and by $LOGIN, $HOST and $PORT for the clients that
// read none; what only one form can do stands behind [form:NAME].
type entryForm struct {
	name string
	host func(s *clientSite, p *person, target string) (lab.Host, error)
	// login gives $LOGIN, $HOST and $PORT of web1. Where that is not a place to dial, proxy.sh in $WORK is the way there.
	login func(s *clientSite) (user, host, port string)
}

// entryForms are tried with every client.
var entryForms = []entryForm{
	{name: "direct", host: func(s *clientSite, p *person, target string) (lab.Host, error) {
		return lab.Host{Alias: target, Addr: s.site.Addr, HostKey: s.site.HostKey, User: s.account(target), Key: p.key}, nil
	}, login: func(s *clientSite) (user, host, port string) {
		host, port, _ = net.SplitHostPort(s.site.Addr)
		return s.account("web1"), host, port
	}},
	{name: "jump", host: func(s *clientSite, p *person, target string) (lab.Host, error) {
		authority, err := p.authority()
		return lab.Host{Alias: target, Addr: target + ":22", Authority: authority, User: s.targets[0].User, Key: p.key, Options: []string{"ProxyJump gw"}}, err
	}, login: func(s *clientSite) (user, host, port string) { return s.targets[0].User, "web1", "22" }},
}

// authority is the key that certifies the names of targets, as the person is given it.
func (p *person) authority() (string, error) {
	out, err := console(p.config, "", "ca export")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 4 && f[0] == "@cert-authority" {
			return f[2] + " " + f[3], nil
		}
	}
	return "", fmt.Errorf("ca export gives no authority: %s", out)
}

// TestClients lets the programs that people have work through a site, side by
// side, each as a person of its own; a site for each form.
func TestClients(t *testing.T) {
	requireOpenSSH(t)
	for _, form := range entryForms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			newClientSite(t).run(t, form)
		})
	}
}

func (s *clientSite) run(t *testing.T, form entryForm) {
	t.Run("terminal", func(t *testing.T) { t.Parallel(); testTerminal(t, s.newPerson(t, form)) })
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/clients",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			p, err := s.addPerson(env.WorkDir, form)
			if err != nil {
				return err
			}
			env.Values[personKey] = p
			return p.environment(env)
		},
		Condition: func(cond string) (bool, error) { return condition(form, cond) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"recorded": cmdRecorded, "sshd": cmdSSHD, "dropbear": cmdDropbear, "port": cmdPort, "until": cmdUntil,
			"sh": cmdShell, "notfound": cmdNotFound,
		},
	})
}

// condition knows [full], [form:NAME], [fuse] and [missing:PROGRAM,...], which is
// an error where every client has to be there.
func condition(form entryForm, cond string) (bool, error) {
	kind, arg, _ := strings.Cut(cond, ":")
	switch kind {
	case "full":
		return full, nil
	case "form":
		return arg == form.name, nil
	case "fuse":
		return haveFUSE(), nil
	case "missing":
		for program := range strings.SplitSeq(arg, ",") {
			if err := findClient(program); err != nil && os.Getenv("HOLDFAST_REQUIRE_CLIENTS") != "" {
				return false, fmt.Errorf("%w; .ci/setup installs it", err)
			} else if err != nil {
				return true, nil
			}
		}
		return false, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// findClient looks for a program, or for a file where it is given by its path,
// which may hold * for what differs from machine to machine.
func findClient(program string) error {
	if filepath.IsAbs(program) {
		found, err := filepath.Glob(program)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%s: %w", program, os.ErrNotExist)
		}
		return err
	}
	_, err := exec.LookPath(program)
	return err
}

// haveFUSE says whether this machine lets us mount: containers often don't.
func haveFUSE() bool {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// clientSite is a site with two targets, web1 and web2, for many people.
type clientSite struct {
	site    *lab.Site
	admin   lab.Key
	config  string // ssh_config with host gw for the administrator
	targets []*localsshd.Server
}

func newClientSite(t *testing.T) *clientSite {
	t.Helper()
	dir := t.TempDir()
	s := &clientSite{config: filepath.Join(dir, "ssh_config")}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	s.admin, err = lab.NewKey(filepath.Join(dir, "admin"))
	check(err)
	binary, err := exec.LookPath("holdfast")
	check(err)
	s.site, err = lab.Up(t.Context(), binary, filepath.Join(dir, "data"), "--ssh-listen", "127.0.0.1:0",
		"--admin-name", "admin", "--admin-key", s.admin.File+".pub")
	check(err)
	t.Cleanup(func() { s.close(t) })
	check(lab.WriteConfig(s.config, lab.Host{Alias: "gw", Addr: s.site.Addr, HostKey: s.site.HostKey, Key: s.admin}))
	for _, name := range []string{"web1", "web2"} {
		target, err := localsshd.Start(t.Context(), t.TempDir())
		check(err)
		t.Cleanup(func() { _ = target.Stop() })
		s.targets = append(s.targets, target)
		check(s.addTarget(name, target.Addr, target.HostKey, string(target.PrivateKey)))
	}
	return s
}

// close checks the log and ends the site in order. A site with the race detector
// in it ends badly when it has found a race.
func (s *clientSite) close(t *testing.T) {
	if _, err := console(s.config, "", "log verify"); err != nil {
		t.Error(err)
	}
	if err := s.site.Stop(); err != nil {
		t.Errorf("the site did not end well: %v; its last words: %s", err, s.site.Stderr())
	}
}

// account is what every target of these tests is entered by.
func (s *clientSite) account(target string) string { return s.targets[0].User + "+" + target }

func (s *clientSite) addTarget(name, addr, hostKey, privateKey string) error {
	if _, err := console(s.config, "", "target add "+name+" --addr "+addr+" --host-key '"+hostKey+"'"); err != nil {
		return err
	}
	_, err := console(s.config, privateKey, "account add "+s.account(name)+" --private-key-stdin")
	return err
}

// console runs a verb as the person of an ssh_config.
func console(config, stdin, line string) (string, error) {
	cmd := exec.Command("ssh", "-F", config, "gw", line)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", line, err, stderr.String())
	}
	return string(out), nil
}

const personKey = "person"

// person is a user of the site with files of their own. Being an operator, they
// see their own sessions and nobody else's.
type person struct {
	site   *clientSite
	form   entryForm
	name   string
	dir    string
	config string // ssh_config with host gw for the console and one host a target
	key    lab.Key
	hosts  []lab.Host
	seen   int // sessions that were looked at before
}

func (s *clientSite) newPerson(t *testing.T, form entryForm) *person {
	t.Helper()
	p, err := s.addPerson(t.TempDir(), form)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *clientSite) addPerson(dir string, form entryForm) (*person, error) {
	p := &person{site: s, form: form, dir: dir, config: filepath.Join(dir, "ssh_config"), key: lab.Key{File: filepath.Join(dir, "id_ed25519")}}
	p.name = form.name + "-" + strings.ToLower(strings.Trim(filepath.Base(dir), ".-"))
	var err error
	if p.key, err = lab.NewKey(p.key.File); err != nil {
		return nil, err
	}
	if _, err := console(s.config, "", "user add "+p.name+" --key '"+p.key.Public+"'"); err != nil {
		return nil, err
	}
	p.hosts = []lab.Host{{Alias: "gw", Addr: s.site.Addr, HostKey: s.site.HostKey, User: p.name, Key: p.key}}
	if err := lab.WriteConfig(p.config, p.hosts...); err != nil {
		return nil, err
	}
	for _, target := range []string{"web1", "web2"} {
		if err := p.reach(target); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// reach gives the person a grant for a target and a host of its name.
func (p *person) reach(target string) error {
	if _, err := console(p.site.config, "", "grant add "+p.name+" "+p.site.account(target)); err != nil {
		return err
	}
	host, err := p.form.host(p.site, p, target)
	if err != nil {
		return err
	}
	p.hosts = append(p.hosts, host)
	return lab.WriteConfig(p.config, p.hosts...)
}

// environment tells a script where things are. Sockets have short paths, so
// they are in $SHORT.
func (p *person) environment(env *testscript.Env) error {
	variables, err := p.variables()
	if err != nil {
		return err
	}
	proxy := "#!/bin/sh\nexec ssh -F " + p.config + " -W web1:22 gw\n"
	if err := os.WriteFile(filepath.Join(env.WorkDir, "proxy.sh"), []byte(proxy), 0o755); err != nil {
		return err
	}
	short, err := os.MkdirTemp("", "hf")
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(short) })
	env.Setenv("SHORT", short)
	for name, value := range variables {
		env.Setenv(name, value)
	}
	return nil
}

// variables tell where things are.
func (p *person) variables() (map[string]string, error) {
	login, host, port := p.form.login(p.site)
	gateway, gatewayPort, err := net.SplitHostPort(p.site.site.Addr)
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(p.site.site.HostKey))
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"CFG": p.config, "HOME": p.dir, "KEY": p.key.File, "USER": p.site.targets[0].User,
		"LOGIN": login, "HOST": host, "PORT": port, "GATEWAY": gateway, "GATEWAY_PORT": gatewayPort,
		"ADMIN": p.site.config, "PERSON": p.name,
		"HOSTKEY": p.site.site.HostKey, "FINGERPRINT": ssh.FingerprintSHA256(key),
		"HASH": strings.TrimPrefix(ssh.FingerprintSHA256(key), "SHA256:"),
	}, nil
}

// shownSession is what these tests read of `session ls|show --json`.
type shownSession struct {
	ID       string
	Ended    *time.Time
	Reason   string
	Complete bool
	Refused  int
	BytesIn  int `json:"bytes_in"`
	BytesOut int `json:"bytes_out"`
}

// sessions waits until least new sessions are over and gives them, the newest
// first; more than most are an error.
func (p *person) sessions(least, most int) ([]shownSession, error) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		out, err := console(p.config, "", "session ls --json --limit 500")
		if err != nil {
			return nil, err
		}
		var list struct{ Items []shownSession }
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return nil, fmt.Errorf("session ls: %w", err)
		}
		fresh := list.Items[:max(len(list.Items)-p.seen, 0)]
		open := 0
		for _, s := range fresh {
			if s.Ended == nil {
				open++
			}
		}
		if open == 0 && len(fresh) >= least {
			p.seen = len(list.Items)
			if len(fresh) > most {
				return nil, fmt.Errorf("%d sessions, want %d", len(fresh), most)
			}
			return fresh, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d sessions after 20 s, %d of them open; want %d", len(fresh), open, least)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// recorded wants least to most sessions since it was last called, each ended by
// its client and complete, and gives the newest as `session show last` has it.
func (p *person) recorded(least, most int) (shownSession, error) {
	var shown struct{ Item shownSession }
	list, err := p.sessions(least, most)
	if err != nil {
		return shown.Item, err
	}
	for _, s := range list {
		if !s.Complete || s.Reason != "client closed" {
			return shown.Item, fmt.Errorf("a session ended with %+v, want it complete and closed by its client", s)
		}
	}
	out, err := console(p.config, "", "session show last --json")
	if err != nil {
		return shown.Item, err
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		return shown.Item, fmt.Errorf("session show: %w", err)
	}
	if shown.Item.ID != list[0].ID || !shown.Item.Complete {
		return shown.Item, fmt.Errorf("session show last gives %+v, session ls %+v", shown.Item, list[0])
	}
	return shown.Item, nil
}

func personOf(ts *testscript.TestScript) *person { return ts.Value(personKey).(*person) }

// recorded [COUNT] wants COUNT (1) complete sessions since the last time, or
// COUNT+ for more of them, and sets SESSION (its id) and REFUSED (packets) of the newest.
func cmdRecorded(ts *testscript.TestScript, _ bool, args []string) {
	least, most := 1, 1
	if len(args) > 0 {
		count, more := strings.CutSuffix(args[0], "+")
		var err error
		least, err = strconv.Atoi(count)
		ts.Check(err)
		if most = least; more {
			most = math.MaxInt
		}
	}
	s, err := personOf(ts).recorded(least, most)
	ts.Check(err)
	ts.Setenv("SESSION", s.ID)
	ts.Setenv("REFUSED", strconv.Itoa(s.Refused))
}

// fatal ends a script as a test would be ended.
type fatal struct{ *testscript.TestScript }

// Fatal implements the part of testing.T that helpers need.
func (f fatal) Fatal(what ...any) { f.Fatalf("%s", fmt.Sprint(what...)) }

// port NAME sets NAME to a loopback port that is free now.
func cmdPort(ts *testscript.TestScript, _ bool, args []string) {
	_, port, err := net.SplitHostPort(steadyAddr(fatal{ts}))
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// until LINE runs LINE by the shell until it succeeds, for 20 s at most.
func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for ts.Exec("sh", "-c", strings.Join(args, " ")) != nil {
		select {
		case <-ctx.Done():
			ts.Fatalf("not true within 20 s: %s", strings.Join(args, " "))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
