package rotator_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/events"
)

// plugins are shell scripts as a site could have them: a target that is a file.
var plugins = map[string]string{
	"file": `read -r request
op=$(echo "$request" | sed 's/.*"operation":"\([a-z]*\)".*/\1/')
field() { echo "$request" | sed -n 's/.*"'$1'":{"kind":"password","text":"\([^"]*\)".*/\1/p'; }
if [ $op = verify ]; then
	if [ "$(field candidate)" = "$(cat "$1")" ]; then echo '{"answer":"accepted"}'; else echo '{"answer":"rejected","error":"no"}'; fi
elif [ "$(field current)" != "$(cat "$1")" ]; then echo '{"outcome":"refused","answer":"rejected","error":"wrong old one"}'
else field next > "$1"; echo '{"outcome":"applied"}'
fi`,
	"hang":    `sleep 1000 & echo $! > "$1.pid"; wait`,
	"flood":   `yes '{}'`,
	"noise":   `cat >&2; echo no json`,
	"fails":   `cat >&2; exit 3`,
	"leaves":  `sleep 1000 & echo $! > "$1.pid"; echo '{"answer":"accepted"}'`,
	"env":     `env >&2; exit 1`,
	"unknown": `echo '{"outcome":"maybe","answer":"perhaps"}'`,
	"unfit":   `echo '{"outcome":"refused","unfit":true,"error":"too short"}'`,
	"missing": "",
}

func TestExecPlugin(t *testing.T) {
	dir := t.TempDir()
	held := filepath.Join(dir, "held")
	const first = "first-Secret-77"
	if err := os.WriteFile(held, []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	programs := map[string]rotator.Program{}
	for name, body := range plugins {
		path := filepath.Join(dir, name)
		if body != "" {
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		programs[name] = rotator.Program{Path: path, Args: []string{held}}
	}
	if err := rotator.CheckPrograms(programs); err != nil {
		t.Fatal(err)
	}
	r, _ := rotator.NewSet(programs).For(events.Exec, events.Password)
	job := func(program string) rotator.Job {
		return rotator.Job{
			Kind: events.Exec, Addr: "switch1:22", Account: "admin", Verb: rotator.AsItself, Current: secret(first), Timeout: 20 * time.Second,
			Params: effective(events.Exec, "switch1:22", map[string]string{"program": program}),
		}
	}
	t.Run("rotates", func(t *testing.T) {
		s := &subject{T: t, Rotator: r, job: job("file"), true: secret(first), fresh: password(t, events.Exec)}
		s.noTrace("the process list", argvDuring(t, s.rotateMany))
		s.wrongOld()
	})
	for name, want := range map[string]rotator.Outcome{
		"flood": rotator.Unknown, "noise": rotator.Unknown, "fails": rotator.Unknown, "unknown": rotator.Unknown, "missing": rotator.Refused, "nowhere": rotator.Refused,
	} {
		outcome, err := r.Change(t.Context(), job(name), secret("next-Secret-78"))
		if outcome != want || err == nil || strings.Contains(err.Error(), "Secret") {
			t.Errorf("%s: %s, %v", name, outcome, err)
		}
		if a, err := r.Verify(t.Context(), job(name), secret("next-Secret-78")); a != rotator.NoAnswer || strings.Contains(err.Error(), "Secret") {
			t.Errorf("%s: %s, %v", name, a, err)
		}
	}
	if outcome, err := r.Change(t.Context(), job("unfit"), secret("x")); outcome != rotator.Refused || !errors.Is(err, rotator.ErrUnfit) {
		t.Errorf("unfit: %s, %v", outcome, err)
	}
	hang := job("hang")
	hang.Timeout = 300 * time.Millisecond
	began := time.Now()
	if outcome, err := r.Change(t.Context(), hang, secret("next-Secret-78")); outcome != rotator.Unknown || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
		t.Errorf("hangs: %s, %v after %v", outcome, err, time.Since(began))
	}
	gone(t, held+".pid")
	if a, err := r.Verify(t.Context(), job("leaves"), secret("x")); a != rotator.Accepted && !strings.Contains(err.Error(), "WaitDelay") {
		t.Errorf("leaves a child: %s, %v", a, err)
	}
	gone(t, held+".pid")
	t.Setenv("HOLDFAST_CANARY", "canary-7f3a")
	if _, err := r.Verify(t.Context(), job("env"), secret("x")); strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "HOME=") {
		t.Errorf("the environment reaches the program: %v", err)
	}
	for name, p := range map[string]rotator.Program{"rel": {Path: "bin/x"}, "": {Path: "/bin/true"}, "a/b": {Path: "/bin/true"}, "nul": {Path: "/bin/true", Args: []string{"\x00"}}} {
		if rotator.CheckPrograms(map[string]rotator.Program{name: p}) == nil {
			t.Errorf("%q %v is taken", name, p)
		}
	}
}

// gone waits for a process, whose id a file holds, to end.
func gone(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("process %d still runs", pid)
}
