// Command bench compares a session through the gateway with direct OpenSSH and
// with OpenSSH ProxyJump, which records nothing. Stock ssh and scp, stock sshd,
// everything on loopback; the paths take turns inside each round, so that
// ratios within a round stand even when the machine's speed drifts.
//
// Run it with `make bench`. docs/benchmarks.md says how to read it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// path is one way to reach the target.
type path struct {
	name string
	host string // alias in the ssh_config
}

var paths = []path{{"direct", "direct"}, {"jump", "viajump"}, {"gateway", "gate"}}

// bench holds the installation that is measured.
type bench struct {
	ctx    context.Context
	dir    string
	config string // ssh_config
	target *localsshd.Server
	jump   *localsshd.Server
	site   *lab.Site
	sizes  sizes
}

type sizes struct {
	rounds, keys, setups, idle int
	bulk                       int64 // bytes
}

func main() {
	rounds := flag.Int("rounds", 5, "rounds; each measures every path once")
	keys := flag.Int("keys", 400, "keystrokes a round")
	setups := flag.Int("setups", 10, "connections a round")
	bulk := flag.Int64("mib", 256, "size of a bulk transfer in MiB")
	idle := flag.Int("idle", 1000, "idle sessions")
	flag.Parse()
	if min(*rounds, *keys, *setups, *idle) < 1 || *bulk < 1 {
		fmt.Fprintln(os.Stderr, "bench: every count is at least 1")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, sizes{*rounds, *keys, *setups, *idle, *bulk << 20}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, n sizes) (err error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, sizes: n}
	defer b.close()
	if err := b.setUp(); err != nil {
		return err
	}
	return b.measureAll()
}

func (b *bench) close() {
	if b.site != nil {
		if err := b.site.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: stop the site:", err)
		}
	}
	for _, s := range []*localsshd.Server{b.target, b.jump} {
		if s != nil {
			_ = s.Stop() // it is killed when it does not stop
		}
	}
}

func (b *bench) setUp() error {
	binary := filepath.Join(b.dir, "holdfast")
	build := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build holdfast (run bench from the project's root): %w: %s", err, out)
	}
	var err error
	if b.target, err = b.sshd("target"); err != nil {
		return err
	}
	if b.jump, err = b.sshd("jump"); err != nil {
		return err
	}
	admin, err := lab.NewKey(filepath.Join(b.dir, "admin"))
	if err != nil {
		return err
	}
	b.site, err = lab.Up(b.ctx, binary, filepath.Join(b.dir, "data"), "--ssh-listen", "127.0.0.1:0",
		"--admin-name", "bench", "--admin-key", admin.File+".pub")
	if err != nil {
		return err
	}
	b.config = filepath.Join(b.dir, "ssh_config")
	targetKey, err := b.keyFile("target", b.target)
	if err != nil {
		return err
	}
	jumpKey, err := b.keyFile("jump", b.jump)
	if err != nil {
		return err
	}
	account := b.target.User + "+web1"
	if err := lab.WriteConfig(b.config,
		lab.Host{Alias: "direct", Addr: b.target.Addr, HostKey: b.target.HostKey, User: b.target.User, Key: targetKey},
		lab.Host{Alias: "jump", Addr: b.jump.Addr, HostKey: b.jump.HostKey, User: b.jump.User, Key: jumpKey},
		lab.Host{Alias: "viajump", Addr: b.target.Addr, HostKey: b.target.HostKey, User: b.target.User, Key: targetKey, Options: []string{"ProxyJump jump"}},
		lab.Host{Alias: "gate", Addr: b.site.Addr, HostKey: b.site.HostKey, User: account, Key: admin},
		lab.Host{Alias: "console", Addr: b.site.Addr, HostKey: b.site.HostKey, User: "bench", Key: admin},
	); err != nil {
		return err
	}
	for _, step := range []struct{ line, stdin string }{
		{"target add web1 --addr " + b.target.Addr + " --host-key '" + b.target.HostKey + "'", ""},
		{"account add " + account + " --private-key-stdin", string(b.target.PrivateKey)},
		{"grant add bench " + account, ""},
	} {
		c := exec.CommandContext(b.ctx, "ssh", "-F", b.config, "console", step.line)
		c.Stdin = strings.NewReader(step.stdin)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", step.line, err, out)
		}
	}
	return nil
}

func (b *bench) sshd(name string) (*localsshd.Server, error) {
	dir := filepath.Join(b.dir, "sshd-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return localsshd.Start(b.ctx, dir)
}

func (b *bench) keyFile(name string, s *localsshd.Server) (lab.Key, error) {
	k := lab.Key{File: filepath.Join(b.dir, name+".key")}
	return k, os.WriteFile(k.File, s.PrivateKey, 0o600)
}
