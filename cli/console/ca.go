package console

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/site"
	"github.com/spf13/cobra"
)

// authority is what the site vouches by: for the names of its targets, and for
// its own logins at them.
type authority struct {
	Key         string   `json:"key"` // that signs for names now, authorized_keys form
	Fingerprint string   `json:"fingerprint"`
	HostKey     string   `json:"host_key"` // of the gateway itself, authorized_keys form
	Hosts       []string `json:"hosts"`    // names that the caller may believe it for: their targets

	HostKeys []authorityKey `json:"host_authorities"` // all that are believed, the oldest first
	UserKeys []authorityKey `json:"user_authorities"` // those of the certificates that targets are shown
}

// authorityKey is one key of an authority.
type authorityKey struct {
	Key         string    `json:"key"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created,omitzero"`
	Until       time.Time `json:"until,omitzero"` // end of the belief in it; zero while no later one was made
}

func (k authorityKey) String() string {
	if k.Until.IsZero() {
		return k.Key
	}
	return k.Key + " until " + stamp(k.Until)
}

var authorityColumns = []column[authority]{
	{"key", func(a authority) string { return a.Key }},
	{"fingerprint", func(a authority) string { return a.Fingerprint }},
	{"hosts", func(a authority) string { return strings.Join(a.Hosts, " ") }},
	{"host authorities", func(a authority) string { return joined(a.HostKeys) }},
	{"user authorities", func(a authority) string { return joined(a.UserKeys) }},
}

func joined(keys []authorityKey) string {
	texts := make([]string, len(keys))
	for i, k := range keys {
		texts[i] = k.String()
	}
	return strings.Join(texts, "; ")
}

var _ = noun(func(c *call) *cobra.Command {
	return group("ca", "The keys by which this site vouches for its targets' names, and for its logins there",
		c.caShow(), c.caExport(), c.caRotate())
})

func (c *call) caRotate() *cobra.Command {
	var user, host bool
	var overlap, reason string
	cmd := c.verb("rotate", "Give the site a new authority; those before are believed for the overlap", change, func([]string) error {
		if user == host {
			return &Fault{Exit: Usage, Message: "ca rotate needs one of --user and --host"}
		}
		if err := needReason("ca rotate", reason); err != nil {
			return err
		}
		most, err := duration(overlap)
		if err != nil {
			return err
		}
		rotate := c.cfg.Site.RotateUserCA
		if host {
			rotate = c.cfg.Site.RotateHostCA
		}
		r, err := rotate(c.from(), c.by.actor(), most, reason)
		if err != nil {
			return err
		}
		if c.json {
			a, err := c.authority()
			if err != nil {
				return err
			}
			return writeJSON(c.stdout, c.answer("ca", a))
		}
		_, err = fmt.Fprintf(c.stdout, "%s  %s  event %s\n", r.Header.Type, r.Header.Stream, r.Header.ID)
		return err
	})
	cmd.Long = cmd.Short + ".\n\nWith --user: certificates for targets are signed by the new key, and by those before at a\n" +
		"target that does not take it, until the overlap ends: put what ca export --user prints\n" +
		"where the targets' TrustedUserCAKeys point. With --host: the old key signs until the overlap ends;\n" +
		"people add the line of ca export to their known_hosts meanwhile. An overlap of 0 ends\n" +
		"the trust in the keys before at once: for a key that leaked."
	cmd.Flags().BoolVar(&user, "user", false, "the authority of the certificates that targets are shown")
	cmd.Flags().BoolVar(&host, "host", false, "the authority that vouches for targets' names")
	cmd.Flags().StringVar(&overlap, "overlap", "7d", "how long the keys before are believed, for example 12h or 7d")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

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
	var user bool
	cmd := c.verb("export", "Write the known_hosts line that lets ssh -J believe your targets' names", own, func([]string) error {
		a, err := c.authority()
		if err != nil {
			return err
		}
		if user {
			_, err = io.WriteString(c.stdout, a.TrustedUserCAKeys())
			return err
		}
		if len(a.Hosts) == 0 {
			return &Fault{Exit: NotFound, Message: "there is no target here that you may reach, so there is nothing to vouch for",
				Hint: "ask an administrator for a grant"}
		}
		_, err = io.WriteString(c.stdout, a.KnownHosts())
		return err
	})
	cmd.Flags().BoolVar(&user, "user", false, "write the keys for a target's TrustedUserCAKeys file instead")
	cmd.Long = cmd.Short + ".\n\nIt is a @cert-authority line for each key that is believed. It names the targets that you may reach and\n" +
		"nothing else: the site is believed for those names alone, never for a host of your own."
	return cmd
}

// KnownHosts is the authority's lines of known_hosts. Names of targets hold no
// character that known_hosts gives a meaning.
func (a authority) KnownHosts() string {
	var lines strings.Builder
	for _, k := range a.HostKeys {
		fmt.Fprintf(&lines, "@cert-authority %s %s\n", strings.Join(a.Hosts, ","), k.Key)
	}
	return lines.String()
}

// TrustedUserCAKeys is what goes into the file that a target's sshd_config names so.
func (a authority) TrustedUserCAKeys() string {
	var lines strings.Builder
	for _, k := range a.UserKeys {
		lines.WriteString(k.Key + "\n")
	}
	return lines.String()
}

// believed are the authorities that hold now.
func believed(all []aggregate.Authority) (keys []authorityKey) {
	for _, a := range all {
		if !a.Holds(site.WallClock()) {
			continue
		}
		k := authorityKey{Key: a.Key, Fingerprint: fingerprints([]string{a.Key})[0], Until: a.Until}
		if a.Created != nil {
			k.Created = a.Created.Time()
		}
		keys = append(keys, k)
	}
	return keys
}

// authority asks the site for its key, and for the caller's targets.
func (c *call) authority() (authority, error) {
	a := authority{HostKey: c.cfg.Site.HostKey()}
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		if t, ok := s.Site(c.cfg.Site.ID()); ok {
			a.HostKeys, a.UserKeys = believed(t.HostCAs()), believed(t.UserCAs())
		}
	})
	if len(a.HostKeys) == 0 {
		return a, errors.New("the site has no certificate authority")
	}
	a.Key, a.Fingerprint = a.HostKeys[0].Key, a.HostKeys[0].Fingerprint
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
