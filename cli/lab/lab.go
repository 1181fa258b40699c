// Package lab sets up a throw-away installation on loopback: a site as a
// process of its own, a real sshd as target, keys, and an ssh_config, so that
// stock clients run as a person would run them. The demo, the end-to-end tests
// and the benchmarks stand on it.
package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// Site is a running `holdfast up`.
type Site struct {
	Data    string // its data directory
	Addr    string // of its SSH gateway
	HostKey string // authorized_keys form
	Mesh    string // of its mesh port; empty without one
	Ready   string // the line that it printed when it was ready

	cmd    *exec.Cmd
	done   chan struct{}
	stderr *tail
	err    error // of the process; set before done is closed
}

// Up runs binary with `up --data data` and args, and waits until it is ready.
func Up(ctx context.Context, binary, data string, args ...string) (*Site, error) {
	s := &Site{Data: data, done: make(chan struct{}), stderr: &tail{}}
	s.cmd = exec.Command(binary, append([]string{"up", "--data", data}, args...)...)
	s.cmd.Stderr = s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the terminal is not for it
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the site: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the site: %w", err)
	}
	ready := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(stdout)
		line, _ := lines.ReadString('\n') // "" when it ended first
		ready <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, lines) // until the process ends
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	select {
	case s.Ready = <-ready:
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.Kill())
	case <-time.After(60 * time.Second):
		return nil, errors.Join(errors.New("the site is not ready after 60 s: "+s.stderr.String()), s.Kill())
	}
	if s.Ready == "" {
		<-s.done
		return nil, fmt.Errorf("the site did not start (%w): %s", s.err, s.stderr)
	}
	_, s.Mesh, _ = strings.Cut(s.Ready, ", mesh ")
	return s, s.readRunFile()
}

func (s *Site) readRunFile() error {
	b, err := os.ReadFile(filepath.Join(s.Data, "run", "site.json"))
	if err != nil {
		return fmt.Errorf("find the site's address: %w", err)
	}
	var run struct{ SSH, HostKey string }
	if err := json.Unmarshal(b, &run); err != nil {
		return fmt.Errorf("find the site's address: %w", err)
	}
	s.Addr, s.HostKey = run.SSH, run.HostKey
	return nil
}

// Stop asks the site to end and waits for it.
func (s *Site) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already; Wait tells
	select {
	case <-s.done:
		return s.err
	case <-time.After(30 * time.Second):
		return errors.Join(errors.New("the site did not stop within 30 s"), s.Kill())
	}
}

// Kill ends the site as a crash would (SIGKILL) and waits for it.
func (s *Site) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the site: %w", err)
	}
	<-s.done
	return nil
}

// Pid is the site's process id.
func (s *Site) Pid() int { return s.cmd.Process.Pid }

// Done is closed when the process has ended.
func (s *Site) Done() <-chan struct{} { return s.done }

// Ended says how the process ended, in one line: once Done is closed.
func (s *Site) Ended() string {
	how := "the site at " + s.Addr + " ended by itself, " + s.cmd.ProcessState.String()
	if text := strings.TrimSpace(s.Stderr()); text != "" {
		return how + ": " + text
	}
	return how + ", and said nothing: somebody stopped it"
}

// Stderr is the end of what the site printed on standard error.
func (s *Site) Stderr() string { return s.stderr.String() }

// Key is an SSH key pair in a file, as a person has one.
type Key struct {
	File   string // private half, mode 0600; the public half is beside it with .pub
	Public string // authorized_keys form
}

// NewKey makes an Ed25519 key in file.
func NewKey(file string) (Key, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make a key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return Key{}, fmt.Errorf("encode a key: %w", err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return Key{}, fmt.Errorf("encode a key: %w", err)
	}
	k := Key{File: file, Public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPub)))}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return Key{}, fmt.Errorf("write a key: %w", err)
	}
	return k, os.WriteFile(file+".pub", []byte(k.Public+"\n"), 0o644)
}

// Host is an entry of an ssh_config.
type Host struct {
	Alias, Addr, HostKey string
	User                 string // "" leaves it to the command line
	Key                  Key
	Options              []string // further lines
	Authority            string   // key that certifies the host by its alias; in place of HostKey
}

// WriteConfig writes an ssh_config with the hosts, and a known_hosts beside
// it; `ssh -F file ALIAS` then works without a question.
func WriteConfig(file string, hosts ...Host) error {
	var config, known bytes.Buffer
	for _, h := range hosts {
		ip, port, err := net.SplitHostPort(h.Addr)
		if err != nil {
			return fmt.Errorf("ssh_config of %s: %w", h.Alias, err)
		}
		fmt.Fprintf(&config, "Host %s\n  HostName %s\n  Port %s\n  HostKeyAlias %s\n  IdentityFile %s\n", h.Alias, ip, port, h.Alias, h.Key.File)
		if h.User != "" {
			fmt.Fprintf(&config, "  User %s\n", h.User)
		}
		for _, o := range h.Options {
			fmt.Fprintf(&config, "  %s\n", o)
		}
		if h.Authority != "" {
			fmt.Fprintf(&known, "@cert-authority %s %s\n", h.Alias, h.Authority)
			continue
		}
		fmt.Fprintf(&known, "%s %s\n", h.Alias, h.HostKey)
	}
	fmt.Fprintf(&config, "Host *\n  IdentitiesOnly yes\n  IdentityAgent none\n  BatchMode yes\n  StrictHostKeyChecking yes\n  UpdateHostKeys no\n  GlobalKnownHostsFile /dev/null\n  UserKnownHostsFile %s.known_hosts\n", file)
	if err := os.WriteFile(file+".known_hosts", known.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write known_hosts: %w", err)
	}
	if err := os.WriteFile(file, config.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write ssh_config: %w", err)
	}
	return nil
}

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
