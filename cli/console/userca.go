package console

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/projections"
)

var userCAColumns = []column[projections.CA]{
	{"name", func(a projections.CA) string { return a.Name }},
	{"state", func(a projections.CA) string { return conflicting(a.State, a.Conflict) }},
	{"key", func(a projections.CA) string { return a.Fingerprint }},
	{"revoked", func(a projections.CA) string { return number(len(a.Revoked)) }},
	{"added", func(a projections.CA) string { return stamp(a.Added) }},
	{"id", func(a projections.CA) string { return a.ID.String() }},
}

var userCADetails = append(userCAColumns[:len(userCAColumns):len(userCAColumns)], []column[projections.CA]{
	{"comment", func(a projections.CA) string { return a.Comment }},
	{"revocations", func(a projections.CA) string {
		var all []string
		for _, r := range a.Revoked {
			all = append(all, revoked(r))
		}
		return strings.Join(all, ", ")
	}},
	{"removed", func(a projections.CA) string { return stamp(a.Removed) }},
	{"reason", func(a projections.CA) string { return a.Reason }},
}...)

// revoked tells which certificates a revocation means.
func revoked(r projections.Revocation) string {
	switch {
	case r.Serial != "":
		return "serial " + r.Serial
	case r.KeyID != "":
		return "key id " + r.KeyID
	case r.Fingerprint != "":
		return "key " + r.Fingerprint
	}
	return "all"
}

var _ = noun(func(c *call) *cobra.Command {
	return group("user-ca", "Authorities whose SSH certificates say who somebody is",
		c.userCAAdd(), c.userCARemove(), c.userCARevoke(), c.userCAList(), c.userCAShow())
})

func (c *call) userCAAdd() *cobra.Command {
	var key string
	cmd := c.verb("add NAME", "Trust the user certificates of an authority", change, func(args []string) error {
		if key == "" {
			return &Fault{Exit: Usage, Message: "user-ca add needs --key", Hint: "give the content of the authority's .pub file, or - to read it from standard input"}
		}
		text, err := c.textInput("public key", key)
		if err != nil {
			return err
		}
		return carryOut(c, "user-ca", "ca.trusted", commands.TrustCA{Name: args[0], Key: text}, (*projections.Projections).CA)
	})
	cmd.Long = cmd.Short + ".\n\n" +
		"A certificate's principals are names of users here; it lets in the one user that they name, who\n" +
		"must exist. Kept to are its validity, source-address, and the extensions that permit a terminal,\n" +
		"forwardings and the agent. One with force-command or an unknown critical option is refused."
	cmd.Flags().StringVar(&key, "key", "", "public key in authorized_keys form, or - for standard input")
	return cmd
}

func (c *call) userCARemove() *cobra.Command {
	var reason string
	cmd := c.verb("rm NAME", "End the trust in an authority, and what was opened by its certificates", change, func(args []string) error {
		return carryOut(c, "user-ca", "ca.distrusted", commands.DistrustCA{CA: args[0], Reason: reason}, (*projections.Projections).CA)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) userCARevoke() *cobra.Command {
	var r commands.RevokeCertificate
	cmd := c.verb("revoke NAME", "Revoke certificates for good, and end what was opened by them", change, func(args []string) error {
		text, err := c.textInput("public key", r.Key)
		if err != nil {
			return err
		}
		r.CA, r.Key = args[0], text
		return carryOut(c, "user-ca", "ca.certificate_revoked", r, (*projections.Projections).CA)
	})
	f := cmd.Flags()
	f.Uint64Var(&r.Serial, "serial", 0, "serial number, not 0")
	f.StringVar(&r.KeyID, "key-id", "", "key id")
	f.StringVar(&r.Key, "key", "", "certified public key, a certificate around it, or its fingerprint; - for standard input")
	f.StringVar(&r.Reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) userCAList() *cobra.Command {
	var w window
	return w.flags(c.verb("ls", "List the authorities", read, func([]string) error {
		return listFrom(c, "user-ca", &w, (*projections.Projections).CAs, userCAColumns)
	}))
}

func (c *call) userCAShow() *cobra.Command {
	return c.verb("show NAME", "Show one authority with its revocations, by name or id", read, func(args []string) error {
		return showFrom(c, "user-ca", args[0], (*projections.Projections).CA, userCADetails)
	})
}
