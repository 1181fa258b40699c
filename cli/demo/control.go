package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The words that a running demo takes at its control socket.
const (
	Partition = "partition"
	Heal      = "heal"
)

const (
	socketName = "control"
	// callTime bounds one question to a running demo.
	callTime = 10 * time.Second
)

// Tell has the running demo do something, and gives its answer. dir is the demo's
// directory; empty for the only one that this user runs.
func Tell(ctx context.Context, dir, word string) (string, error) {
	dir, err := find(dir)
	if err != nil {
		return "", err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(dir, socketName))
	if err != nil {
		return "", fmt.Errorf("the demo in %s does not answer; start one with: holdfast demo --sites 2: %w", dir, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callTime)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, word); err != nil {
		return "", fmt.Errorf("tell the demo in %s: %w", dir, err)
	}
	b, err := io.ReadAll(io.LimitReader(conn, 4096))
	if err != nil {
		return "", fmt.Errorf("the demo in %s: %w", dir, err)
	}
	said, done := strings.CutPrefix(string(b), "ok ")
	if !done {
		return "", fmt.Errorf("the demo in %s: %s", dir, strings.TrimSpace(said))
	}
	return strings.TrimSpace(said), nil
}

// find gives the directory of the demo to talk to. Others may make directories of
// that name beside it, so it has to be this user's.
func find(dir string) (string, error) {
	pattern := filepath.Join(os.TempDir(), dirName+"*")
	if dir != "" {
		pattern = dir
	}
	all, err := filepath.Glob(filepath.Join(pattern, socketName))
	if err != nil {
		return "", err
	}
	var own []string
	for _, socket := range all {
		info, err := os.Lstat(filepath.Dir(socket))
		if err != nil {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == os.Getuid() {
			own = append(own, filepath.Dir(socket))
		}
	}
	switch len(own) {
	case 0:
		return "", errors.New("no demo with two sites is running here; start one in another terminal: holdfast demo --sites 2")
	case 1:
		return own[0], nil
	}
	return "", fmt.Errorf("%d demos are running; name one with --dir: %s", len(own), strings.Join(own, " "))
}

// control takes words at a socket in the demo's directory, which only its user
// can enter.
type control struct {
	listener net.Listener
	wires    []wire
	work     sync.WaitGroup
}

// wire is what a demo can cut.
type wire interface {
	Cut()
	Mend()
}

func listenControl(dir string, wires ...wire) (*control, error) {
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		return nil, fmt.Errorf("take words for the demo: %w", err)
	}
	c := &control{listener: l, wires: wires}
	c.work.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.answer(conn)
			}
		}
	})
	return c, nil
}

func (c *control) close() error {
	err := c.listener.Close()
	c.work.Wait()
	return err
}

func (c *control) answer(conn net.Conn) {
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(callTime)) != nil {
		return
	}
	word, err := bufio.NewReader(io.LimitReader(conn, 64)).ReadString('\n')
	if err != nil {
		return // it said nothing
	}
	_, _ = fmt.Fprintln(conn, c.do(strings.TrimSpace(word))) // it may have gone
}

func (c *control) do(word string) string {
	switch word {
	case Partition:
		for _, w := range c.wires {
			w.Cut()
		}
		return "ok the sites are cut off from each other; both go on"
	case Heal:
		for _, w := range c.wires {
			w.Mend()
		}
		return "ok the sites reach each other again; they merge what they did"
	}
	return fmt.Sprintf("it knows no word %q", word)
}
