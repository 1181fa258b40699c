package console

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/projections"
)

var accountColumns = []column[projections.Account]{
	{"account", accountName},
	{"state", func(a projections.Account) string { return archived(a.State, a.Conflict, a.Contested) }},
	{"added", func(a projections.Account) string { return stamp(a.Added) }},
	{"credential", func(a projections.Account) string { return a.Credential.String() }},
	{"id", func(a projections.Account) string { return a.ID.String() }},
}

var accountDetails = append(accountColumns[:len(accountColumns):len(accountColumns)], []column[projections.Account]{
	{"via", func(a projections.Account) string { return a.Via }},
	{"params", func(a projections.Account) string { return shownParams(a.Params) }},
	{"removed", func(a projections.Account) string { return stamp(a.Removed) }},
	{"reason", func(a projections.Account) string { return a.Reason }},
}...)

func accountName(a projections.Account) string { return a.Name + "+" + a.Target }

var _ = noun(func(c *call) *cobra.Command {
	return group("account", "Logins on targets, whose credentials this site presents",
		c.accountAdd(), c.accountSet(), c.accountDiscover(), c.accountRemove(), c.accountRestore(), c.accountErase(), c.accountErasures(), c.accountList(), c.accountShow())
})

// splitAccount reads ACCOUNT+TARGET. The target stands behind the last +.
func splitAccount(s string) (account, target string, err error) {
	at := strings.LastIndexByte(s, '+')
	if at < 1 || at == len(s)-1 {
		return "", "", &Fault{Exit: Usage, Message: "an account is written ACCOUNT+TARGET, for example root+web1"}
	}
	return s[:at], s[at+1:], nil
}

func (c *call) accountAdd() *cobra.Command {
	var password, privateKey, certificate bool
	var unknown, via, principal string
	var params paramFlags
	cmd := params.flags(c.verb("add ACCOUNT+TARGET", "Add an account, with its secret from standard input", change, func(args []string) error {
		add, err := newAccount(args[0], via)
		if err != nil {
			return err
		}
		if add.Params, err = params.read(c); err != nil {
			return err
		}
		add.Principal = principal
		if sources := len(slices.DeleteFunc([]bool{password, privateKey, certificate, unknown != ""}, func(given bool) bool { return !given })); sources != 1 {
			return &Fault{Exit: Usage, Message: "account add needs one of --password-stdin, --private-key-stdin, --certificate and --no-secret",
				Hint: "for example: printf %s \"$PASSWORD\" | ... account add root+web1 --password-stdin"}
		}
		switch {
		case password:
			err = c.readSecret(&add, events.Password, "password")
		case privateKey:
			err = c.readSecret(&add, events.PrivateKey, "private key")
		case certificate:
			add.Secret, err = vault.ByCertificate()
		default:
			add.Secret, err = vault.Empty(c.ctx, c.cfg.Site.Sealer(), events.SecretKind(unknown))
		}
		if err != nil {
			return err
		}
		return carryOut(c, "account", "account.added", add, c.account)
	}))
	cmd.Flags().BoolVar(&password, "password-stdin", false, "read a password; one line end after it is not part of it")
	cmd.Flags().BoolVar(&privateKey, "private-key-stdin", false, "read a private key without passphrase")
	cmd.Flags().BoolVar(&certificate, "certificate", false, "no secret is kept: each session gets an SSH certificate (see ca export --user)")
	cmd.Flags().StringVar(&principal, "principal", "", "whom the certificates name (default: the account)")
	cmd.Flags().StringVar(&unknown, "no-secret", "", "the secret is not known: password or private_key; a rotation through --via sets one")
	cmd.Flags().StringVar(&via, "via", "", "ACCOUNT+TARGET of the privileged account that may change its secret")
	return cmd
}

