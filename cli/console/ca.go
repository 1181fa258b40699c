package console

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/projections"
)

// authority is the key by which the site vouches for the names of its targets.
type authority struct {
	Key         string   `json:"key"` // authorized_keys form
	Fingerprint string   `json:"fingerprint"`
	HostKey     string   `json:"host_key"` // of the gateway itself, authorized_keys form
	Hosts       []string `json:"hosts"`    // names that the caller may believe it for: their targets
}

var authorityColumns = []column[authority]{
	{"key", func(a authority) string { return a.Key }},
	{"fingerprint", func(a authority) string { return a.Fingerprint }},
	{"hosts", func(a authority) string { return strings.Join(a.Hosts, " ") }},
}

var _ = noun(func(c *call) *cobra.Command {
	return group("ca", "The key by which this site vouches for its targets' names", c.caShow(), c.caExport())
})

func (c *call) caShow() *cobra.Command {
	return c.verb("show", "Show the public key, and the targets of yours that it vouches for", own, func([]string) error {
		a, err := c.authority()
		if err != nil {
			return err
		}
		return show(c, "ca", a, authorityColumns)
	})
}

func (c *call) caExport() *cobra.Command {
	cmd := c.verb("export", "Write the known_hosts line that lets ssh -J believe your targets' names", own, func([]string) error {
		a, err := c.authority()
		if err != nil {
			return err
		}
		if len(a.Hosts) == 0 {
			return &Fault{Exit: NotFound, Message: "there is no target here that you may reach, so there is nothing to vouch for",
				Hint: "ask an administrator for a grant"}
		}
		_, err = io.WriteString(c.stdout, a.KnownHosts())
		return err
	})
	cmd.Long = cmd.Short + ".\n\nIt is one @cert-authority line. It names the targets that you may reach and\n" +
		"nothing else: the site is believed for those names alone, never for a host of your own."
	return cmd
}

// KnownHosts is the authority's line of known_hosts, with its newline. Names of
// targets hold no character that known_hosts gives a meaning.
func (a authority) KnownHosts() string {
	return fmt.Sprintf("@cert-authority %s %s\n", strings.Join(a.Hosts, ","), a.Key)
}

// authority asks the site for its key, and for the caller's targets.
func (c *call) authority() (authority, error) {
	a := authority{HostKey: c.cfg.Site.HostKey()}
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		if t, ok := s.Site(c.cfg.Site.ID()); ok {
			a.Key = t.CA
		}
	})
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(a.Key))
	if err != nil {
		return a, fmt.Errorf("the site's certificate authority: %w", err)
	}
	a.Fingerprint = ssh.FingerprintSHA256(key)
	p, err := c.views()
	if err != nil {
		return a, err
	}
	targets, err := c.ownTargets(p, c.ctx, projections.Filter{Live: true, Limit: projections.MaxLimit})
	a.Hosts = make([]string, 0, len(targets))
	for _, t := range targets {
		a.Hosts = append(a.Hosts, strings.ToLower(t.Name)) // as OpenSSH looks them up
	}
	return a, err
}
