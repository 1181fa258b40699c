package keyring

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/events/seal"
)

// masked is a pattern that is nowhere in memory as it is.
type masked []byte

func mask(b []byte) masked {
	m := make(masked, len(b))
	for i := range b {
		m[i] = ^b[i]
	}
	return m
}

// found counts where a pattern stands in this process's writable memory.
func (m masked) found(t *testing.T) (n int) {
	t.Helper()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip("can't read this process's memory: ", err)
	}
	defer mem.Close()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	defer clear(buf)
	for lines := bufio.NewScanner(strings.NewReader(string(maps))); lines.Scan(); {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += uint64(len(buf) - len(m)) {
			got, err := mem.ReadAt(buf[:min(uint64(len(buf)), to-at)], int64(at))
			if got == 0 && err != nil && err != io.EOF {
				break // a guard page
			}
			n += m.in(buf[:got])
			clear(buf[:got])
		}
	}
	return n
}

func (m masked) in(b []byte) (n int) {
	for i := 0; i+len(m) <= len(b); i++ {
		j := 0
		for j < len(m) && b[i+j] == ^m[j] {
			j++
		}
		if j == len(m) {
			n++
		}
	}
	return n
}

// TestSealWipesKeys looks for the site key in this process's memory: once while
// the site is unsealed, nowhere after it was sealed.
func TestSealWipesKeys(t *testing.T) {
	p := newPlace(t, File)
	k := p.unsealed(File, "")
	p.fill(k, 3)
	typed := func() seal.Secret { return seal.NewSecret([]byte(strings.ToLower("CANARY WORDS THAT OPEN THE SITE"))) }
	k.cfg.Provider = Passphrase
	entered := typed()
	_, err := k.Rekey(t.Context(), entered, &journal{}, none)
	p.must(err)
	entered.Wipe()
	p.opensAll(k)
	key := func() masked { // the scalar, by way of the lock that holds it
		again := typed()
		defer again.Wipe()
		o, err := k.Open(t.Context(), again)
		p.must(err)
		defer o.Close()
		s, err := o.provider.(inMemory).Scalar(k.KeyID())
		p.must(err)
		defer s.Wipe()
		return mask(s.Bytes())
	}()
	if n := key.found(t); n == 0 {
		t.Fatal("the key of an unsealed site is not in memory: the search does not work")
	}
	p.must(k.Seal())
	runtime.GC()
	if n := key.found(t); n > 0 {
		t.Errorf("the site key is at %d places in memory after the site was sealed", n)
	}
}

// onNoCommandLine wants a text to be in no process's arguments or environment,
// and wants the children of this process to leave no core dump.
func onNoCommandLine(t *testing.T, text string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(procs) == 0 {
		t.Fatal("no processes: ", err)
	}
	children := 0
	for _, proc := range procs {
		for _, file := range []string{"cmdline", "environ"} {
			if b, err := os.ReadFile(filepath.Join(proc, file)); err == nil && strings.Contains(string(b), text) {
				t.Errorf("%s/%s holds a secret", proc, file)
			}
		}
		status, _ := os.ReadFile(filepath.Join(proc, "status")) // it may have ended
		if !strings.Contains(string(status), fmt.Sprintf("PPid:\t%d\n", os.Getpid())) {
			continue
		}
		limits, _ := os.ReadFile(filepath.Join(proc, "limits"))
		for line := range strings.Lines(string(limits)) {
			if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && strings.Join(f[4:6], " ") != "0 0" {
				t.Errorf("%s may leave a core dump: %s", proc, line)
			} else if strings.HasPrefix(line, "Max core file size") {
				children++
			}
		}
	}
	if children == 0 {
		t.Error("no child process was found: the search does not work")
	}
}
