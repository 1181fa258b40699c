package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// soak is a load of mixed sessions: how many, for how long.
func soak(t *testing.T) (sessions int, length time.Duration) {
	sessions, length = 40, 10*time.Second
	if v := os.Getenv("HOLDFAST_SOAK"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("HOLDFAST_SOAK: %v", err)
		}
		sessions, length = 500, d
	}
	return sessions, length
}

// Mixed sessions for a while: typing, commands, bulk both ways, idling, short
// ones in a row. Nothing fails, memory stays flat, nothing is left open, and
// the log verifies. How long comes from HOLDFAST_SOAK (`make soak`).
func TestSoak(t *testing.T) {
	n, length := soak(t)
	t.Setenv("HOLDFAST_SSH_DIAL_TIMEOUT", "2m") // what is loaded is the machine, the sshd on it above all
	t.Setenv("HOLDFAST_SSH_LOGIN_GRACE", "2m")
	t.Setenv("HOLDFAST_SSH_MAX_UNAUTHENTICATED_PER_SOURCE", "200") // that many people are not all at one address
	in := install(t)
	client := in.goClient()
	before := in.resources()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	load := &soakLoad{addr: in.site.Addr, client: client, ready: make(chan struct{}, n), pause: time.Duration(n) * time.Second / soakRate}
	failed := make(chan error, n)
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			if err := load.session(ctx, i); err != nil {
				failed <- fmt.Errorf("session %d: %w", i, err)
			}
		})
		time.Sleep(35 * time.Millisecond) // the door lets 32 a second in from one address
	}
	for range n {
		select {
		case <-load.ready:
		case err := <-failed:
			t.Fatal(err)
		}
	}
	opened := time.Now()
	var memory []int64 // once all are open, in equal steps
	for time.Since(opened) < length {
		time.Sleep(min(10*time.Second, length/10))
		memory = append(memory, residentSet(t, fmt.Sprintf("/proc/%d/", in.site.Pid())))
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
	}
	busy := in.resources()
	cancel()
	work.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	in.settles(before)
	in.console("", "log verify")
	quarter := max(len(memory)/4, 1)
	early, late := mean(memory[:quarter]), mean(memory[len(memory)-quarter:])
	t.Logf("%d sessions, %v, %d rounds of work; memory %d MiB before, %d MiB in the first quarter, %d MiB in the last, %d MiB at most; %d descriptors, %d goroutines",
		n, length, load.done.Load(), before.memory>>20, early>>20, late>>20, slices.Max(memory)>>20, busy.descriptors, busy.goroutines)
	if late > early+early/5+(16<<20) {
		t.Errorf("memory grew from %d MiB to %d MiB", early>>20, late>>20)
	}
}

func mean(all []int64) (sum int64) {
	for _, v := range all {
		sum += v
	}
	return sum / int64(len(all))
}

// goClient is a client configuration with the administrator's key.
func (in *installation) goClient() *ssh.ClientConfig {
	in.t.Helper()
	private, err := os.ReadFile(in.admin.File)
	if err != nil {
		in.t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		in.t.Fatal(err)
	}
	host, _, _, _, err := ssh.ParseAuthorizedKey([]byte(in.site.HostKey))
	if err != nil {
		in.t.Fatal(err)
	}
	return &ssh.ClientConfig{
		User: in.account(), Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(host), Timeout: 60 * time.Second,
	}
}

// soakLoad is what the sessions of a soak share.
type soakLoad struct {
	addr   string
	client *ssh.ClientConfig
	ready  chan struct{} // one for each session that is open
	pause  time.Duration // between two rounds of a session, on average
	done   atomic.Int64  // rounds of work
}

// soakWork is what sessions do in each round, by turns; nil is nothing.
var soakWork = []func(*ssh.Client) error{typing, command, upload, nil, download, command}

// soakRate is how many rounds of work all sessions together begin in a second: what the sshd and the shells of the
// target need for more would keep two cores busy, and the gateway would not be what is tested.
const soakRate = 15

// again is which of them begins a new connection in each round.
const again = 5

// session opens one connection and works on it until ctx ends; its number says
// at what.
func (l *soakLoad) session(ctx context.Context, i int) error {
	c, err := l.dial()
	if err != nil {
		return err
	}
	defer func() { c.Close() }()
	l.ready <- struct{}{}
	kind := i % len(soakWork)
	select { // not all at once
	case <-ctx.Done():
	case <-time.After(rand.N(l.pause)):
	}
	for work := soakWork[kind]; ctx.Err() == nil; {
		if work != nil {
			if err := work(c); err != nil {
				return err
			}
			l.done.Add(1)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(l.pause/2 + rand.N(l.pause)):
		}
		if kind == again && rand.IntN(4) == 0 { // a handshake costs more than all else
			next, err := l.dial()
			if err != nil {
				return err
			}
			if err := c.Close(); err != nil {
				return err
			}
			c = next
		}
	}
	return nil
}

// dial waits its turn: the door lets in so many a second.
func (l *soakLoad) dial() (*ssh.Client, error) {
	for try := 0; ; try++ {
		tcp, err := net.Dial("tcp", l.addr)
		if err != nil {
			return nil, fmt.Errorf("dial: %w", err)
		}
		conn, channels, requests, err := ssh.NewClientConn(tcp, l.addr, l.client)
		if err == nil {
			return ssh.NewClient(conn, channels, requests), nil
		}
		_ = tcp.Close() // it was refused
		if try == 10 || !strings.Contains(err.Error(), "too many new connections") {
			return nil, fmt.Errorf("log in: %w", err)
		}
		time.Sleep(time.Second)
	}
}

func typing(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		return err
	}
	stdin, err := s.StdinPipe()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	s.Stdout = &out
	if err := s.Start("cat"); err != nil {
		return err
	}
	for _, key := range "hold fast\n\x04" {
		if _, err := stdin.Write([]byte(string(key))); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := s.Wait(); err != nil || !strings.Contains(out.String(), "hold fast") {
		return fmt.Errorf("typing: %q, %w", out.String(), err)
	}
	return nil
}

func command(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	out, err := s.Output("echo works")
	if err != nil || string(out) != "works\n" {
		return fmt.Errorf("command: %q, %w", out, err)
	}
	return nil
}

func upload(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	h := sha256.New()
	s.Stdin = io.TeeReader(stream(256<<10), h)
	out, err := s.Output("sha256sum")
	if err != nil || !strings.HasPrefix(string(out), hexSum(h)) {
		return fmt.Errorf("upload: %.70s, %w", out, err)
	}
	return nil
}

func download(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	const size = 256 << 10
	out, err := s.Output("head -c 262144 /dev/zero")
	if err != nil || len(out) != size || len(bytes.TrimLeft(out, "\x00")) > 0 {
		return fmt.Errorf("download: %d bytes, %w", len(out), err)
	}
	return nil
}
