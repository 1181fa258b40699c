// Package targettest starts real targets for tests: an OpenSSH server with Unix
// accounts of its own, PostgreSQL, MariaDB and OpenLDAP, all on loopback, in
// throw-away directories, ended with the test. What is not installed, or may
// not be started by this user, skips the test; with HOLDFAST_REQUIRE_CLIENTS=1 it
// fails instead.
package targettest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Missing skips the test for want of something, or fails it where all must be there.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("HOLDFAST_REQUIRE_CLIENTS") == "1" {
		t.Fatalf("missing: %s; run .ci/setup as root", what)
	}
	t.Skipf("missing: %s; .ci/setup installs it", what)
}

// program finds a program, also where root's path does not lead.
func program(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
			if path, err := exec.LookPath(dir + name); err == nil {
				return path
			}
		}
		if found, _ := filepath.Glob(name); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	Missing(t, strings.Join(names, " or "))
	return ""
}

// asUser gives the credential of the first of some system users that there is;
// nil for tests that don't run as root.
func asUser(t testing.TB, names ...string) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	Missing(t, "a system user "+strings.Join(names, " or "))
	return nil
}

// dir makes a directory that a server's user owns, with a short path: sockets
// may lie in it.
func dir(t testing.TB, owner *syscall.Credential) string {
	t.Helper()
	d, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(d); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(d, 0o711); err != nil {
		t.Fatal(err)
	}
	give(t, d, owner)
	return d
}

func give(t testing.TB, path string, owner *syscall.Credential) {
	t.Helper()
	if owner != nil {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t testing.TB, path, content string, owner *syscall.Credential) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	give(t, path, owner)
}

// freePort finds a loopback port that is free now.
func freePort(t testing.TB) (addr, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return l.Addr().String(), port
}

// run runs a program to its end.
func run(t testing.TB, as *syscall.Credential, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// server is a program that runs until the test ends.
type server struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// serve starts a server with its output in a file and waits until it answers.
func serve(t testing.TB, as *syscall.Credential, log, addr, name string, args ...string) *server {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	give(t, log, as)
	s := &server{cmd: exec.Command(name, args...), done: make(chan struct{}), log: log}
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Dir = out, out, "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.done)
	}()
	t.Cleanup(s.Stop)
	for range 600 {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = c.Close()
			return s
		}
		select {
		case <-s.done:
			t.Fatalf("%s ended at once:\n%s", name, s.Log())
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not answer at %s:\n%s", name, addr, s.Log())
	return nil
}

// Pid is the server's process, which leads its group.
func (s *server) Pid() int { return s.cmd.Process.Pid }

// Stop ends the server and what it has started.
func (s *server) Stop() {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} { // SIGINT: what PostgreSQL calls a fast shutdown
		_ = syscall.Kill(-s.cmd.Process.Pid, signal)
		if s.cmd.Process.Pid > 0 && signal == syscall.SIGINT {
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
		}
		select {
		case <-s.done:
			return
		case <-time.After(10 * time.Second):
		}
	}
}

// waitFor waits until the server's log holds a text.
func (s *server) waitFor(t testing.TB, text string) {
	t.Helper()
	for range 3000 {
		if strings.Contains(s.Log(), text) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the server does not say %q:\n%s", text, s.Log())
}

// Log is what the server has written.
func (s *server) Log() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "target"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	pkcs8, err2 := x509.MarshalPKCS8PrivateKey(private)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
