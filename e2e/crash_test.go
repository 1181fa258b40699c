package e2e

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// The site is killed at random moments under streaming output. Whatever the
// client received is in the recording, and the log verifies after every start.
func TestKillUnderStream(t *testing.T) {
	t.Setenv("HOLDFAST_LOG_SEGMENT_SIZE", "8388608")
	t.Setenv("HOLDFAST_LOG_HEADROOM", "1048576")
	in := install(t)
	rounds := 8
	if full {
		rounds = 200
	}
	received := 0
	for round := range rounds {
		got := in.streamUntilKilled(time.Duration(20+rand.IntN(400)) * time.Millisecond)
		received += len(got)
		in.restart()
		if raw := in.console("", "session export last --format raw"); !bytes.HasPrefix([]byte(raw), got) {
			t.Fatalf("round %d: the client received %d bytes that do not begin the %d recorded ones", round, len(got), len(raw))
		}
		in.console("", "log verify")
		var shown struct {
			Item struct {
				Reason   string
				Complete bool
			}
		}
		if err := json.Unmarshal([]byte(in.console("", "session show last --json")), &shown); err != nil {
			t.Fatal(err)
		}
		if shown.Item.Reason != "site lost" || !shown.Item.Complete {
			t.Fatalf("round %d: the session ended with %+v", round, shown.Item)
		}
	}
	t.Logf("%d kills, %d bytes received, all of them recorded", rounds, received)
	if received == 0 {
		t.Error("nothing was received in any round: the test shows nothing")
	}
}

// streamUntilKilled runs a command with endless output, kills the site after d
// of output and returns what the client got.
func (in *installation) streamUntilKilled(d time.Duration) []byte {
	in.t.Helper()
	out := &firstWrite{first: make(chan struct{})}
	cmd := in.ssh("target", "while head -c 3000 /dev/urandom | od -x; do :; done")
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	select {
	case <-out.first:
	case <-time.After(20 * time.Second):
		in.t.Fatalf("no output within 20 s; site: %s", in.site.Stderr())
	}
	time.Sleep(d)
	if err := in.site.Kill(); err != nil {
		in.t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		in.t.Fatal("the client ended well although the gateway was killed")
	}
	return out.b.Bytes()
}

// firstWrite is a buffer that tells when something was written to it.
type firstWrite struct {
	b     bytes.Buffer
	once  sync.Once
	first chan struct{}
}

func (w *firstWrite) Write(p []byte) (int, error) {
	n, err := w.b.Write(p)
	w.once.Do(func() { close(w.first) }) // after it: who waits for it looks at what was written
	return n, err
}
