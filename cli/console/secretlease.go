package console

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/projections"
)

func (c *call) secretCheckout() *cobra.Command {
	var reason, length string
	cmd := c.verb("checkout ACCOUNT+TARGET", "Show a secret that nobody else is shown until you check it in or the time is over; then it is rotated", judged, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(length)
		if err != nil {
			return &Fault{Exit: Usage, Message: fmt.Sprintf("%q is no length of time", length), Hint: "for example --for 1h or --for 90m"}
		}
		return c.disclose(commands.CheckOutSecret{Account: account, Target: target, Reason: reason, For: d})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit; it must be given")
	cmd.Flags().StringVar(&length, "for", "1h", "how long, from 1m")
	return cmd
}

func (c *call) secretCheckin() *cobra.Command {
	var reason string
	cmd := c.verb("checkin ACCOUNT+TARGET", "End a check-out of yours, as administrator anybody's; the secret is rotated", judged, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		return carryOut(c, "credential", "secret.checked_in",
			commands.CheckInSecret{Account: account, Target: target, Reason: reason}, (*projections.Projections).Credential)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}
