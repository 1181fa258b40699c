package console

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// newHelp replaces cobra's own help verb, which ends the process when its
// answer can't be written.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:         "help [VERB...]",
		Short:       "Show what a verb does",
		Annotations: map[string]string{rightNeeded: string(own)},
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownVerb(cmd.Root(), strings.Join(args, " "))
			}
			return found.Help()
		},
	}
}

// writeHelp shows what a command does: its text, its verbs and its flags. An
// answer that can't be written is dropped: there is nobody to tell.
func writeHelp(cmd *cobra.Command, _ []string) {
	cmd.InitDefaultHelpFlag()
	var b strings.Builder
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	use := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		use = cmd.CommandPath() + " VERB"
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", strings.TrimSpace(text), use)
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nVerbs:\n")
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(&b, "  %-*s  %s\n", sub.NamePadding(), sub.Name(), sub.Short)
		}
	}
	if flags := cmd.LocalFlags().FlagUsages(); flags != "" {
		b.WriteString("\nFlags:\n" + flags)
	}
	if flags := cmd.InheritedFlags().FlagUsages(); flags != "" {
		b.WriteString("\nFlags of every verb:\n" + flags)
	}
	_, _ = io.WriteString(cmd.OutOrStdout(), b.String())
}
