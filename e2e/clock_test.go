package e2e

import (
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/site"
)

// clockFile names, in the environment, a file with how far the clock of the
// site is off. Only the program that the tests run knows of it: to set the
// machine's own clock would be felt by everything else on it.
const clockFile = "HOLDFAST_TEST_CLOCK"

// setClock makes the clock of this process follow the file, if there is one.
func setClock() {
	file := os.Getenv(clockFile)
	if file == "" {
		return
	}
	var off atomic.Int64
	go func() { // ends with the process
		for ; ; time.Sleep(20 * time.Millisecond) {
			b, err := os.ReadFile(file)
			if err != nil {
				log.Fatal(err)
			}
			if d, err := time.ParseDuration(string(b)); err == nil { // else it is being written
				off.Store(int64(d))
			}
		}
	}()
	site.WallClock = func() time.Time { return time.Now().Round(0).Add(time.Duration(off.Load())) }
}

// The clock is set back, and far forward, while a session runs: an event each,
// sessions go on and nothing recorded is out of order. What ends by the clock
// ends by the new one.
func TestClockIsSet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	set := func(off string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(off), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("0s")
	t.Setenv(clockFile, file)
	in := install(t)
	in.console("", "target add short --addr "+in.target.Addr+" --host-key '"+in.target.HostKey+"'")
	in.console(string(in.target.PrivateKey), "account add "+in.target.User+"+short --private-key-stdin")
	in.console("", "grant add admin "+in.target.User+"+short --expires 1h")
	before := in.resources()
	kept := in.cuttable("target", "echo up; exec sleep 100")
	short := in.cuttable("-l", in.target.User+"+short", "target", "echo up; exec sleep 100")
	set("-1h")
	in.happened("site.clock_jumped", `"by":-3`)
	in.unaffected()
	if s := in.sessionOf(short.source); s.Ended != nil {
		t.Errorf("a session ended although its grant has become longer: %+v", s)
	}
	set("87600h") // ten years
	in.happened("site.clock_jumped", `"by":31`)
	if err := short.cmd.Wait(); exitCode(err) != 255 || !strings.Contains(short.stderr.String(), "expired") {
		t.Errorf("the session of a grant that has expired ended with %v and was told %q", err, short.stderr)
	}
	in.endedAs("access ended", "expired")
	in.unaffected()
	if s := in.sessionOf(kept.source); s.Ended != nil {
		t.Errorf("a session ended with the clock: %+v", s)
	}
	_ = kept.cmd.Process.Kill()
	_ = kept.cmd.Wait()
	in.settles(before)
	in.console("", "log verify")
}