// newAccount reads the names of an account to add.
func newAccount(name, via string) (commands.AddAccount, error) {
	account, target, err := splitAccount(name)
	if err != nil {
		return commands.AddAccount{}, err
	}
	add := commands.AddAccount{Name: account, Target: target}
	ref, err := viaRef(via, false)
	if ref != nil {
		add.Via = *ref
	}
	return add, err
}

// readSecret reads the account's secret from standard input and seals it.
func (c *call) readSecret(add *commands.AddAccount, kind events.SecretKind, what string) error {
	secret, err := c.input(what)
	if err != nil {
		return err
	}
	defer clear(secret)
	if kind == events.Password {
		secret = trimNewline(secret)
	}
	held := seal.NewSecret(secret)
	defer held.Wipe()
	add.Secret, err = vault.Add(c.ctx, c.cfg.Site.Sealer(), kind, held)
	return err
}

func (c *call) accountRemove() *cobra.Command {
	var reason string
	var confirm bool
	cmd := c.verb("rm ACCOUNT+TARGET", "Retire an account, by name or id; its history stays", change, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		return carryOut(c, "account", "account.removed",
			commands.RemoveAccount{Account: account, Target: target, Confirm: confirm, Reason: reason}, c.account)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	cmd.Flags().BoolVar(&confirm, "confirm", false, confirmRemoval)
	return cmd
}

const confirmRemoval = "of a removal that conflict ls shows: it stays removed"

func (c *call) accountRestore() *cobra.Command {
	var reason string
	cmd := c.verb("restore ACCOUNT+TARGET", "Bring back an account that was removed, with its secrets and without its grants", change, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		return carryOut(c, "account", "account.restored",
			commands.RestoreAccount{Account: account, Target: target, Reason: reason}, c.account)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit; it must be given")
	return cmd
}

func (c *call) accountList() *cobra.Command {
	var w window
	var mine bool
	cmd := w.flags(c.verb("ls", "List accounts; an operator sees those they may use", own, func([]string) error {
		query := c.ownAccounts
		if mine {
			query = c.grantedAccounts
		}
		return listFrom(c, "account", &w, query, accountColumns)
	}))
	cmd.Flags().BoolVar(&mine, "mine", false, "only those that a grant or an approved request is yours for, whatever your role; also outside its windows")
	return cmd
}

func (c *call) accountShow() *cobra.Command {
	return c.verb("show ACCOUNT+TARGET", "Show one account, by name or id", own, func(args []string) error {
		return showFrom(c, "account", args[0], c.ownAccount, accountDetails)
	})
}

var credentialColumns = []column[projections.Credential]{
	{"account", func(r projections.Credential) string { return r.Account }},
	{"kind", func(r projections.Credential) string { return string(r.Kind) }},
	{"state", func(r projections.Credential) string { return r.State }},
	{"versions", func(r projections.Credential) string { return number(r.Versions) }},
	{"staged", func(r projections.Credential) string { return stamp(r.Staged) }},
	{"verified", func(r projections.Credential) string { return stamp(r.Verified) }},
	{"id", func(r projections.Credential) string { return r.ID.String() }},
}

var credentialDetails = append(credentialColumns[:len(credentialColumns):len(credentialColumns)], []column[projections.Credential]{
	{"added", func(r projections.Credential) string { return stamp(r.Added) }},
	{"applied", func(r projections.Credential) string { return stamp(r.Applied) }},
	{"version", func(r projections.Credential) string { return r.Version.String() }},
	{"public key", func(r projections.Credential) string { return r.Public }},
}...)

var _ = noun(func(c *call) *cobra.Command {
	var w window
	return group("credential", "What the site presents for an account; never its secret",
		w.flags(c.verb("ls", "List credentials", read, func([]string) error {
			return listFrom(c, "credential", &w, (*projections.Projections).Credentials, credentialColumns)
		})),
		c.verb("show ID", "Show one credential, by id or as ACCOUNT+TARGET", read, func(args []string) error {
			return showFrom(c, "credential", args[0], (*projections.Projections).Credential, credentialDetails)
		}))
})
