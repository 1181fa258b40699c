package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/cli/console"
	"github.com/holdfast-pam/holdfast/cli/demo"
)

var _ = local(func() *cobra.Command {
	var script bool
	var sites int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try everything on this machine: sites, a target, sessions, a cut, the proof",
		Long: "Starts a throw-away site and a target on loopback and tells what to try; with --sites 2\n" +
			"two sites that are one mesh, which demo partition cuts off from each other and demo\n" +
			"heal joins again. With --script it goes through the main job step by step, with two\n" +
			"sites, checks each step and ends.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("sites") && script {
				sites = 2
			}
			if sites != 1 && sites != 2 {
				return &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("the demo has one site or two, not %d", sites)}
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			return demo.Run(cmd.Context(), cmd.OutOrStdout(), self, demo.Options{Script: script, Sites: sites})
		},
	}
	cmd.Flags().BoolVar(&script, "script", false, "go through every step, check it and end")
	cmd.Flags().IntVar(&sites, "sites", 1, "how many sites, 1 or 2 (with --script: 2)")
	cmd.AddCommand(demoWord(demo.Partition, "Cut the two sites of the running demo off from each other"),
		demoWord(demo.Heal, "Let the two sites of the running demo reach each other again"))
	return cmd
})

// demoWord is a verb that talks to a running demo.
func demoWord(word, short string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   word,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			said, err := demo.Tell(cmd.Context(), dir, word)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the running demo's directory (default: the only one there is)")
	return cmd
}
