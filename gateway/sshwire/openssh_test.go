package sshwire

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// findOpenSSH gives the path of an OpenSSH program. Where it is missing the test is skipped, or fails if
// HOLDFAST_REQUIRE_OPENSSH=1.
func findOpenSSH(t *testing.T, name string) string {
	t.Helper()
	for _, p := range []string{"/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/local/sbin/"} {
		if _, err := os.Stat(p + name); err == nil {
			return p + name
		}
	}
	if os.Getenv("HOLDFAST_REQUIRE_OPENSSH") == "1" {
		t.Fatalf("OpenSSH's %s is not installed and HOLDFAST_REQUIRE_OPENSSH=1: install it", name)
	}
	t.Skipf("SKIPPED: OpenSSH's %s is not installed, so nothing is proven about it here", name)
	return ""
}

// opensshKex is what the installed OpenSSH knows of our key exchanges.
func opensshKex(t *testing.T, sshPath string, names []string) (both []string) {
	out, err := exec.Command(sshPath, "-Q", "kex").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.Contains(string(out), n+"\n") {
			both = append(both, n)
		}
	}
	return both
}

// writeKey stores a fresh Ed25519 key as OpenSSH wants it and returns its signer.
func writeKey(t *testing.T, path string) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := must(ssh.MarshalPrivateKey(key, "test"))
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return newSigner(key)
}

