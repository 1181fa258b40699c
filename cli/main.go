// Package cli is the holdfast binary: the verbs that run here (up, demo,
// version, completion) and, for every other verb, a thin client that runs it at
// a site over SSH with the person's own keys. The verbs of a site, with who may
// use them and what they answer, are the package console.
//
// The client sends the words of its command line, quoted, and passes streams
// and the exit code through. It does not have to know a verb: an older binary
// can use a newer site.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// Main runs the binary's command line, the program's name left out, and gives
// its exit code. SIGINT and SIGTERM cancel the context that verbs run under.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &client{getenv: os.Getenv, stdin: stdin, stdout: stdout, stderr: stderr, ask: askOnTerminal()}
	return c.main(ctx, args)
}

func (c *client) main(ctx context.Context, args []string) int {
	code, err := c.dispatch(ctx, args)
	if err != nil {
		f := console.AsFault(err)
		console.WriteFault(c.stderr, f, console.AsksJSON(args))
		return int(f.Exit)
	}
	return code
}

// dispatch runs what belongs here and sends everything else to the site.
func (c *client) dispatch(ctx context.Context, args []string) (int, error) {
	words, err := c.takeFlags(args)
	if err != nil {
		return 0, err
	}
	root := c.tree()
	found, rest, _ := root.Find(words)
	switch {
	case isLocal(root, found, words):
		return 0, c.runHere(ctx, root, args)
	case asksHelp(rest):
		return 0, found.Help()
	case len(rest) == 0 && found.HasSubCommands():
		return 0, found.RunE(found, nil) // what the site would say
	}
	if c.noInput {
		c.ask = nil
	}
	if _, err := c.destination(); err != nil && found == root {
		return 0, &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("this binary knows no verb %q, and no site could be asked: %s", words[0], err),
			Hint: "holdfast help lists the verbs"}
	}
	return c.run(ctx, verb{
		words:    words,
		terminal: found.Annotations[console.DrawsOnTerminal] != "",
		input:    found.HasSubCommands() || readsInput(words),
	})
}

// runHere runs one of the binary's own verbs. It gets the whole command line:
// its --data and the like are not the client's. An error from before the verb
// began is about how it was called.
func (c *client) runHere(ctx context.Context, root *cobra.Command, args []string) error {
	root.SetArgs(append([]string{}, args...))
	err := root.ExecuteContext(ctx)
	if err != nil && !c.began && !errors.As(err, new(*console.Fault)) {
		return &console.Fault{Exit: console.Usage, Message: err.Error(), Hint: "see holdfast help"}
	}
	return err
}

// isLocal reports whether a command line is one of the binary's own.
func isLocal(root, found *cobra.Command, words []string) bool {
	if found == root {
		return len(words) == 0 || strings.HasPrefix(words[0], "-") || strings.HasPrefix(words[0], cobra.ShellCompRequestCmd)
	}
	for ; found != root; found = found.Parent() {
		if found.Annotations[runsHere] != "" {
			return true
		}
	}
	return false
}

func asksHelp(words []string) bool {
	for _, w := range words {
		if w == "--" {
			break
		}
		if w == "-h" || w == "--help" {
			return true
		}
	}
	return false
}

// readsInput reports whether a verb's words name standard input as a source,
// which is the only time that it is read: so a loop in a script keeps its own.
func readsInput(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		return w == "-" || strings.HasSuffix(w, "=-") || strings.HasPrefix(w, "--") && strings.HasSuffix(w, "-stdin")
	})
}

// takeFlags takes the client's own flags out of a command line, wherever they
// stand before a "--", and gives the words that are for the site. No verb of a
// site has a flag of such a name.
func (c *client) takeFlags(args []string) ([]string, error) {
	values := map[string]*string{"--gateway": &c.gateway, "--data": &c.data, "--identity": &c.identityFile, "--known-hosts": &c.knownHosts}
	var words []string
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		target := values[name]
		switch {
		case args[i] == "--":
			return append(words, args[i:]...), nil
		case args[i] == "--no-input":
			c.noInput = true
		case target == nil:
			words = append(words, args[i])
		case !given && i+1 == len(args), given && value == "":
			return nil, &console.Fault{Exit: console.Usage, Message: name + " needs a value"}
		case given:
			*target = value
		default:
			i++
			*target = args[i]
		}
	}
	return words, nil
}
