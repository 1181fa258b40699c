package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// meshNet is three sites, each on a machine of its own as far as the network
// goes: one network between the sites, one on which people and targets are.
type meshNet struct {
	t     *testing.T
	hub   *namespace // people and targets
	sites []*netSite
	bob   lab.Key
}

// netSite is a site of a meshNet with what is done there.
type netSite struct {
	*meshSite
	work *work
}

const lan = "10.8.0.254"

func newMeshNet(t *testing.T) *meshNet {
	t.Helper()
	requireOpenSSH(t)
	requirePrograms(t, "/usr/sbin/nft", "ip", "unshare", "nsenter")
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	small := smallDisk(t, "160") // first, so that it goes last
	m := &meshNet{t: t, hub: newNamespace(t)}
	m.hub.shell(t, "ip link add lan type bridge && ip addr add "+lan+"/24 dev lan && ip link set lan up && ip link add wan type bridge && ip link set wan up")
	dir := t.TempDir()
	admin, err := lab.NewKey(filepath.Join(dir, "admin"))
	if err != nil {
		t.Fatal(err)
	}
	if m.bob, err = lab.NewKey(filepath.Join(dir, "bob")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOLDFAST_LOG_SEGMENT_SIZE", "8388608")
	t.Setenv("HOLDFAST_LOG_HEADROOM", "1048576")
	for i, name := range []string{"a", "b", "c"} {
		s := &netSite{meshSite: newMeshSite(t, binary, name, admin)}
		s.net = newNamespace(t)
		s.net.plug(t, m.hub, "lan", "lan", fmt.Sprintf("10.8.0.%d", i+1))
		s.net.plug(t, m.hub, "wan", "wan", fmt.Sprintf("10.9.0.%d", i+1))
		s.net.firewall(t)
		s.ssh, s.mesh = fmt.Sprintf("10.8.0.%d:2222", i+1), fmt.Sprintf("10.9.0.%d:7000", i+1)
		s.person = m.hub
		m.sites = append(m.sites, s)
	}
	m.sites[2].dir = small
	m.sites[2].configured = filepath.Join(dir, "c.ssh_config")
	return m
}

// wan is the address of a site on the network between the sites.
func (s *netSite) wan() string { host, _, _ := net.SplitHostPort(s.mesh); return host }

// join brings the sites up as one mesh, each with an account of its own on a
// target of its own, and one that all use.
func (m *meshNet) join() {
	m.t.Helper()
	a := m.sites[0]
	for _, s := range m.sites {
		s.up()
	}
	for _, s := range m.sites[1:] {
		s.do("mesh join "+a.do("mesh invite "+s.name+" --addr "+a.mesh, ""), "")
	}
	for _, s := range m.sites {
		m.linked(s)
	}
	a.do("user add bob --key '"+m.bob.Public+"'", "")
	for _, name := range []string{"all", "shared", "a", "b", "c"} {
		sshd := m.target()
		a.do("target add "+name+" --addr "+sshd.addr+" --host-key '"+sshd.HostKey+"'", "")
		a.do("account add "+sshd.User+"+"+name+" --private-key-stdin --param authorized-keys="+sshd.keys, string(sshd.PrivateKey))
		a.do("grant add admin "+sshd.User+"+"+name, "")
	}
	for _, s := range m.sites {
		s.until("grant ls", "+c")
		s.begin(m)
	}
}

// netTarget is an sshd on the people's network.
type netTarget struct {
	*localsshd.Server
	addr, keys string
}

func (m *meshNet) target() netTarget {
	m.t.Helper()
	dir := m.t.TempDir()
	var s *localsshd.Server
	var err error
	m.hub.do(m.t, func() { s, err = localsshd.Start(m.t.Context(), dir, "ListenAddress "+lan) })
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = s.Stop() })
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		m.t.Fatal(err)
	}
	return netTarget{s, net.JoinHostPort(lan, port), filepath.Join(dir, "authorized_keys")}
}