// listen serves cfg with echoServer on loopback until the test ends.
func listen(t *testing.T, cfg *ServerConfig) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				c, err := Server(ctx, nc, cfg)
				if err != nil {
					return
				}
				_ = echoServer(c) // ends with the client
				c.Close()
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// opensshClient runs ssh against us.
func opensshClient(t *testing.T, port, key string, stdin []byte, args ...string) (stdout []byte, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	all := append([]string{"-F", "none", "-p", port, "-i", key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"}, args...)
	all = append(all[:len(all)-2:len(all)-2], "-o", "BatchMode=yes", all[len(all)-2], all[len(all)-1]) // the first value counts
	cmd := exec.CommandContext(ctx, findOpenSSH(t, "ssh"), all...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	err = cmd.Run()
	return out.Bytes(), errs.String(), err
}

func TestOpenSSHClient(t *testing.T) {
	sshPath := findOpenSSH(t, "ssh")
	key := filepath.Join(t.TempDir(), "id")
	user := writeKey(t, key)
	server := testServer()
	server.KeyExchanges = append([]string{"diffie-hellman-group14-sha256", "diffie-hellman-group14-sha1"}, defaultKeyExchanges...)
	server.MACs = append([]string{"hmac-sha1"}, defaultMACs...)
	server.Banner = "this session is recorded\n"
	server.Auth.PublicKey = func(_ Meta, k ssh.PublicKey, _ bool) error {
		if sameKey(k, user.PublicKey()) {
			return nil
		}
		return errUnknownKey
	}
	port := listen(t, server)
	data := randomBytes(300_000)
	for _, c := range combinations(opensshKex(t, sshPath, server.KeyExchanges), server.MACs) {
		t.Run(c.String(), func(t *testing.T) {
			args := []string{"-v", "-o", "KexAlgorithms=" + c.kex, "-o", "Ciphers=" + c.cipher}
			if c.mac != "" {
				args = append(args, "-o", "MACs="+c.mac)
			}
			out, log, err := opensshClient(t, port, key, data, append(args, "ann@127.0.0.1", "cat")...)
			if err != nil || !bytes.Equal(out, data) {
				t.Fatalf("%d bytes of %d came back (%v)\n%s", len(out), len(data), err, log)
			}
			for _, want := range []string{"kex: algorithm: " + c.kex, "this session is recorded"} {
				if !strings.Contains(log, want) {
					t.Errorf("ssh -v doesn't say %q\n%s", want, log)
				}
			}
		})
	}
}

func TestOpenSSHClientRekeysUnderLoad(t *testing.T) {
	key := filepath.Join(t.TempDir(), "id")
	findOpenSSH(t, "ssh")
	user := writeKey(t, key)
	server := testServer()
	server.RekeyBytes = 1 << 20 // ours; OpenSSH asks for its own every 700 KiB
	server.Auth.PublicKey = func(_ Meta, k ssh.PublicKey, _ bool) error {
		if sameKey(k, user.PublicKey()) {
			return nil
		}
		return errUnknownKey
	}
	var rekeys atomic.Int64
	server.OnRekey = func(started bool) {
		if started {
			rekeys.Add(1)
		}
	}
	port := listen(t, server)
	data := randomBytes(24 << 20)
	out, log, err := opensshClient(t, port, key, data, "-o", "RekeyLimit=700K", "ann@127.0.0.1", "cat")
	if err != nil || !bytes.Equal(out, data) {
		t.Fatalf("%d bytes of %d came back after %d rekeys (%v)\n%s", len(out), len(data), rekeys.Load(), err, log)
	}
	if rekeys.Load() < 20 {
		t.Errorf("only %d rekeys", rekeys.Load())
	}
}

func TestOpenSSHClientSeesRefusals(t *testing.T) {
	key := filepath.Join(t.TempDir(), "id")
	findOpenSSH(t, "ssh")
	writeKey(t, key)
	server := testServer()
	server.Auth.Accept = func(context.Context, Meta) error {
		return &DisconnectError{ReasonHostNotAllowed, "no grant for web1; ask your approver"}
	}
	server.Auth.KeyboardInteractive = func(m Meta, ask func(string, string, []Prompt) ([]string, error)) error {
		_, err := ask("", "hello "+m.User(), nil)
		return err
	}
	port := listen(t, server)
	_, log, err := opensshClient(t, port, key, nil, "-o", "BatchMode=no", "-o", "PreferredAuthentications=keyboard-interactive", "ann@127.0.0.1", "cat")
	if err == nil || !strings.Contains(log, "no grant for web1; ask your approver") {
		t.Errorf("ssh said (%v):\n%s", err, log)
	}
	_, log, err = opensshClient(t, port, key, nil, "ann@127.0.0.1", "cat")
	if err == nil || !strings.Contains(log, "Permission denied (publickey,keyboard-interactive)") {
		t.Errorf("with an unknown key ssh said (%v):\n%s", err, log)
	}
}

// TestOpenSSHHostbound proves that stock clients use the host-bound variant, and so what our server verifies.
func TestOpenSSHHostbound(t *testing.T) {
	key := filepath.Join(t.TempDir(), "id")
	findOpenSSH(t, "ssh")
	user := writeKey(t, key)
	server := testServer()
	server.Auth.PublicKey = func(_ Meta, k ssh.PublicKey, _ bool) error {
		if sameKey(k, user.PublicKey()) {
			return nil
		}
		return errUnknownKey
	}
	_, log, err := opensshClient(t, listen(t, server), key, nil, "-vvv", "ann@127.0.0.1", "fail")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("exit status %v\n%s", err, log)
	}
	if !strings.Contains(log, "publickey-hostbound@openssh.com=<0>") || !strings.Contains(log, "publickey-hostbound-v00@openssh.com") {
		t.Skipf("SKIPPED: this OpenSSH doesn't use host-bound keys\n%s", log)
	}
}

// sshd as root refuses to start without its privilege separation directory, which packages make at boot.
var (
	separationMade      bool
	privilegeSeparation = sync.OnceFunc(func() {
		separationMade = os.Geteuid() == 0 && os.Mkdir("/run/sshd", 0o755) == nil
	})
)

func TestMain(m *testing.M) {
	code := m.Run()
	if separationMade {
		os.Remove("/run/sshd")
	}
	os.Exit(code)
}

// sshd starts a stock server on loopback that lets the given key log in as the current user.
func sshd(t *testing.T, user ssh.PublicKey, extra ...string) (addr string, host ssh.PublicKey) {
	t.Helper()
	path := findOpenSSH(t, "sshd")
	privilegeSeparation()
	dir := t.TempDir()
	host = writeKey(t, filepath.Join(dir, "host")).PublicKey()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	addr = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	lines := append([]string{
		"Port " + port, "ListenAddress 127.0.0.1", "HostKey " + filepath.Join(dir, "host"),
		"AuthorizedKeysFile " + filepath.Join(dir, "authorized"), "StrictModes no", "UsePAM no", "PidFile none",
		"PermitRootLogin yes", "PasswordAuthentication no", "MaxStartups 100", "LogLevel VERBOSE", "UseDNS no",
		"KexAlgorithms +diffie-hellman-group14-sha1", "MACs +hmac-sha1",
	}, extra...)
	if err := os.WriteFile(filepath.Join(dir, "authorized"), ssh.MarshalAuthorizedKey(user), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(path, "-f", filepath.Join(dir, "config"), "-D", "-e")
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // its children end with their connections, which the tests close
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd said:\n%s", log.String())
		}
	})
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr, host
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("sshd didn't listen on %s:\n%s", addr, log.String())
	return "", nil
}

