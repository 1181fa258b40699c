package projections

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// crashDir makes the test binary a process that rebuilds the projections in
// that directory again and again, to be killed.
const crashDir = "HOLDFAST_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		rebuildForEver(dir)
	}
	os.Exit(m.Run())
}

func rebuildForEver(dir string) {
	t := &testing.T{}
	source := longStory(t)
	p, err := open(context.Background(), Config{Dir: dir, Source: source}, registered())
	if err != nil {
		panic(err)
	}
	for {
		// Half the time it dies in a rebuild, else while it applies the last events.
		if err := p.Rebuild(context.Background(), nil); err != nil {
			panic(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "rebuilt"), nil, 0o600); err != nil {
			panic(err)
		}
	}
}

func longStory(t testing.TB) *fakeSource {
	s, source := newSite(t, 1), newSource()
	_, all := play(s)
	source.append(all...)
	for range 600 {
		addUsers(s, source, "someone")
	}
	return source
}

func TestKilledInARebuild(t *testing.T) {
	kills := 4
	if os.Getenv("HOLDFAST_TEST_FULL") != "" {
		kills = 100
	}
	dir := filepath.Join(t.TempDir(), "views")
	source := longStory(t)
	p := openIn(t, dir, source)
	catchUp(t, p)
	want := digestOf(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range kills {
		killRebuilding(t, dir, time.Duration(i*61%200)*time.Millisecond)
		p := openIn(t, dir, source)
		if p.Discarded() != "" {
			t.Errorf("kill %d: %s", i, p.Discarded())
		}
		if got := digestOf(t, p); got != want {
			t.Errorf("kill %d: what is there is neither the old nor the new: %s, want %s", i, got, want)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if names := files(t, dir); len(names) != 1 {
			t.Errorf("kill %d: left over: %v", i, names)
		}
	}
}

// killRebuilding starts a process that rebuilds and kills it some time after
// its first rebuild.
func killRebuilding(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	mark := filepath.Join(filepath.Dir(dir), "rebuilt")
	if err := os.RemoveAll(mark); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir)
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait() // it was killed: that is no news
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(mark); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the process did not rebuild once in 20 s")
		}
	}
	time.Sleep(after)
}
