package rotator

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
)

// Program is what a site's configuration lets exec targets run.
type Program struct {
	Path string   `koanf:"path" yaml:"path"` // absolute
	Args []string `koanf:"args" yaml:"args"` // after the path; never a secret
}

// execPlugin changes secrets by a program of the site's own: one JSON object on
// its standard input, one on its standard output (docs/rotators.md). It runs
// without a shell, in a process group of its own that is killed at the end, with
// an environment that says nothing.
type execPlugin struct{ programs map[string]Program }

// maxAnswer bounds what a program may write, in bytes.
const maxAnswer = 64 << 10

// graceful is how long a program's children may hold its output open after it
// has ended.
const graceful = time.Second

// pluginSecret is a secret as a program gets it: in text, or in base64 where it is none.
type pluginSecret struct {
	Kind   string `json:"kind"`
	Text   string `json:"text,omitempty"`
	Base64 string `json:"base64,omitempty"`
	Public string `json:"public,omitempty"`
}

type pluginLogin struct {
	Account string            `json:"account"`
	Params  map[string]string `json:"params"`
	Secret  pluginSecret      `json:"secret"`
}

// pluginRequest is what a program reads.
type pluginRequest struct {
	Version   int               `json:"version"` // 1
	Operation string            `json:"operation"`
	Addr      string            `json:"addr"`
	Account   string            `json:"account"`
	Params    map[string]string `json:"params"`
	Verb      Verb              `json:"verb,omitempty"`      // of a change
	Current   *pluginSecret     `json:"current,omitempty"`   // of a change as itself
	Via       *pluginLogin      `json:"via,omitempty"`       // of a privileged change
	Next      *pluginSecret     `json:"next,omitempty"`      // of a change
	Candidate *pluginSecret     `json:"candidate,omitempty"` // of a verify
	Timeout   float64           `json:"timeout"`             // seconds until it is killed
}

// pluginAnswer is what it writes.
type pluginAnswer struct {
	Outcome      Outcome `json:"outcome"`       // of a change
	Answer       Answer  `json:"answer"`        // of a verify
	Error        string  `json:"error"`         // why not
	NotPresented bool    `json:"not_presented"` // no secret was shown to the target
	Unfit        bool    `json:"unfit"`         // the target's rules turn the new secret down
}

// Verify implements [Rotator].
func (e execPlugin) Verify(ctx context.Context, j Job, candidate Secret) (Answer, error) {
	request := pluginRequest{Operation: "verify", Candidate: forPlugin(candidate)}
	a, _, err := e.run(ctx, j, request)
	switch {
	case err != nil:
		return NoAnswer, cleaned(err, candidate)
	case a.Answer == Accepted:
		return Accepted, nil
	case a.Answer == Rejected, a.Answer == Locked, a.Answer == NoAnswer:
		return a.Answer, cleaned(a.err(), candidate)
	}
	return NoAnswer, cleaned(fmt.Errorf("the program answers %.80q, which is no answer", a.Answer), candidate)
}

// Change implements [Rotator].
func (e execPlugin) Change(ctx context.Context, j Job, next Secret) (Outcome, error) {
	who, err := j.actor()
	if err != nil {
		return Refused, err
	}
	request := pluginRequest{Operation: "change", Verb: j.Verb, Next: forPlugin(next)}
	if j.Verb == AsItself {
		request.Current = forPlugin(j.Current)
	} else {
		request.Via = &pluginLogin{Account: who.Account, Params: who.Params, Secret: *forPlugin(who.Secret)}
	}
	a, started, err := e.run(ctx, j, request)
	switch {
	case err != nil && !started:
		return Refused, cleaned(err, next, who.Secret)
	case err != nil:
		return Unknown, cleaned(err, next, who.Secret)
	case a.Outcome == Applied:
		return Applied, nil
	case a.Outcome == Refused && a.Answer == Rejected, a.Outcome == Refused && a.Answer == Locked:
		return refusedLogin(who, a.Answer, cleaned(a.err(), next, who.Secret))
	case a.Outcome == Refused, a.Outcome == Unknown:
		clean := cleaned(a.err(), next, who.Secret)
		if a.Unfit {
			clean = fmt.Errorf("%w: %w", ErrUnfit, clean)
		}
		return a.Outcome, clean
	}
	return Unknown, cleaned(fmt.Errorf("the program answers %.80q, which is no outcome", a.Outcome), next, who.Secret)
}

func (a pluginAnswer) err() error {
	err := errors.New("the program says: " + a.Error)
	if a.NotPresented {
		return notPresented(err)
	}
	return err
}

func forPlugin(s Secret) *pluginSecret {
	p := &pluginSecret{Kind: string(s.Kind), Public: s.Public}
	if b := s.Bytes.Bytes(); utf8.Valid(b) {
		p.Text = string(b)
	} else {
		p.Base64 = base64.StdEncoding.EncodeToString(b)
	}
	return p
}

// run runs the target's program. started says that it may have done something.
func (e execPlugin) run(ctx context.Context, j Job, request pluginRequest) (a pluginAnswer, started bool, err error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	name := j.Params[targetkind.Program]
	program, ok := e.programs[name]
	if !ok {
		return a, false, notPresented(fmt.Errorf("the site's configuration names no program %.40q under rotation.exec", name))
	}
	end, _ := ctx.Deadline()
	request.Version, request.Addr, request.Account, request.Params, request.Timeout = 1, j.Addr, j.Account, j.Params, time.Until(end).Seconds()
	input, err := json.Marshal(request)
	if err != nil {
		return a, false, notPresented(fmt.Errorf("encode the request: %w", err))
	}
	defer clear(input)
	out, errs := &bounded{left: maxAnswer}, &bounded{left: maxSaid}
	cmd := exec.CommandContext(ctx, program.Path, program.Args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, errs
	cmd.Env, cmd.Dir, cmd.WaitDelay = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8"}, "/", graceful
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return a, false, notPresented(fmt.Errorf("start program %s: %w", name, err))
	}
	err = cmd.Wait()
	endGroup(cmd.Process.Pid)
	switch {
	case ctx.Err() != nil:
		return a, true, fmt.Errorf("program %s: %w", name, ctx.Err())
	case err != nil:
		return a, true, fmt.Errorf("program %s: %w: %s", name, err, errs.kept)
	case out.cut:
		return a, true, fmt.Errorf("program %s wrote more than %d bytes", name, maxAnswer)
	}
	if err := json.Unmarshal(out.kept, &a); err != nil { // the cause may quote the output
		return a, true, fmt.Errorf("program %s wrote no JSON object", name)
	}
	return a, true, nil
}

// ownGroup puts a command and its children in a process group, which its end kills.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// endGroup kills what a program has left running.
func endGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) } // nobody left is fine

// CheckPrograms refuses a configuration whose programs can't be run as they are
// named.
func CheckPrograms(programs map[string]Program) error {
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		p := programs[name]
		if err := targetkind.Check("exec", map[string]string{targetkind.Program: name}); err != nil {
			return fmt.Errorf("rotation.exec: %w", err)
		}
		if !filepath.IsAbs(p.Path) {
			return fmt.Errorf("rotation.exec.%s: path %q is not absolute", name, p.Path)
		}
		if slices.ContainsFunc(append([]string{p.Path}, p.Args...), func(s string) bool { return strings.ContainsRune(s, 0) }) {
			return fmt.Errorf("rotation.exec.%s: a NUL byte", name)
		}
	}
	return nil
}