// linked waits until a site is linked to all others.
func (m *meshNet) linked(s *netSite) {
	m.t.Helper()
	eventually(m.t, time.Minute, s.name+" is linked to all others", func() bool {
		out, err := s.try("mesh status --json", "")
		return err == nil && strings.Count(out, `"state":"linked"`) == len(m.sites)-1
	})
}

// decide has every site decide something.
func (m *meshNet) decide(about string) (groups []string) {
	m.t.Helper()
	for _, s := range m.sites {
		name := strings.ReplaceAll(about, " ", "-") + "-" + s.name
		s.do("group add "+name, "")
		groups = append(groups, name)
	}
	return groups
}

// know waits until every site knows groups.
func (m *meshNet) know(groups []string) {
	m.t.Helper()
	for _, s := range m.sites {
		eventually(m.t, time.Minute, s.name+" knows what all have decided", func() bool {
			out, err := s.try("group ls --json --limit 100000", "")
			return err == nil && !slices.ContainsFunc(groups, func(g string) bool { return !strings.Contains(out, `"name":"`+g+`"`) })
		})
	}
}

// cut drops everything between some sites and the others, both ways.
func (m *meshNet) cut(side ...*netSite) {
	for _, s := range m.sites {
		for _, o := range m.sites {
			if slices.Contains(side, s) != slices.Contains(side, o) {
				s.net.deafen(m.t, o.wan())
			}
		}
	}
}

func (m *meshNet) heal() {
	for _, s := range m.sites {
		s.net.hear(m.t)
	}
}

// The network between three sites is cut in several ways, sites are killed,
// stopped, and run out of disk, while people work at all of them. No session
// ends by a cut or a heal, what a site said is done is known to all of them
// afterwards, and all come to the same state.
func TestMeshUnderFaults(t *testing.T) {
	m := newMeshNet(t)
	m.join()
	a, b, c := m.sites[0], m.sites[1], m.sites[2]
	step := func(name string, f func()) {
		t.Helper()
		f()
		news := m.decide(name)
		began := time.Now()
		m.heal()
		m.know(news)
		took := time.Since(began)
		if took > 10*time.Second {
			t.Errorf("%s: the sites knew of each other's decisions %s after the heal", name, took)
			for _, s := range m.sites {
				t.Logf("%s: %s", s.name, s.proc.Stderr())
			}
		}
		for _, s := range m.sites {
			m.linked(s)
		}
		for _, s := range m.sites {
			s.work.alive()
		}
		t.Logf("%s: all known %s after the heal; so far %s", name, took.Round(time.Millisecond), m.done())
	}
	faults := []struct {
		name string
		f    func()
	}{
		{"a is cut off", func() {
			m.cut(a)
			time.Sleep(2 * time.Second)
			for _, s := range []*netSite{a, b} { // the target takes one of them
				_, _ = s.try("rotate run root+shared --wait", "")
			}
			time.Sleep(time.Second)
		}},
		{"b hears nobody", func() { b.net.deafen(t, a.wan(), c.wan()); time.Sleep(4 * time.Second) }},
		{"a and b reach each other by c only", func() { a.net.deafen(t, b.wan()); b.net.deafen(t, a.wan()); time.Sleep(3 * time.Second) }},
		{"the network flaps", func() {
			for range 6 {
				m.cut(b)
				time.Sleep(400 * time.Millisecond)
				m.heal()
				time.Sleep(300 * time.Millisecond)
			}
		}},
		{"b is killed", func() {
			b.work.hurt.Store(true)
			b.crash()
			time.Sleep(time.Second)
			b.up()
			b.work.hurt.Store(false)
			b.work.again()
		}},
		{"c is stopped", func() {
			c.work.hurt.Store(true) // what people do there waits, and may be told to be late
			signalSite(t, c.meshSite, syscall.SIGSTOP)
			time.Sleep(9 * time.Second) // longer than a link may be silent
			signalSite(t, c.meshSite, syscall.SIGCONT)
			c.work.hurt.Store(false)
		}},
		{"c has no room", func() {
			c.work.hurt.Store(true)
			filler := filepath.Join(c.dir, "filler")
			fill(t, filler)
			time.Sleep(3 * time.Second)
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			eventually(t, 30*time.Second, "c decides and takes sessions again", func() bool { return c.work.retried("room again", c.work.ask(0)) })
			c.work.hurt.Store(false)
			c.work.again()
		}},
	}
	step("all is well", func() { time.Sleep(time.Second) })
	for _, fault := range faults {
		step(fault.name, fault.f)
	}
	if full {
		seed := time.Now().UnixNano()
		t.Logf("seed %d", seed)
		chance := rand.New(rand.NewPCG(uint64(seed), 0))
		for i := range 5 * len(faults) {
			fault := faults[chance.IntN(len(faults))]
			step(fmt.Sprintf("%s %d", fault.name, i), fault.f)
		}
	}
	for _, s := range m.sites {
		s.work.end()
	}
	for _, s := range m.sites {
		s.until("rotate status root+shared --json", `"state":"ok"`)
		if out, err := output(m.hub.command("ssh", "-F", s.configured, "-l", "root+shared", "gw", "echo in")); err != nil || out != "in\n" {
			t.Errorf("a session at %s to the account whose secret both sides of a cut rotated: %q, %v", s.name, out, err)
		}
	}
	m.agree()
}

