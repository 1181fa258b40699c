package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
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

// Mixed sessions for a while: typing, commands, bulk, idling. Nothing fails,
// memory stays flat, nothing is left open, and the log verifies. A session
// count and time for CI and for `make soak` come from HOLDFAST_SOAK.
func TestSoak(t *testing.T) {
	n, length := soak(t)
	in := install(t)
	client := in.goClient()
	before := in.resources()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var done atomic.Int64
	var work sync.WaitGroup
	ready := make(chan struct{}, n)
	failed := make(chan error, n)
	for i := range n {
		work.Go(func() {
			if err := soakSession(ctx, in.site.Addr, client, i, ready, &done); err != nil {
				failed <- fmt.Errorf("session %d: %w", i, err)
			}
		})
		time.Sleep(30 * time.Millisecond) // the door lets 32 a second in from one address
	}
	for range n {
		select {
		case <-ready:
		case err := <-failed:
			t.Fatal(err)
		}
	}
	early := in.resources()
	work.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	late := in.resources()
	in.settles(before)
	in.console("", "log verify")
	t.Logf("%d sessions, %v, %d rounds of work; memory %d MiB with all open, %d MiB at the end, %d MiB before",
		n, length, done.Load(), early.memory>>20, late.memory>>20, before.memory>>20)
	if late.memory > early.memory+early.memory/2+(64<<20) {
		t.Errorf("memory grew from %d MiB to %d MiB", early.memory>>20, late.memory>>20)
	}
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

// soakSession opens one connection and works on it until ctx ends; its number
// says at what.
func soakSession(ctx context.Context, addr string, cfg *ssh.ClientConfig, i int, ready chan<- struct{}, done *atomic.Int64) error {
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	conn, channels, requests, err := ssh.NewClientConn(tcp, addr, cfg)
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	c := ssh.NewClient(conn, channels, requests)
	defer c.Close()
	ready <- struct{}{}
	for ctx.Err() == nil {
		var err error
		switch i % 4 {
		case 0:
			err = typing(c)
		case 1:
			err = command(c)
		case 2:
			err = bulk(c)
		}
		if err != nil {
			return err
		}
		done.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(500+rand.IntN(2000)) * time.Millisecond):
		}
	}
	return nil
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

func bulk(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	h := sha256.New()
	s.Stdin = io.TeeReader(stream(256<<10), h)
	out, err := s.Output("sha256sum")
	if err != nil || !strings.HasPrefix(string(out), hexSum(h)) {
		return fmt.Errorf("bulk: %.70s, %w", out, err)
	}
	return nil
}
