package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// runsHere marks the commands that this binary runs itself.
const runsHere = "holdfast_runs_here"

// localVerbs makes the commands that run here. It is filled by package-level
// local calls and read-only afterwards.
var localVerbs []func(*client) *cobra.Command

// local declares a verb of the binary itself. Its function is called for each
// command line; a verb's streams and context are those of its command.
func local(verb func() *cobra.Command) struct{} {
	return localWith(func(*client) *cobra.Command { return verb() })
}

// localWith is local for a verb that asks a site.
func localWith(verb func(*client) *cobra.Command) struct{} {
	localVerbs = append(localVerbs, verb)
	return struct{}{}
}

// localUnder is localWith for a verb under a noun of the site's.
func localUnder(noun string, verb func(*client) *cobra.Command) struct{} {
	localParts = append(localParts, localPart{noun, verb})
	return struct{}{}
}

type localPart struct {
	noun string
	verb func(*client) *cobra.Command
}

// localParts is like localVerbs.
var localParts []localPart

// tree is the whole command tree: the verbs that run here, and those of a site
// for their help and completion.
func (c *client) tree() *cobra.Command {
	root := console.NewRoot("Privileged access through one recorded door",
		"holdfast lets people and automation reach servers with their own identity, through\n"+
			"recorded sessions, without ever seeing the credentials in use.\n\n"+
			"up and demo start a site here. Every other verb runs at a site, over SSH and with\n"+
			"your own SSH key: the site in --data, or the one that --gateway names.")
	root.CompletionOptions.DisableDefaultCmd = false
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	flags := root.PersistentFlags()
	flags.String("gateway", "", "the site's gateway, [USER@]HOST[:PORT] (HOLDFAST_GATEWAY)")
	flags.String("data", "", "data directory of a site on this machine (HOLDFAST_DATA)")
	flags.String("identity", "", "private key to log in with (HOLDFAST_IDENTITY; else the SSH agent, then ~/.ssh)")
	flags.String("known-hosts", "", "file of known host keys")
	flags.Bool("no-input", false, "never ask for a passphrase")
	for _, verb := range localVerbs {
		root.AddCommand(c.here(verb(c)))
	}
	for _, cmd := range console.Nouns() {
		if own, _, _ := root.Find([]string{cmd.Name()}); own == root {
			root.AddCommand(cmd)
		}
	}
	for _, part := range localParts {
		if noun, _, err := root.Find([]string{part.noun}); err == nil && noun != root {
			noun.AddCommand(c.here(part.verb(c)))
		}
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	markLocal(root, "completion", "help")
	return root
}

// here marks a verb as one that runs here.
func (c *client) here(cmd *cobra.Command) *cobra.Command {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[runsHere] = "yes"
	c.noteBegin(cmd)
	return cmd
}

// noteBegin makes a verb, or each of a noun's, say when it begins.
func (c *client) noteBegin(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			c.began = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		c.noteBegin(sub)
	}
}

// markLocal marks the commands that come with the tree itself.
func markLocal(root *cobra.Command, names ...string) {
	for _, name := range names {
		if cmd, _, err := root.Find([]string{name}); err == nil && cmd != root {
			cmd.Annotations = map[string]string{runsHere: "yes"}
		}
	}
}

var _ = local(func() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary (status shows that of the site)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			return console.WriteVersion(cmd.OutOrStdout(), Version(), asJSON)
		},
	}
})

// goVersion says what the binary was built with and for.
func goVersion() string {
	return fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
