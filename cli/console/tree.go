package console

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/spf13/cobra"
)

// Annotations on verbs.
const (
	// DrawsOnTerminal marks a verb that uses a terminal where there is one.
	DrawsOnTerminal = "holdfast_terminal"
	// rightNeeded holds the [right] that a verb asks for.
	rightNeeded = "holdfast_right"
)

// nouns makes the commands below the root. It is filled by package-level noun
// calls and read-only afterwards.
var nouns []func(*call) *cobra.Command

// noun declares a noun or a verb of its own. Its function makes the command
// that serves one call.
func noun(build func(*call) *cobra.Command) struct{} {
	nouns = append(nouns, build)
	return struct{}{}
}

// Nouns makes the console's commands bound to no site: for help and completion.
func Nouns() []*cobra.Command {
	var all []*cobra.Command
	for _, build := range nouns {
		all = append(all, build(&call{}))
	}
	return all
}

// NewRoot makes an empty tree that prints no errors of its own, never asks the
// process for its arguments or leaves it, and has the flags and the help verb
// that every tree has.
func NewRoot(short, long string) *cobra.Command {
	root := &cobra.Command{
		Use:           "holdfast",
		Short:         short,
		Long:          long,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownVerb,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs([]string{}) // nil would mean the arguments of the process
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().Bool("json", false, "answer with JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &Fault{Exit: Usage, Message: lowerFirst(err), Hint: helpHint(cmd), cause: err}
	})
	root.SetHelpCommand(newHelp())
	root.SetHelpFunc(writeHelp)
	root.SetUsageFunc(func(cmd *cobra.Command) error { writeHelp(cmd, nil); return nil })
	root.SuggestionsMinimumDistance = 2
	return root
}

// group makes a noun out of its verbs.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &Fault{Exit: Usage, Message: cmd.CommandPath() + " needs a verb", Hint: helpHint(cmd)}
		},
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(verbs...)
	return cmd
}

// knownVerb refuses words after a noun that are none of its verbs.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownVerb(cmd, args[0])
	}
	return nil
}

func unknownVerb(cmd *cobra.Command, word string) error {
	f := usageError("%s has no verb %q", cmd.CommandPath(), word)
	f.Hint = helpHint(cmd)
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		f.Hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return f
}

func helpHint(cmd *cobra.Command) string { return "see " + cmd.CommandPath() + " --help" }

// verb makes a command that runs for those who have a right. Its use line
// names its arguments in capitals; as many must be given, those in brackets
// may be left out, and the last one may be repeated if it ends in dots.
func (c *call) verb(use, short string, needed right, run func(args []string) error) *cobra.Command {
	least, most := arity(use)
	return &cobra.Command{
		Use:         use,
		Short:       short,
		Annotations: map[string]string{rightNeeded: string(needed)},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < least || len(args) > most {
				f := usageError("%s takes %s, not %d", cmd.CommandPath(), countArgs(least, most), len(args))
				f.Hint = "usage: " + cmd.UseLine()
				if len(args) > most {
					f.Hint += "; over ssh, quote words that belong together twice: ssh GATEWAY 'VERB \"two words\"'"
				}
				return f
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.permit(strings.TrimPrefix(cmd.CommandPath(), "holdfast "), needed); err != nil {
				return err
			}
			return run(args)
		},
	}
}

// arity counts the arguments that a use line names.
func arity(use string) (least, most int) {
	for _, word := range strings.Fields(use)[1:] {
		most++
		if !strings.HasPrefix(word, "[") {
			least++
		}
		if strings.HasSuffix(word, "...") || strings.HasSuffix(word, "...]") {
			most = math.MaxInt
		}
	}
	return least, most
}

func countArgs(least, most int) string {
	switch {
	case most == 0:
		return "no arguments"
	case most == math.MaxInt:
		return fmt.Sprintf("at least %d arguments", least)
	case least != most:
		return fmt.Sprintf("%d to %d arguments", least, most)
	case most == 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", most)
}

// Version is what a binary was built from.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// String is the version in one word, with the revision if it is no release.
func (v Version) String() string {
	s := v.Version
	if v.Revision != "" && (s == "" || s == "(devel)") {
		s = v.Revision
	}
	if v.Modified {
		s += "+modified"
	}
	return s
}

var versionColumns = []column[Version]{
	{"version", func(v Version) string { return v.Version }},
	{"revision", func(v Version) string { return v.Revision }},
	{"go", func(v Version) string { return v.Go }},
}

// WriteVersion answers with a version.
func WriteVersion(w io.Writer, v Version, asJSON bool) error {
	return show(&call{stdout: w, json: asJSON}, "version", v, versionColumns)
}
