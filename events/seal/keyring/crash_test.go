package keyring

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
)

const (
	childDir  = "KEYRING_TEST_DIR"
	childFrom = "KEYRING_TEST_ENTERED"
	childTo   = "KEYRING_TEST_TO"
	childStep = "KEYRING_TEST_KILL_AT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		rekeyAndDie(dir)
	}
	os.Exit(m.Run())
}

// rekeyAndDie is the process that is killed: it rekeys while it makes data keys,
// and kills itself at a step. Its exit status is 0 if there was no such step.
func rekeyAndDie(dir string) {
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
	}
	ctx := context.Background()
	last, err := strconv.Atoi(os.Getenv(childStep))
	check(err)
	to := Kind(os.Getenv(childTo))
	k, err := Open(config(dir, to))
	check(err)
	o, err := k.Open(ctx, secret(os.Getenv(childFrom)))
	check(err)
	check(o.Use(ctx))
	busy := make(chan struct{})
	go func() { // sessions go on meanwhile
		f, err := os.OpenFile(filepath.Join(dir, "made"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		check(err)
		for range 40 {
			id := uuid.New()
			key, err := k.Sealer().NewKey(ctx, id)
			check(err)
			sealed, err := key.Seal(nil, id[:], here)
			check(err)
			_, err = fmt.Fprintf(f, "%s %x\n", id, sealed)
			check(err)
			key.Release()
		}
		close(busy)
	}()
	var steps atomic.Int64
	k.step = func(string) {
		if steps.Add(1) == int64(last) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	entered := ""
	if to == Passphrase {
		entered = phrase
	}
	out, err := k.Rekey(ctx, secret(entered), &journal{}, none)
	check(err)
	if to == Shares { // people write them down, and then prove that they have them
		text := sharesText(out.Shares[1:])
		check(os.WriteFile(handedOut(dir)+".new", []byte(text), 0o600))
		check(os.Rename(handedOut(dir)+".new", handedOut(dir)))
		_, err = k.Rekey(ctx, secret(text), &journal{}, none)
		check(err)
	}
	<-busy
	os.Exit(0)
}

// handedOut is a file in the place of people who have shares.
func handedOut(dir string) string { return dir + ".shares" }

func sharesText(shares []lock.Share) string {
	var b strings.Builder
	_ = WriteShares(&b, shares) // a Builder takes everything
	return b.String()
}

// TestKilledRekey kills a process with SIGKILL at every step of a rekey. What is
// left opens everything, including what was sealed while the rekey ran, with what
// opened the site before or, from the switch on, with what opens it after; and the
// next call finishes.
func TestKilledRekey(t *testing.T) {
	ways := [][2]Kind{{File, Passphrase}, {File, File}, {File, Shares}}
	if os.Getenv("HOLDFAST_TEST_FULL") != "" {
		ways = append(ways, [][2]Kind{{Passphrase, File}, {Credential, Passphrase}, {Passphrase, Credential}, {Passphrase, Passphrase},
			{Shares, File}, {Shares, Shares}, {Shares, Passphrase}, {Passphrase, Shares}}...)
	}
	for _, way := range ways {
		t.Run(string(way[0])+" to "+string(way[1]), func(t *testing.T) {
			killed := 0
			for step := 1; killAt(t, way[0], way[1], step); step++ {
				killed++
			}
			if killed < 12 {
				t.Errorf("%d steps, that is not all of a rekey", killed)
			}
			t.Logf("killed at each of %d steps", killed)
		})
	}
}

// killAt runs a rekey that dies at a step; false if it had no such step.
func killAt(t *testing.T, from, to Kind, step int) bool {
	t.Helper()
	p := newPlace(t, File)
	k := p.unsealed(File, "")
	before := p.rekeyTo(k, from)
	p.fill(k, 4)
	old := k.Status().Key
	p.must(k.Close())

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+p.dir, childFrom+"="+before, childTo+"="+string(to), childStep+"="+strconv.Itoa(step))
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case !errors.As(err, &exit), !exit.Sys().(syscall.WaitStatus).Signaled():
		t.Fatalf("step %d: %v\n%s", step, err, out)
	}
	p.made()
	k = p.open(to)
	entered, after := before, ""
	switch {
	case to == Passphrase:
		after = phrase
	case to == Shares:
		given, err := os.ReadFile(handedOut(p.dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		after = string(given)
		t.Cleanup(func() { _ = os.RemoveAll(handedOut(p.dir)) })
	}
	if k.Status().Key != old {
		entered = after
	}
	p.unseal(k, entered)
	p.opensAll(k)
	p.fill(k, 2)
	j := &journal{}
	if to == Shares && after == "" { // nobody has the shares of the new key, if there is one
		if k.Status().Rekey != "" {
			_, err := k.Abandon(t.Context(), seal.Secret{}, j, none)
			p.must(err)
			p.opensAll(k)
		}
		out, err := k.Rekey(t.Context(), seal.Secret{}, j, none)
		p.must(err)
		after = sharesText(out.Shares[1:])
	}
	done, err := k.Rekey(t.Context(), secret(after), j, none)
	p.must(err)
	if to == Shares {
		p.nowhere(after)
	}
	if done.Stage != Finished || k.Status().Rekey != "" || k.Status().Key == old {
		t.Fatalf("step %d: the next call left %+v", step, k.Status())
	}
	p.opensAll(k)
	p.onlyKeyOf(k)
	if told := strings.Join(j.told, " "); !strings.Contains(told, "finished") || !strings.Contains(told, "destroyed") {
		t.Errorf("step %d: told %s", step, told)
	}
	p.must(k.Close())
	p.opensAll(p.unsealed(to, after))
	if _, err := os.Stat(filepath.Join(p.dir, "site.key")); errors.Is(err, fs.ErrNotExist) != (to != File) {
		t.Errorf("step %d: the key file: %v", step, err)
	}
	return true
}

// made reads what the killed process had sealed.
func (p *place) made() {
	p.Helper()
	f, err := os.Open(filepath.Join(p.dir, "made"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	p.must(err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		id, sealed, ok := strings.Cut(lines.Text(), " ")
		b, err := hex.DecodeString(sealed)
		if ok && err == nil && len(b) == 16+28 { // a line that was not cut short
			p.sealed[uuid.MustParse(id)] = b
		}
	}
}

// onlyKeyOf wants every data key that is known to be wrapped to the site's key alone.
func (p *place) onlyKeyOf(k *Keyring) {
	p.Helper()
	for id := range p.sealed {
		wraps, err := k.table.Get(id)
		p.must(err)
		if len(wraps) != 1 || keyName(wraps[0].To.Key) != k.Status().Key {
			p.Fatalf("data key %s has wraps %v", id, wraps)
		}
	}
}
