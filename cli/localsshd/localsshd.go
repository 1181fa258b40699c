// Package localsshd runs a private OpenSSH server on loopback as the user that
// runs the program, with throw-away keys in a directory of the caller's. The
// demo, the tests and the benchmarks use it as their real target.
package localsshd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrNotInstalled says that this machine has no OpenSSH server.
var ErrNotInstalled = errors.New("no OpenSSH server (sshd) on this machine; install Debian's package openssh-server")

// Server is a running sshd.
type Server struct {
	Addr       string // 127.0.0.1:port
	User       string // the only account that can log in
	HostKey    string // authorized_keys form
	PrivateKey []byte // PEM (OpenSSH form) of the key that User logs in with
	Made       string // directory outside dir that Start had to make and that other servers may use by now, or ""

	cmd  *exec.Cmd
	done chan struct{}
	log  string
	stop sync.Once
}

// privsepDir must exist for an sshd that runs as root.
const privsepDir = "/run/sshd"

// Find gives the path of sshd, or ErrNotInstalled.
func Find() (string, error) {
	for _, name := range []string{"sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path) // sshd re-executes itself and wants an absolute path
		}
	}
	return "", ErrNotInstalled
}

// Start makes keys and a configuration in dir and runs sshd until Stop. Lines
// in extra are added to the configuration and win over the defaults.
func Start(ctx context.Context, dir string, extra ...string) (*Server, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("find the current user: %w", err)
	}
	s := &Server{User: me.Username, log: filepath.Join(dir, "sshd.log"), done: make(chan struct{})}
	if s.Addr, err = freeAddr(); err != nil {
		return nil, err
	}
	if err := s.writeFiles(dir, extra); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		if err := os.Mkdir(privsepDir, 0o755); err == nil {
			s.Made = privsepDir
		} else if !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("sshd needs %s when it runs as root: %w", privsepDir, err)
		}
	}
	s.cmd = exec.Command(path, "-D", "-f", filepath.Join(dir, "sshd_config"), "-E", s.log)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	go func() {
		_ = s.cmd.Wait() // its end is what matters; how it ended is in its log
		close(s.done)
	}()
	if err := s.waitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Stop ends the server and its sessions and waits for it.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM) // already gone is fine
		select {
		case <-s.done:
		case <-time.After(3 * time.Second):
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
			<-s.done
		}
	})
	return nil
}

// Pid is the process id of the server, for tests that stop or kill it.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Log is what the server has logged so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *Server) writeFiles(dir string, extra []string) error {
	hostPEM, hostPub, err := newKey()
	if err != nil {
		return err
	}
	clientPEM, clientPub, err := newKey()
	if err != nil {
		return err
	}
	s.HostKey, s.PrivateKey = hostPub, clientPEM
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	config := strings.Join(append(extra,
		"ListenAddress 127.0.0.1", "Port "+port,
		"HostKey "+filepath.Join(dir, "host_key"),
		"AuthorizedKeysFile "+filepath.Join(dir, "authorized_keys"),
		// bash reads the person's own start-up files for a command over ssh unless
		// its level says that it is an inner shell
		"SetEnv SHLVL=1",
		"PidFile none", "StrictModes no", "UsePAM no", "PermitRootLogin yes",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"PrintMotd no", "PrintLastLog no", "UseDNS no", "LogLevel VERBOSE",
		"MaxStartups 200", "MaxSessions 100",
		"Subsystem sftp internal-sftp"), "\n") + "\n"
	for name, content := range map[string][]byte{
		"host_key": hostPEM, "authorized_keys": []byte(clientPub + "\n"), "sshd_config": []byte(config),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("set up sshd: %w", err)
		}
	}
	return nil
}

func (s *Server) waitReady(ctx context.Context) error {
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if c, err := net.DialTimeout("tcp", s.Addr, time.Second); err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return fmt.Errorf("sshd ended at once; its log: %s", s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("sshd does not answer at %s; its log: %s", s.Addr, s.Log())
}

// freeAddr finds a loopback port that is free now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// newKey makes an Ed25519 key: private in OpenSSH form, public in
// authorized_keys form.
func newKey() (private []byte, public string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return nil, "", fmt.Errorf("encode a key: %w", err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, "", fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(block), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPub))), nil
}
