package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// beside times keystrokes of one connection while another one moves bulk the same way, as fast as it goes.
func (b *bench) beside(p path, file string, s sample) error {
	ctx, cancel := context.WithCancel(b.ctx)
	var moving sync.WaitGroup
	var failed error
	moving.Go(func() {
		for ctx.Err() == nil {
			c := b.ssh(p, "cat "+file)
			if err := c.Start(); err != nil {
				failed = err
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = c.Process.Kill() })
			err := c.Wait()
			if stop() && err != nil {
				failed = err
				return
			}
		}
	})
	time.Sleep(300 * time.Millisecond) // until the transfer runs
	times, err := b.keystrokes(p, b.sizes.keys, 5*time.Millisecond)
	cancel()
	moving.Wait()
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("keystrokes beside bulk: %w", err)
	}
	s["beside bulk p50 us"], s["beside bulk p99 us"] = times[len(times)/2], times[len(times)*99/100]
	return nil
}

// flush measures the floor under every figure of this round that waits for the disk: what a small write and an fdatasync take
// where the log is, with nothing around them.
func (b *bench) flush(results map[string][]sample) error {
	f, err := os.Create(filepath.Join(b.dir, "floor"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 16<<20); err != nil {
		return fmt.Errorf("allocate %s: %w", f.Name(), err)
	}
	var times []float64
	record := make([]byte, 416) // what a keystroke adds to the log
	for i := range b.sizes.keys {
		time.Sleep(time.Millisecond)
		start := time.Now()
		if _, err := f.WriteAt(record, int64(i*len(record))); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		times = append(times, ms(time.Since(start))*1000)
	}
	slices.Sort(times)
	results["floor"] = append(results["floor"], sample{"p50": times[len(times)/2], "p99": times[len(times)*99/100]})
	return nil
}

// idleFigures are what sessions that do nothing cost: KiB of the gateway's resident set for each, and the median of an
// echo in microseconds without them and beside them.
type idleFigures struct{ resident, without, beside float64 }

// idle opens sessions with a shell that do nothing.
func (b *bench) idle() (f idleFigures, err error) {
	key, err := os.ReadFile(filepath.Join(b.dir, "admin"))
	if err != nil {
		return f, err
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return f, err
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(b.site.HostKey))
	if err != nil {
		return f, err
	}
	cfg := &ssh.ClientConfig{
		User: b.target.User + "+web1", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(hostKey),
	}
	var open []*ssh.Client
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	gateway := paths[len(paths)-1]
	echo, err := b.keystrokes(gateway, b.sizes.keys, time.Millisecond)
	if err != nil {
		return f, err
	}
	f.without = echo[len(echo)/2]
	before := 0.0
	for i := range b.sizes.idle + 10 {
		if i == 10 { // the first ones bring what all share
			if before, err = b.settled(); err != nil {
				return f, err
			}
		}
		time.Sleep(35 * time.Millisecond) // the door lets 32 a second in from one address
		c, err := ssh.Dial("tcp", b.site.Addr, cfg)
		if err != nil {
			return f, fmt.Errorf("session %d: %w", i, err)
		}
		open = append(open, c)
		s, err := c.NewSession()
		if err == nil {
			err = s.Start("cat")
		}
		if err != nil {
			return f, fmt.Errorf("session %d: %w", i, err)
		}
	}
	after, err := b.settled()
	if err != nil {
		return f, err
	}
	f.resident = (after - before) / float64(b.sizes.idle)
	if echo, err = b.keystrokes(gateway, b.sizes.keys, time.Millisecond); err != nil {
		return f, err
	}
	f.beside = echo[len(echo)/2]
	return f, nil
}

// settled is the gateway's resident set in KiB when what the logins used has been given back.
func (b *bench) settled() (float64, error) {
	time.Sleep(3 * time.Second)
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", b.site.Pid()))
	if err != nil {
		return 0, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return 0, err
	}
	return float64(resident*int64(os.Getpagesize())) / 1024, nil
}
