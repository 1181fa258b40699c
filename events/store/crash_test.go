package store_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// crashDir tells a process of the test binary to be the one that is killed.
const crashDir = "HOLDFAST_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, appendUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// appendUntilKilled opens a history, and appends from several goroutines small
// and large records. What is acknowledged is printed: epoch, position, stream,
// number.
func appendUntilKilled(dir string) error {
	cfg := historyConfig(dir, events.Rec)
	cfg.HeadEvery = 3 * time.Millisecond
	h, err := store.OpenHistory(context.Background(), cfg)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var print sync.Mutex
	var wg sync.WaitGroup
	tb := &testing.T{}
	for s := range byte(4) {
		wg.Go(func() {
			for n := 1; ; n++ {
				r, err := h.Writer().Append(context.Background(), chunk(tb, s, n, (n*int(s)*397)%40_000))
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				print.Lock()
				fmt.Printf("%d %d %d %d\n", r[0].Header.Epoch, r[0].Header.Position, s, n)
				print.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKilledProcessLosesNothing kills a process that appends, over and over,
// on one directory: what it printed is there each time, and the log verifies.
func TestKilledProcessLosesNothing(t *testing.T) {
	times := 20
	if os.Getenv("HOLDFAST_TEST_FULL") != "" {
		times = 200
	}
	dir := t.TempDir()
	cfg := historyConfig(dir, events.Rec)
	total := 0
	for round := range times {
		acked := killed(t, dir, time.Duration(rand.IntN(40_000))*time.Microsecond)
		total += len(acked)
		if round%5 == 0 { // as the dead process left it
			if err := verify(t, cfg).Err(); err != nil {
				t.Fatalf("round %d, before reopening: %v", round, err)
			}
		}
		h := openHistory(t, cfg)
		stored := map[string]string{}
		for l, err := range h.Read(t.Context(), events.Clock{}) {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			r, err := events.DecodeEntry(l.Entry)
			if err != nil {
				t.Fatal(err)
			}
			if r.Header.Type == "session.packets" {
				stored[fmt.Sprint(l.Origin.Epoch, l.Position)] = fmt.Sprint(r.Header.Stream[0], number(t, r))
			}
		}
		for place, what := range acked {
			if stored[place] != what {
				t.Fatalf("round %d: acknowledged record %s at %s; there is %q", round, what, place, stored[place])
			}
		}
		closeHistory(t, h)
		if round%5 == 4 || round == times-1 {
			if err := verify(t, cfg).Err(); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if round%10 == 9 { // keep the rounds short
			if err := os.RemoveAll(cfg.Dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	if total < times {
		t.Errorf("only %d records were acknowledged in %d rounds: the test shows nothing", total, times)
	}
	t.Logf("%d acknowledged records in %d rounds", total, times)
}

// killed runs the appending process, kills it a while after it is ready, and
// gives what it had printed: place to content.
func killed(t *testing.T, dir string, after time.Duration) map[string]string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[string]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			continue
		}
		f := strings.Fields(lines.Text())
		if len(f) == 4 {
			acked[f[0]+" "+f[1]] = f[2] + " " + f[3]
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the process ended by itself: %v\n%s", err, stderr.String())
	}
	return acked
}
