package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// What runs here needs no site.
func TestLocalVerbs(t *testing.T) {
	p := newPerson(t)
	p.want(p.run(), console.Done, "Verbs:", "")
	p.want(p.run("--help"), console.Done, "--gateway", "")
	p.want(p.run("help"), console.Done, "Verbs:", "")
	p.want(p.run("help", "session", "play"), console.Done, "Show a session as it went", "")
	p.want(p.run("session", "play", "--help"), console.Done, "Show a session as it went", "")
	p.want(p.run("session", "--help"), console.Done, "export", "")
	p.want(p.run("session"), console.Usage, "", "session needs a verb") // as at the site
	p.want(p.run("--gateway", "x", "session"), console.Usage, "", "session needs a verb")
	p.want(p.run("version", "extra"), console.Usage, "", "extra")
	p.want(p.run("--frobnicate"), console.Usage, "", "--frobnicate")
	p.want(p.run("completion", "bash"), console.Done, "__start_holdfast", "")
	p.want(p.run("__complete", "session", ""), console.Done, "export\tWrite a recording", "")
	for _, args := range [][]string{{"version"}, {"version", "--json"}} {
		r := p.run(args...)
		p.want(r, console.Done, "go1", "")
		if asJSON := json.Valid([]byte(r.out)); asJSON != (len(args) > 1) {
			t.Errorf("%q: JSON %t\n%s", args, asJSON, r.out)
		}
	}
}

// The client takes its flags out of any line, so no verb of a site may have
// one of that name.
func TestFlagsDoNotClash(t *testing.T) {
	own := map[string]bool{"gateway": true, "data": true, "identity": true, "known-hosts": true, "no-input": true}
	for name := range own {
		if (&client{}).tree().PersistentFlags().Lookup(name) == nil {
			t.Errorf("the help does not show --%s", name)
		}
	}
	var visit func(cmds []*cobra.Command)
	visit = func(cmds []*cobra.Command) {
		for _, cmd := range cmds {
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if own[f.Name] {
					t.Errorf("%s has the client's flag --%s", cmd.CommandPath(), f.Name)
				}
			})
			visit(cmd.Commands())
		}
	}
	visit(console.Nouns())
}

// Every verb of a site is in the local help, and is sent to the site.
func TestOneTree(t *testing.T) {
	root := (&client{}).tree()
	for _, noun := range console.Nouns() {
		found, _, err := root.Find([]string{noun.Name()})
		if err != nil || found == root {
			t.Errorf("%s is not in the local tree", noun.Name())
		}
		for _, verb := range noun.Commands() {
			words := []string{noun.Name(), verb.Name()}
			if cmd, _, err := root.Find(words); err != nil || isLocal(root, cmd, words) {
				t.Errorf("%s runs here: %v", strings.Join(words, " "), err)
			}
		}
	}
}
