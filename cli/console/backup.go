package console

import (
	"io"
	"strconv"
	"time"

	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/site"
)

var _ = noun(func(c *call) *cobra.Command {
	return group("backup", "Copies of all that the site must not lose", c.backupCreate())
})

func (c *call) backupCreate() *cobra.Command {
	var to []string
	cmd := c.verb("create", "Write a backup to standard output, encrypted to your own SSH keys", change, func([]string) error {
		if c.terminal != nil {
			return usageError("a backup is not for a terminal: send it to a file (backup create > FILE), and ask for no terminal")
		}
		recipients, names, err := c.recipients(to)
		if err != nil {
			return err
		}
		id, err := events.NewID()
		if err != nil {
			return err
		}
		records, err := c.do(commands.BackUpSite{Site: c.cfg.Site.ID(), Backup: id, Recipients: names})
		if err != nil {
			return err
		}
		if err := c.cfg.Site.Backup(c.ctx, c.stdout, id, recipients...); err != nil {
			return err
		}
		c.note("backup %s, to be opened by %s; the site's private key is not in it  event %s", id, strings.Join(names, ", "), records[0].Header.ID)
		return nil
	})
	cmd.Long = cmd.Short + ".\n\n" +
		"Writes a copy of logs, keys and all else that the site must not lose to standard output,\n" +
		"while the site goes on. It is encrypted with age, for your own SSH keys (RSA or Ed25519)\n" +
		"and for those named with --recipient. The site's private key is not in it: keep that\n" +
		"apart. backup verify FILE checks a backup, backup restore FILE makes a site out of it."
	cmd.Flags().StringArrayVar(&to, "recipient", nil, "who may open it besides: an age recipient (age1...) or an SSH public key; may be repeated")
	return cmd
}

// recipients are the caller's own keys that can open something, and those named.
func (c *call) recipients(named []string) (recipients []age.Recipient, names []string, err error) {
	var keys []aggregate.Key
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		if u, ok := s.User(c.by.ID); ok {
			keys = slices.Clone(u.Keys())
		}
	})
	for _, k := range keys {
		if r, err := agessh.ParseRecipient(k.Key); err == nil { // keys on hardware only sign
			recipients, names = append(recipients, r), append(names, k.Fingerprint)
		}
	}
	for _, text := range named {
		var r age.Recipient
		if r, err = age.ParseX25519Recipient(text); err != nil {
			if r, err = agessh.ParseRecipient(text); err != nil {
				return nil, nil, usageError("--recipient %s is neither an age recipient nor an RSA or Ed25519 public key", Printable(text))
			}
		}
		recipients, names = append(recipients, r), append(names, text)
	}
	if len(recipients) == 0 {
		return nil, nil, &Fault{Exit: Usage, Message: "none of your keys can open a backup: they are no RSA or Ed25519 keys on record here",
			Hint: fmt.Sprintf("name who may open it: %s --recipient age1...", "backup create")}
	}
	return recipients, names, nil
}

var backupColumns = []column[backedUp]{
	{"log", func(l backedUp) string { return l.Log }},
	{"records", func(l backedUp) string { return strconv.FormatUint(l.Records, 10) }},
	{"root", func(l backedUp) string { return l.Root }},
}

// backedUp is what a backup holds of one log.
type backedUp struct {
	Log     string `json:"log"`
	Records uint64 `json:"records"`
	Root    string `json:"root"`
}

// WriteBackup answers with what a backup was found to hold.
func WriteBackup(w io.Writer, found site.Restored, asJSON bool) error {
	logs := make([]backedUp, 0, len(found.Logs))
	for _, l := range found.Logs {
		logs = append(logs, backedUp{l.Origin.String(), l.Records, l.Root.String()})
	}
	c := &call{stdout: w, json: asJSON}
	if !asJSON {
		_, err := fmt.Fprintf(w, "backup %s of site %s, made %s: whole\n", found.About.ID, Printable(found.About.Name), found.About.Made.UTC().Format(time.RFC3339))
		if err != nil {
			return err
		}
	}
	return list(c, "backup", logs, backupColumns)
}
