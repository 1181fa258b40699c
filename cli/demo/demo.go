// Package demo shows the main job from start to proof on one machine: a site
// with the embedded log, a real sshd as target, a stock ssh client through the
// gateway, the replay, a second site that goes on alone while it is cut off, and
// a verifier that notices a flipped byte. It needs no root, listens on loopback
// only and leaves nothing behind.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// Options say what a demo is of.
type Options struct {
	Script bool // go through every step, check what came of it and end
	Sites  int  // 1, or 2 that are one mesh
}

// dirName begins the names of the directories that demos are in.
const dirName = "holdfast-demo-"

// Run runs the demo. binary is this program. Without a script it sets everything
// up, tells what to try and stays until ctx ends.
func Run(ctx context.Context, out io.Writer, binary string, o Options) (err error) {
	if _, err := exec.LookPath("ssh"); err != nil {
		return errors.New("the demo works with a stock ssh client, and there is none here; install Debian's package openssh-client")
	}
	dir, err := os.MkdirTemp("", dirName)
	if err != nil {
		return err
	}
	d := &demo{ctx: ctx, out: out, binary: binary, dir: dir, ended: make(chan *lab.Site, 2)}
	defer func() { err = errors.Join(err, d.clean()) }()
	if err := d.setUp(); err != nil {
		return err
	}
	if o.Script {
		return d.script(o)
	}
	if o.Sites == 2 {
		if err := d.addSouth(); err != nil {
			return err
		}
	}
	d.invite()
	for _, s := range d.sites {
		go func() { // ends with the site, which clean stops at the latest
			<-s.Done()
			d.ended <- s
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case s := <-d.ended:
		return errors.New(s.Ended())
	}
}

// demo is a demo under way.
type demo struct {
	ctx    context.Context
	out    io.Writer
	binary string
	dir    string
	undo   []func() error // in the order of set-up
	sites  []*lab.Site    // as they came up: north, and south where there are two
	ended  chan *lab.Site // by themselves
	wires  [2]*lab.Wire   // to the mesh ports of north and south
	hosts  []lab.Host     // of the ssh_config
	ada    lab.Key
	bob    lab.Key
	target target
	steps  int
}

// target is the server that the demo goes to.
type target struct {
	what    string // to tell the person
	addr    string
	hostKey string
	account string // name of the account on it
	secret  string // what the vault gets
	flag    string // of account add
	rotates bool   // whether its secret can be changed here
}

func (d *demo) clean() error {
	var errs []error
	for i := len(d.undo) - 1; i >= 0; i-- {
		errs = append(errs, d.undo[i]())
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// step begins a step and tells what it is about.
func (d *demo) step(format string, a ...any) {
	d.steps++
	fmt.Fprintf(d.out, "\n%d. %s\n", d.steps, fmt.Sprintf(format, a...))
}

// run shows a shell line, runs it as a person would have, shows what it prints
// and gives it back. The variables of the demo stand for its directory and
// program, so that lines stay short.
func (d *demo) run(line, stdin string) (string, error) {
	fmt.Fprintf(d.out, "   $ %s\n", line)
	cmd := exec.CommandContext(d.ctx, "/bin/sh", "-c", `ssh() { command ssh -F "$DEMO/ssh_config" "$@"; }; holdfast() { "$HOLDFAST" "$@"; }; `+line)
	cmd.Env = append(os.Environ(), "DEMO="+d.dir, "HOLDFAST="+d.binary)
	cmd.Dir = d.dir
	cmd.Stdin = strings.NewReader(stdin)
	b, err := cmd.CombinedOutput()
	for _, l := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		fmt.Fprintf(d.out, "     %s\n", strings.TrimRight(l, "\r"))
	}
	return string(b), err
}

// must is run for a line that has to succeed and to print wanted.
func (d *demo) must(line, stdin, wanted string) error {
	got, err := d.run(line, stdin)
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	if !strings.Contains(got, wanted) {
		return fmt.Errorf("%s: it did not print %q", line, wanted)
	}
	return nil
}

func (d *demo) setUp() error {
	fmt.Fprintf(d.out, "holdfast demo: everything runs on loopback and in %s; nothing stays behind\n", d.dir)
	fmt.Fprintf(d.out, "(ssh stands for ssh -F %s)\n", d.path("ssh_config"))
	if err := d.startTarget(); err != nil {
		return err
	}
	return d.startSite()
}

func (d *demo) startTarget() error {
	dir := d.path("sshd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	s, err := localsshd.Start(d.ctx, dir)
	if errors.Is(err, localsshd.ErrNotInstalled) {
		return d.startInProcessTarget()
	}
	if err != nil {
		return err
	}
	d.undo = append(d.undo, func() error {
		err := s.Stop()
		if s.Made != "" {
			err = errors.Join(err, os.Remove(s.Made))
		}
		return err
	})
	d.target = target{
		what: "a stock OpenSSH server", addr: s.Addr, hostKey: s.HostKey, account: s.User,
		secret: string(s.PrivateKey), rotates: true,
		flag: "--private-key-stdin --param authorized-keys=$DEMO/sshd/authorized_keys",
	}
	return nil
}

func (d *demo) startInProcessTarget() error {
	s, err := localsshd.StartInProcess(d.ctx)
	if err != nil {
		return err
	}
	d.undo = append(d.undo, s.Stop)
	d.target = target{
		what: "an SSH server inside this program, since no sshd is installed here", addr: s.Addr, hostKey: s.HostKey, account: s.User,
		secret: s.Password + "\n", flag: "--password-stdin",
	}
	return nil
}

func (d *demo) startSite() (err error) {
	if d.ada, err = lab.NewKey(d.path("ada")); err != nil {
		return err
	}
	if d.bob, err = lab.NewKey(d.path("bob")); err != nil {
		return err
	}
	d.step("A site with an embedded log, and its first administrator, ada")
	if err := d.up("north", "gw"); err != nil {
		return err
	}
	d.step("ada adds a target (%s), its account with the secret, and a grant for bob", d.target.what)
	for _, l := range []struct{ line, stdin string }{
		{fmt.Sprintf("ssh gw-ada target add web1 --addr %s --host-key \"'%s'\"", d.target.addr, d.target.hostKey), ""},
		{fmt.Sprintf("ssh gw-ada account add %s+web1 %s <secret", d.target.account, d.target.flag), d.target.secret},
		{"ssh gw-ada user add bob --key - <bob.pub", d.bob.Public},
		{fmt.Sprintf("ssh gw-ada grant add bob %s+web1 --expires 8h", d.target.account), ""},
	} {
		line, redirect, _ := strings.Cut(l.line, " <")
		fmt.Fprintf(d.out, "   $ %s\n", l.line)
		if err := d.quiet(line, l.stdin); err != nil {
			return fmt.Errorf("%s (from %s): %w", line, redirect, err)
		}
	}
	return nil
}

// up brings a site up, and makes it known to ssh: as host for bob, and as
// host-ada for ada. Others reach its mesh port through a wire that can be cut.
func (d *demo) up(name, host string) error {
	wire, err := lab.NewWire()
	if err != nil {
		return err
	}
	d.undo = append(d.undo, wire.Close)
	d.wires[len(d.sites)] = wire
	args := []string{"--site-name", name, "--ssh-listen", "127.0.0.1:0", "--mesh-listen", "127.0.0.1:0", "--mesh-advertise", wire.Addr,
		"--admin-name", "ada", "--admin-key", d.ada.File + ".pub"}
	fmt.Fprintf(d.out, "   $ holdfast up --data %s %s &\n", name, strings.ReplaceAll(strings.Join(args, " "), d.dir+"/", ""))
	site, err := lab.Up(d.ctx, d.binary, d.path(name), args...)
	if err != nil {
		return err
	}
	d.undo = append(d.undo, site.Stop)
	d.sites = append(d.sites, site)
	wire.Reach(site.Mesh)
	fmt.Fprintf(d.out, "     %s\n", site.Ready)
	d.hosts = append(d.hosts,
		lab.Host{Alias: "ada@" + host, Addr: site.Addr, HostKey: site.HostKey, User: "ada", Key: d.ada},
		lab.Host{Alias: host, Addr: site.Addr, HostKey: site.HostKey, Key: d.bob},
		lab.Host{Alias: host + "-ada", Addr: site.Addr, HostKey: site.HostKey, User: "ada", Key: d.ada})
	return lab.WriteConfig(d.path("ssh_config"), d.hosts...)
}

// quiet runs a line and shows only what it prints.
func (d *demo) quiet(line, stdin string) error {
	shown := d.out
	d.out = io.Discard
	got, err := d.run(line, stdin)
	d.out = shown
	for _, l := range strings.Split(strings.TrimRight(got, "\n"), "\n") {
		fmt.Fprintf(d.out, "     %s\n", l)
	}
	return err
}

// invite tells a newcomer what to try while the demo stays up.
func (d *demo) invite() {
	config := d.path("ssh_config")
	account := d.target.account + "+web1"
	more := ""
	if len(d.sites) == 2 {
		more = fmt.Sprintf(`
   holdfast demo partition             cut the sites off from each other; both go on
   ssh -F %[1]s south-ada target add app1 --addr 192.0.2.1:22
   ssh -F %[1]s %[2]s@south        and so on: gw and gw-ada are north, south and south-ada are south
   holdfast demo heal                  let them reach each other again
   ssh -F %[1]s gw-ada mesh status
`, config, account)
	}
	fmt.Fprintf(d.out, `
DEMO: throw-away keys, not for production. Try, in another terminal:

   ssh -F %[1]s %[2]s@gw           work on the target as bob, with a credential bob never sees
   ssh -F %[1]s gw-ada session ls    what was recorded (as ada, an administrator)
   ssh -F %[1]s -t gw-ada session play last
   ssh -F %[1]s gw-ada audit tail
   ssh -F %[1]s gw-ada log verify
   ssh -F %[1]s gw-ada help
%[3]s
Ctrl-C ends it and removes everything.
`, config, account, more)
}
