package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/cli/demo"
)

var _ = local(func() *cobra.Command {
	var script bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try everything on this machine: a site, a target, a session, the proof",
		Long: "Starts a throw-away site and a target on loopback and tells what to try. With --script\n" +
			"it goes through the main job step by step, checks each step and ends.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			return demo.Run(cmd.Context(), cmd.OutOrStdout(), self, script)
		},
	}
	cmd.Flags().BoolVar(&script, "script", false, "go through every step, check it and end")
	return cmd
})
