package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/console"
	"github.com/holdfast-pam/holdfast/site"
	"github.com/holdfast-pam/holdfast/site/backup"
)

var _ = localUnder("backup", func(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a backup, every byte and every log in it, with no site running",
		Long:  "Reads a whole backup (- for standard input) and checks it. It is opened with --identity,\nan SSH private key or a file of age identities.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withBackup(cmd, args[0], func(r io.Reader, keys []age.Identity) (site.Restored, error) {
				return site.CheckBackup(cmd.Context(), r, keys...)
			})
		},
	}
})

var _ = localUnder("backup", func(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE --data DIR",
		Short: "Make a new data directory out of a backup",
		Long: "Makes the directory that --data names, which must be empty or not exist, out of a backup\n" +
			"(- for standard input), opened with --identity. Put the site's private key beside it\n" +
			"(DIR/keys/site.key), then start it with holdfast up. It goes on in new epochs of its\n" +
			"logs, since the site may have written more than the backup holds. Never run it beside\n" +
			"the site that it was taken from.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := cmd.Flags().GetString("data")
			if err != nil {
				return err
			}
			if data == "" {
				return &console.Fault{Exit: console.Usage, Message: "say where to: --data DIR, which must be empty or not exist"}
			}
			return c.withBackup(cmd, args[0], func(r io.Reader, keys []age.Identity) (site.Restored, error) {
				return site.Restore(cmd.Context(), r, data, keys...)
			})
		},
	}
})

// withBackup opens a backup for use and shows what was found in it.
func (c *client) withBackup(cmd *cobra.Command, file string, use func(io.Reader, []age.Identity) (site.Restored, error)) error {
	keyFile, err := cmd.Flags().GetString("identity")
	if err != nil {
		return err
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	keys, err := c.backupIdentities(keyFile)
	if err != nil {
		return err
	}
	r := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("open backup: %w", err)
		}
		defer f.Close()
		r = f
	}
	found, err := use(r, keys)
	var noKey *age.NoIdentityMatchError
	switch {
	case errors.As(err, &noKey):
		return &console.Fault{Exit: console.Denied, Message: "this identity can't open the backup", Hint: "name one of its recipients' private keys with --identity FILE"}
	case errors.Is(err, backup.ErrBad):
		return &console.Fault{Exit: console.Damaged, Message: err.Error(), Hint: "nothing was made of it; take another backup"}
	case err != nil:
		return err
	}
	return console.WriteBackup(cmd.OutOrStdout(), found, asJSON)
}

// backupIdentities reads an SSH private key or a file of age identities; by
// default the SSH keys that are in their usual place.
func (c *client) backupIdentities(file string) ([]age.Identity, error) {
	if file != "" {
		return c.readIdentities(file)
	}
	var all []age.Identity
	for _, name := range []string{"id_ed25519", "id_rsa"} {
		keys, err := c.readIdentities(filepath.Join(c.getenv("HOME"), ".ssh", name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		all = append(all, keys...)
	}
	if len(all) == 0 {
		return nil, &console.Fault{Exit: console.Usage, Message: "a backup is encrypted: name a private key that opens it with --identity FILE"}
	}
	return all, nil
}

func (c *client) readIdentities(file string) ([]age.Identity, error) {
	b, err := readBounded(file, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	defer clear(b)
	if strings.Contains(string(b), "AGE-SECRET-KEY-") {
		keys, err := age.ParseIdentities(strings.NewReader(string(b)))
		if err != nil {
			return nil, fmt.Errorf("identity %s: it is no file of age identities", file)
		}
		return keys, nil
	}
	key, err := agessh.ParseIdentity(b)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		public := locked.PublicKey
		if public == nil {
			return nil, fmt.Errorf("identity %s: its passphrase can't be asked for in this old form; convert it with ssh-keygen -p", file)
		}
		if c.ask == nil {
			return nil, fmt.Errorf("identity %s has a passphrase, and nobody can be asked for it", file)
		}
		encrypted, err := agessh.NewEncryptedSSHIdentity(public, b, func() ([]byte, error) { return c.ask("Passphrase for " + file + ": ") })
		if err != nil {
			return nil, fmt.Errorf("identity %s: %w", file, err)
		}
		return []age.Identity{encrypted}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("identity %s: neither an SSH private key (RSA, Ed25519) nor a file of age identities", file)
	}
	return []age.Identity{key}, nil
}
