package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/mux"
)

// Person is who a call is made by, as the gateway has authenticated them. What
// they are called and may do is asked of the site at each call.
type Person struct {
	ID          events.UserID
	Login       string        // SSH user name as sent
	Source      string        // client's address
	Fingerprint string        // of the key that they proved
	Factor      events.Factor // how they proved a second factor; zero for none
}

func (p *Person) actor() events.Actor { return events.UserActor(p.ID) }

// Size is that of a terminal in characters.
type Size struct{ Columns, Rows int }

// Terminal is what stands at the other end of a call that has one.
type Terminal struct {
	Kind string // value of TERM, as sent
	Size Size   // at the start

	Resized <-chan mux.Size // the newest size, when it has changed; nil if that is not told
}

// Request is one call at the console. Its streams belong to the call until Run
// returns; afterwards a read that still waits on Stdin is ended by its owner
// closing the channel.
type Request struct {
	Person   Person
	Line     string    // as sent; empty shows what there is
	Terminal *Terminal // nil without one
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
}

// Console runs lines at one site. It is safe for concurrent use.
type Console struct{ cfg Config }

// New makes the console of a site.
func New(cfg Config) *Console {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Console{cfg: cfg}
}

// Run runs one line and gives its exit code. What failed is told on the
// request's standard error. The end of ctx ends the call.
func (c *Console) Run(ctx context.Context, r *Request) (exit Exit) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &call{ctx: ctx, cfg: &c.cfg, by: r.Person, terminal: r.Terminal, stdin: r.Stdin, stdout: r.Stdout, stderr: r.Stderr}
	if r.Terminal != nil {
		k.stdin = readKeys(r.Stdin, cancel)
		k.raw, k.stdout, k.stderr = r.Stdout, newlines{r.Stdout}, newlines{r.Stderr}
	}
	defer func() {
		// One call must not take the site down with it.
		if p := recover(); p != nil {
			c.cfg.Log.Error("console call panicked", "panic", p, "user", r.Person.ID, "stack", string(debug.Stack()))
			WriteFault(k.stderr, &Fault{Exit: Failed, Message: "the site made a mistake in this verb; its own log says more"}, k.json)
			exit = Failed
		}
	}()
	words, err := splitLine(r.Line)
	if err == nil {
		k.json = AsksJSON(words)
		err = k.identify()
	}
	if err == nil {
		err = k.execute(words)
	}
	f := k.outcome(err)
	switch {
	case f == nil:
		return Done
	case f != k.behind || k.json: // that it is behind was said before the answer
		WriteFault(k.stderr, f, k.json)
	}
	return f.Exit
}

// AsksJSON reports whether words ask for JSON, for errors that occur before
// anybody has parsed them.
func AsksJSON(words []string) bool {
	end := slices.Index(words, "--")
	if end < 0 {
		end = len(words)
	}
	return slices.Contains(words[:end], "--json") || slices.Contains(words[:end], "--json=true")
}

// call is one line that is being run for one person.
type call struct {
	ctx            context.Context
	cfg            *Config
	by             Person
	name           string      // of the caller
	role           events.Role // of the caller
	unproven       error       // why the caller may do nothing but enrol a second factor; nil if they may
	terminal       *Terminal
	json           bool
	behind         *Fault // the views may lack what was decided before; nil if they don't
	stdin          io.Reader
	stdout, stderr io.Writer
	raw            io.Writer // with a terminal: standard output as it is
}

// identify asks the site who the caller is now. The gateway has let them in, but
// that may be a while ago.
func (c *call) identify() error {
	var err error
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		if err = s.UserStands(c.by.ID); err == nil {
			u, _ := s.User(c.by.ID)
			c.name, c.role = u.Name, u.Role
			c.unproven = s.FactorProven(c.by.ID, c.by.Factor)
		}
	})
	if err != nil {
		return c.deny("the console", err.Error())
	}
	return nil
}

// execute finds the verb in a tree of its own and runs it.
func (c *call) execute(words []string) error {
	for _, w := range words {
		if w == cobra.ShellCompRequestCmd || w == cobra.ShellCompNoDescRequestCmd {
			return usageError("completion is a matter of the binary at your end: holdfast completion --help")
		}
	}
	root := c.tree()
	root.SetArgs(append([]string{}, words...)) // never nil: that would mean the arguments of the process
	return root.ExecuteContext(c.ctx)
}

func (c *call) tree() *cobra.Command {
	root := NewRoot("The console of a holdfast site",
		"This is the console of a holdfast site. To reach a server instead, log in as\n"+
			"ACCOUNT+TARGET, for example: ssh root+web1@GATEWAY. target ls shows where you may go.")
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		c.json, err = cmd.Flags().GetBool("json")
		return err
	}
	for _, build := range nouns {
		root.AddCommand(build(c))
	}
	return root
}

// note tells a person something beside the answer, on standard error. With
// JSON nothing is told: it is for scripts.
func (c *call) note(format string, args ...any) {
	if !c.json {
		fmt.Fprintf(c.stderr, format+"\n", args...)
	}
}

// ended turns the end of the call's context into an orderly end, for verbs that
// run until they are stopped.
func (c *call) ended(err error) error {
	if errors.Is(c.ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}