func (m *meshNet) done() string {
	var all []string
	for _, s := range m.sites {
		all = append(all, s.name+": "+s.work.String())
	}
	return strings.Join(all, "; ")
}

// agree compares what all sites hold with what was acknowledged, with each
// other, and with what comes of it from nothing.
func (m *meshNet) agree() {
	m.t.Helper()
	for i, s := range m.sites {
		sameDigests(m.t, s.meshSite, m.sites[(i+1)%len(m.sites)].meshSite)
	}
	stands := map[stand][]string{}
	for _, s := range m.sites {
		groups, requests := s.do("group ls --json --limit 100000", ""), s.do("request ls --json --limit 100000", "")
		for _, at := range m.sites {
			for _, name := range at.work.groups {
				if !strings.Contains(groups, `"name":"`+name+`"`) {
					m.t.Errorf("%s acknowledged group %s, and %s does not know it", at.name, name, s.name)
				}
			}
			for _, id := range at.work.requests {
				if !strings.Contains(requests, id) {
					m.t.Errorf("%s acknowledged request %s, and %s does not know it", at.name, id, s.name)
				}
			}
		}
		out, err := s.try("log verify", "")
		if err != nil {
			m.t.Errorf("log verify: %v\n%s", err, out)
		}
		now := m.rebuilt(s)
		stands[now] = append(stands[now], s.name)
	}
	if len(stands) > 1 {
		m.t.Errorf("the sites show different things: %+v", stands)
	}
}

// stand is what a site's decisions and views come to.
type stand struct {
	Item struct{ Clock, Digest, Views string }
}

// rebuilt compares what a site's state and views are with what they are when
// they are built again from nothing.
func (m *meshNet) rebuilt(s *netSite) (live stand) {
	m.t.Helper()
	read := func(line string) (d stand) {
		if err := json.Unmarshal([]byte(s.do(line, "")), &d); err != nil {
			m.t.Fatal(err)
		}
		return d
	}
	live = read("projection digest --json")
	if anew := read("projection digest --json --at '" + live.Item.Clock + "'"); anew.Item.Digest != live.Item.Digest {
		m.t.Errorf("%s came to %+v, and from nothing to %+v", s.name, live, anew)
	}
	if views := read("projection rebuild --json"); views != live {
		m.t.Errorf("%s showed %+v, and %+v after a rebuild", s.name, live, views)
	}
	return live
}

// output runs a command for what it prints.
func output(cmd *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said.String())
	}
	return out.String(), err
}
