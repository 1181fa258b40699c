package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is what one round measured on one path, by figure name.
type sample map[string]float64

func (b *bench) measureAll() error {
	file := filepath.Join(b.dir, "bulk")
	if err := writeRandom(file, b.sizes.bulk); err != nil {
		return err
	}
	idle, err := b.idle() // first: what bulk leaves behind is given back later, and would hide it
	if err != nil {
		return fmt.Errorf("idle sessions: %w", err)
	}
	results := map[string][]sample{}
	for round := range b.sizes.rounds {
		for i := range paths {
			p := paths[(i+round)%len(paths)] // nobody is always first
			s, err := b.measure(p, file)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			results[p.name] = append(results[p.name], s)
		}
		if err := b.flush(results); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "bench: round %d of %d done\n", round+1, b.sizes.rounds)
	}
	report(os.Stdout, b.sizes, results, idle)
	return nil
}

func (b *bench) measure(p path, file string) (sample, error) {
	s := sample{}
	steps := []func(path, string, sample) error{b.setup, b.echo, b.bulk, b.scp, b.beside}
	for _, step := range steps {
		if err := step(p, file, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// setup times whole connections: `ssh HOST true`.
func (b *bench) setup(p path, _ string, s sample) error {
	var times []float64
	for range b.sizes.setups {
		start := time.Now()
		if out, err := b.ssh(p, "true").CombinedOutput(); err != nil {
			return fmt.Errorf("setup: %w: %s", err, out)
		}
		times = append(times, ms(time.Since(start)))
	}
	s["setup ms"] = median(times)
	return nil
}

// echo times keystrokes through a pty in raw mode, one after the other.
func (b *bench) echo(p path, _ string, s sample) error {
	times, err := b.keystrokes(p, b.sizes.keys, time.Millisecond)
	if err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	s["echo p50 us"], s["echo p99 us"] = times[len(times)/2], times[len(times)*99/100]
	return nil
}

// keystrokes gives the times of n keystrokes there and back, in microseconds, sorted.
func (b *bench) keystrokes(p path, n int, pause time.Duration) ([]float64, error) {
	c := b.ssh(p, "-tt", "stty raw -echo; echo go; exec cat")
	stdin, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	defer func() {
		stdin.Close()
		_ = c.Process.Kill() // it has told all it had to tell
		_ = c.Wait()
	}()
	for got := []byte(nil); !bytes.Contains(got, []byte("go")); {
		one := make([]byte, 1)
		if _, err := io.ReadFull(stdout, one); err != nil {
			return nil, err
		}
		got = append(got, one...)
	}
	time.Sleep(100 * time.Millisecond) // let the line end pass
	var times []float64
	key, back := []byte{'k'}, make([]byte, 1)
	for i := range n + 20 {
		time.Sleep(pause)
		start := time.Now()
		if _, err := stdin.Write(key); err != nil {
			return nil, err
		}
		for back[0] = 0; back[0] != 'k'; {
			if _, err := io.ReadFull(stdout, back); err != nil {
				return nil, err
			}
		}
		if i >= 20 { // the first ones warm the path up
			times = append(times, ms(time.Since(start))*1000)
		}
	}
	slices.Sort(times)
	return times, nil
}

// bulk times one stream of random bytes each way, and what it costs the
// gateway in CPU.
func (b *bench) bulk(p path, file string, s sample) error {
	cpu := b.gatewayCPU()
	start := time.Now()
	down := b.ssh(p, "cat "+file)
	n := &counter{}
	down.Stdout = n
	if err := down.Run(); err != nil {
		return fmt.Errorf("bulk down: %w", err)
	}
	if n.n != b.sizes.bulk {
		return fmt.Errorf("bulk down: %d of %d bytes came", n.n, b.sizes.bulk)
	}
	s["down MiB/s"] = rate(b.sizes.bulk, time.Since(start))
	if p.name == "gateway" {
		s["cpu-s/GiB down"] = (b.gatewayCPU() - cpu) / gib(b.sizes.bulk)
		cpu = b.gatewayCPU()
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	start = time.Now()
	up := b.ssh(p, "cat >/dev/null")
	up.Stdin = f
	if out, err := up.CombinedOutput(); err != nil {
		return fmt.Errorf("bulk up: %w: %s", err, out)
	}
	s["up MiB/s"] = rate(b.sizes.bulk, time.Since(start))
	if p.name == "gateway" {
		s["cpu-s/GiB up"] = (b.gatewayCPU() - cpu) / gib(b.sizes.bulk)
	}
	return nil
}

// scp times a copy each way with the stock client (SFTP protocol).
func (b *bench) scp(p path, file string, s sample) error {
	back := filepath.Join(b.dir, "back")
	for _, way := range []struct{ name, from, to string }{
		{"scp get MiB/s", p.host + ":" + file, back},
		{"scp put MiB/s", file, p.host + ":" + back},
	} {
		start := time.Now()
		c := exec.CommandContext(b.ctx, "scp", "-q", "-F", b.config, way.from, way.to)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", way.name, err, out)
		}
		s[way.name] = rate(b.sizes.bulk, time.Since(start))
		if err := os.Remove(back); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) ssh(p path, args ...string) *exec.Cmd {
	all := []string{"-F", b.config}
	if len(args) > 1 {
		all = append(all, args[:len(args)-1]...)
	}
	return exec.CommandContext(b.ctx, "ssh", append(all, p.host, args[len(args)-1])...)
}

// gatewayCPU is the user and system time of the site's process, in seconds.
func (b *bench) gatewayCPU() float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.site.Pid()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return (user + system) / 100 // USER_HZ
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func writeRandom(file string, n int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.Reader, n); err != nil {
		return err
	}
	return f.Close()
}

func ms(d time.Duration) float64            { return float64(d) / float64(time.Millisecond) }
func gib(n int64) float64                   { return float64(n) / (1 << 30) }
func rate(n int64, d time.Duration) float64 { return float64(n) / (1 << 20) / d.Seconds() }

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
