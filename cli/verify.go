package cli

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/cli/console"
	"github.com/holdfast-pam/holdfast/site"
)

var _ = local(func() *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Check the logs of a data directory, or of a copy of one, with no site running",
		Long: "Reads both logs in a data directory and checks every record, hash, commit and signed\n" +
			"head. It changes nothing. (log verify asks a running site to check its own logs.)",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			reports, err := site.VerifyLogs(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return console.WriteVerification(cmd.OutOrStdout(), reports, asJSON)
		},
	}
})
