package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// sshd NAME LINE... starts an sshd with these lines in its configuration and
// gives the person a grant and a host NAME.
func cmdSSHD(ts *testscript.TestScript, _ bool, args []string) {
	p := personOf(ts)
	dir := ts.MkAbs("sshd-" + args[0])
	ts.Check(os.Mkdir(dir, 0o700))
	s, err := localsshd.Start(context.Background(), dir, args[1:]...)
	ts.Check(err)
	ts.Defer(func() { _ = s.Stop() })
	ts.Check(p.site.addTarget(args[0], s.Addr, s.HostKey, string(s.PrivateKey)))
	ts.Check(p.reach(args[0]))
}

// dropbear NAME does the same with a Dropbear server.
func cmdDropbear(ts *testscript.TestScript, _ bool, args []string) {
	p := personOf(ts)
	dir := ts.MkAbs("dropbear-" + args[0])
	d, err := startDropbear(dir)
	ts.Check(err)
	ts.Defer(d.stop)
	ts.Check(p.site.addTarget(args[0], d.addr, d.hostKey, string(d.privateKey)))
	ts.Check(p.reach(args[0]))
}

// dropbearServer is a Dropbear server on loopback. It reads authorized keys from
// the account's home only, so libnss_wrapper gives the account another home.
type dropbearServer struct {
	addr       string
	hostKey    string // authorized_keys form
	privateKey []byte // of the account's key
	cmd        *exec.Cmd
}

const nssWrapper = "libnss_wrapper.so"

func startDropbear(dir string) (*dropbearServer, error) {
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		return nil, err
	}
	key, err := lab.NewKey(filepath.Join(dir, "key"))
	if err != nil {
		return nil, err
	}
	for name, content := range map[string]string{
		"home/.ssh/authorized_keys": key.Public + "\n",
		"passwd":                    fmt.Sprintf("%s:x:%s:%s::%s:/bin/sh\n", me.Username, me.Uid, me.Gid, home),
		"group":                     fmt.Sprintf("%s:x:%s:\n", me.Username, me.Gid),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	d := &dropbearServer{}
	if d.privateKey, err = os.ReadFile(key.File); err != nil {
		return nil, err
	}
	if d.hostKey, err = dropbearHostKey(filepath.Join(dir, "host")); err != nil {
		return nil, err
	}
	return d, d.start(dir)
}

// dropbearHostKey makes an Ed25519 host key and gives its public half.
func dropbearHostKey(file string) (string, error) {
	if out, err := exec.Command("dropbearkey", "-t", "ed25519", "-f", file).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dropbearkey: %w: %s", err, out)
	}
	out, err := exec.Command("dropbearconvert", "dropbear", "openssh", file, file+".openssh").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dropbearconvert: %w: %s", err, out)
	}
	pem, err := os.ReadFile(file + ".openssh")
	if err != nil {
		return "", err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return "", fmt.Errorf("host key made by dropbearkey: %w", err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

func (d *dropbearServer) start(dir string) error {
	program, err := exec.LookPath("dropbear")
	if err != nil {
		program = "/usr/sbin/dropbear" // not everybody's PATH has it
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command(program, "-F", "-E", "-r", filepath.Join(dir, "host"), "-p", d.addr, "-P", filepath.Join(dir, "pid"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.Env = append(os.Environ(), "LD_PRELOAD="+nssWrapper,
		"NSS_WRAPPER_PASSWD="+filepath.Join(dir, "passwd"), "NSS_WRAPPER_GROUP="+filepath.Join(dir, "group"))
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for range 200 {
		if c, err := net.Dial("tcp", d.addr); err == nil {
			return c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	d.stop()
	text, err := os.ReadFile(log.Name())
	return errors.Join(fmt.Errorf("dropbear does not answer at %s: %s", d.addr, text), err)
}

func (d *dropbearServer) stop() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	_ = d.cmd.Wait()
}
