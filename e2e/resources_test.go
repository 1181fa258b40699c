package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// resources are what the site's process holds.
type resources struct {
	memory      int64 // resident bytes
	descriptors int
	goroutines  int // 0 where the console doesn't answer
}

// resources asks the kernel, and the site itself by `holdfast status`, as an
// operator would.
func (in *installation) resources() (r resources) {
	in.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", in.site.Pid())
	open, err := os.ReadDir(proc + "fd")
	if err != nil {
		in.t.Fatal(err)
	}
	r.memory, r.descriptors = residentSet(in.t, proc), len(open)
	if out, err := in.tryConsole("", "status --json"); err == nil {
		var shown struct {
			Item struct{ Process struct{ Goroutines int } }
		}
		if err := json.Unmarshal([]byte(out), &shown); err != nil {
			in.t.Fatal(err)
		}
		r.goroutines = shown.Item.Process.Goroutines
	}
	return r
}

func residentSet(t *testing.T, proc string) int64 {
	t.Helper()
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("%sstatus tells no resident set", proc)
	return 0
}

// settles waits until the site holds no more goroutines than before, and no
// more descriptors but for log segments and connections of its views that it
// has opened since.
func (in *installation) settles(before resources) {
	in.t.Helper()
	const segments, passing = 8, 2 // passing: the runtime's own, which come and go
	var now resources
	for range 100 {
		now = in.resources()
		if now.descriptors <= before.descriptors+segments && now.goroutines <= before.goroutines+passing && now.goroutines > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	in.t.Errorf("the site holds %d descriptors and %d goroutines, before it held %d and %d",
		now.descriptors, now.goroutines, before.descriptors, before.goroutines)
}

// listedSession is what tests look at in `session ls --json`.
type listedSession struct {
	ID, Reason, Detail, Source string
	Ended                      *time.Time
	Complete                   bool
	BytesOut                   int64 `json:"bytes_out"`
}

// sessions lists all sessions, the newest first; none while the views are behind.
func (in *installation) sessions() []listedSession {
	in.t.Helper()
	out, err := in.tryConsole("", "session ls --json")
	if err != nil {
		return nil
	}
	var shown struct{ Items []listedSession }
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		in.t.Fatalf("%v in %s", err, out)
	}
	return shown.Items
}

// endedAs waits until a session has ended for a reason, with a detail that
// holds a text, and checks that its recording is complete.
func (in *installation) endedAs(reason, detail string) (found listedSession) {
	in.t.Helper()
	var all []listedSession
	defer func() {
		if in.t.Failed() {
			in.t.Logf("the sessions: %+v", all)
		}
	}()
	eventually(in.t, 20*time.Second, "a session ends as "+reason+", "+detail, func() bool {
		all = in.sessions()
		i := slices.IndexFunc(all, func(s listedSession) bool { return s.Reason == reason && strings.Contains(s.Detail, detail) })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	if !found.Complete {
		in.t.Errorf("the recording is not complete: %+v", found)
	}
	return found
}

// happened waits until the log has an event of a type that shows a text.
func (in *installation) happened(kind, text string) {
	in.t.Helper()
	eventually(in.t, 20*time.Second, "an event "+kind+" with "+text, func() bool {
		out, err := in.tryConsole("", "audit tail -n 20 --json --type "+kind)
		return err == nil && strings.Contains(out, text)
	})
}

// requirePrograms skips a test where programs are missing, and fails it where
// they have to be there. See findClient for their names.
func requirePrograms(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		switch err := findClient(name); {
		case err != nil && os.Getenv("HOLDFAST_REQUIRE_CLIENTS") != "":
			t.Fatalf("%v; .ci/setup installs it", err)
		case err != nil:
			t.Skip(err)
		}
	}
}
