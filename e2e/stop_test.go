package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// An orderly stop (SIGTERM) with 100 sessions open, most of them of a client
// that starts faster than the stock one: everybody is told, every recording is
// whole, and it does not take long.
func TestStopUnderLoad(t *testing.T) {
	const n, stock, load = 100, 8, "while head -c 500 /dev/urandom; do sleep 0.2; done"
	in := install(t)
	before := in.resources()
	ends := make(chan error, n)
	var up []<-chan struct{}
	for range stock {
		out, stderr := &firstWrite{first: make(chan struct{})}, &bytes.Buffer{}
		cmd := in.ssh("target", load)
		cmd.Stdout, cmd.Stderr = out, stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		up = append(up, out.first)
		go func() { ends <- fmt.Errorf("%w: %s", cmd.Wait(), stderr) }() // the exit status is not nil
	}
	cfg := in.goClient()
	for range n - stock {
		first, end, err := in.stream(cfg, load)
		if err != nil {
			t.Fatal(err)
		}
		up = append(up, first)
		go func() { ends <- <-end }()
		time.Sleep(30 * time.Millisecond) // the door lets 32 a second in from one address
	}
	for i, first := range up {
		select {
		case <-first:
		case <-time.After(time.Minute):
			t.Fatalf("client %d has no output; site: %s", i, in.site.Stderr())
		}
	}
	start := time.Now()
	if err := in.site.Stop(); err != nil {
		t.Errorf("stop: %v; %s", err, in.site.Stderr())
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("the stop took %v", took)
	}
	for range n {
		if err := <-ends; err == nil || !strings.Contains(err.Error(), "stopping") {
			t.Errorf("a client ended with %v and was not told", err)
		}
	}
	in.restart()
	ended := 0
	for _, s := range in.sessions() {
		if s.Reason == "site stopped" {
			ended++
		}
		if !s.Complete {
			t.Errorf("a recording is not complete: %+v", s)
		}
	}
	if ended != n {
		t.Errorf("%d sessions ended with the stop, want %d", ended, n)
	}
	in.settles(before)
	in.console("", "log verify")
}

// stream runs a command over a connection of its own: first is closed with its
// first output, and end gets how the connection ended.
func (in *installation) stream(cfg *ssh.ClientConfig, command string) (first <-chan struct{}, end <-chan error, err error) {
	var d net.Dialer
	ctx, cancel := context.WithTimeout(in.t.Context(), time.Minute)
	defer cancel()
	tcp, err := d.DialContext(ctx, "tcp", in.site.Addr)
	if err != nil {
		return nil, nil, err
	}
	conn, channels, requests, err := ssh.NewClientConn(tcp, in.site.Addr, cfg)
	if err != nil {
		return nil, nil, errors.Join(err, tcp.Close())
	}
	c := ssh.NewClient(conn, channels, requests)
	s, err := c.NewSession()
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	out, ended := &firstBytes{w: io.Discard, first: make(chan struct{})}, make(chan error, 1)
	s.Stdout = out
	if err := s.Start(command); err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	go func() { ended <- c.Wait() }()
	return out.first, ended, nil
}