// dialSSHD logs in to a stock sshd.
func dialSSHD(t *testing.T, addr string, host ssh.PublicKey, cfg *ClientConfig) (*Conn, error) {
	t.Helper()
	cfg.User = strings.TrimSpace(string(must(exec.Command("id", "-un").Output())))
	cfg.HostKeyAlgorithms = []string{host.Type()}
	cfg.HostKey = func(_ net.Addr, k ssh.PublicKey) error {
		if !sameKey(k, host) {
			return errUnknownKey
		}
		return nil
	}
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return Client(ctx, nc, cfg)
}

func TestOpenSSHServer(t *testing.T) {
	t.Parallel()
	addr, host := sshd(t, testKeys().user.PublicKey())
	kexes := opensshKex(t, findOpenSSH(t, "ssh"), append([]string{"diffie-hellman-group14-sha1", "diffie-hellman-group14-sha256"}, defaultKeyExchanges...))
	data := randomBytes(300_000)
	for _, c := range combinations(kexes, append([]string{"hmac-sha1"}, defaultMACs...)) {
		t.Run(c.String(), func(t *testing.T) {
			cfg := testClient()
			cfg.Config = c.config()
			conn, err := dialSSHD(t, addr, host, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			out, status, err := runExec(conn, "cat; exit 7", data)
			if err != nil || status != 7 || !bytes.Equal(out, data) {
				t.Fatalf("%d bytes of %d, status %d, %v", len(out), len(data), status, err)
			}
		})
	}
}

func TestOpenSSHServerRekeysUnderLoad(t *testing.T) {
	t.Parallel()
	addr, host := sshd(t, testKeys().user.PublicKey(), "RekeyLimit 700K")
	cfg := testClient()
	cfg.RekeyBytes = 1 << 20
	conn, err := dialSSHD(t, addr, host, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	data := randomBytes(24 << 20)
	out, status, err := runExec(conn, "cat", data)
	if err != nil || status != 0 || !bytes.Equal(out, data) {
		t.Fatalf("%d bytes of %d, status %d, %v", len(out), len(data), status, err)
	}
	if conn.kex.rounds < 20 {
		t.Errorf("only %d key exchanges", conn.kex.rounds)
	}
}

func TestOpenSSHServerRefusesOurKey(t *testing.T) {
	addr, host := sshd(t, testKeys().user.PublicKey())
	cfg := testClient()
	cfg.Auth = []ClientAuth{PublicKeys(testKeys().other), Password(func() ([]byte, error) { return []byte("x"), nil })}
	_, err := dialSSHD(t, addr, host, cfg)
	var refused *AuthError
	if !errors.As(err, &refused) || fmt.Sprint(refused.Tried) != "[publickey]" {
		t.Fatalf("got %v", err)
	}
}

func TestOpenSSHServerRSAUserKey(t *testing.T) {
	addr, host := sshd(t, testKeys().userRSA.PublicKey())
	cfg := testClient()
	cfg.Auth = []ClientAuth{PublicKeys(testKeys().userRSA)}
	conn, err := dialSSHD(t, addr, host, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if out, _, err := runExec(conn, "printf hello", nil); err != nil || string(out) != "hello" {
		t.Fatalf("%q, %v", out, err)
	}
	if !strings.Contains(strings.Join(conn.kex.sigAlgs, ","), "rsa-sha2-512") {
		t.Errorf("server-sig-algs were read as %q", conn.kex.sigAlgs)
	}
}
