package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/console"
)

var _ = localWith(func(c *client) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "ssh-config",
		Short: "Let plain ssh reach your targets by their names",
		Long: "Lets `ssh web1` jump through a site to each target that you have a grant for, with stock\n" +
			"OpenSSH. What is written lies in two files of its own, SITE.config and SITE.known_hosts in\n" +
			"~/.ssh/holdfast, and one Include line at the top of ~/.ssh/config. Nothing else is touched.\n" +
			"The site is believed for the names of those targets and no others. Write again after a grant.",
		Args: cobra.NoArgs,
	}
	cmd.PersistentFlags().StringVar(&dir, "ssh-dir", "", "directory of the OpenSSH client (default ~/.ssh)")
	files := func() (sshFiles, error) {
		if dir == "" {
			dir = filepath.Join(c.getenv("HOME"), ".ssh")
		}
		return newSSHFiles(dir)
	}
	cmd.AddCommand(&cobra.Command{
		Use: "write", Short: "Write the files and the Include line", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := files()
			if err != nil {
				return err
			}
			s, err := c.sshSite(cmd.Context())
			if err != nil {
				return err
			}
			if err := f.write(s.Name, s.config(f), s.knownHosts()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s and %s written; ssh %s\n", f.config(s.Name), f.known(s.Name), s.example())
			return err
		},
	}, &cobra.Command{
		Use: "print", Short: "Show what write would write", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := files()
			if err != nil {
				return err
			}
			s, err := c.sshSite(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "# %s\n%s\n# %s\n%s\n# at the top of %s\n%s\n",
				f.config(s.Name), s.config(f), f.known(s.Name), s.knownHosts(), f.main(), f.include())
			return err
		},
	}, &cobra.Command{
		Use: "remove [SITE]", Short: "Remove what was written, of one site or of all", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := files()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return f.remove("*")
			}
			if !safeName.MatchString(args[0]) {
				return &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("%q is no name of a site", args[0])}
			}
			return f.remove(args[0])
		},
	})
	return cmd
})

// safeName is what the names of sites, targets and accounts are made of. A name
// from a site goes into a file that ssh obeys, so it is checked here as well.
var safeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$`)

// sshSite is what ssh has to know of a site.
type sshSite struct {
	Name     string
	Login    string // SSH user name at the gateway
	Addr     string // of the gateway
	Identity string // private key file, empty for ssh's own choice
	HostKey  string // of the gateway, authorized_keys form
	Targets  []sshTarget

	Authorities []string // that vouch for the targets, authorized_keys form
}

// sshTarget is a target and its accounts that the person may use.
type sshTarget struct {
	Name     string
	Accounts []string
}

// sshSite asks the site.
func (c *client) sshSite(ctx context.Context) (sshSite, error) {
	d, err := c.destination()
	if err != nil {
		return sshSite{}, err
	}
	s := sshSite{Login: d.login, Addr: d.addr, Identity: c.identityFile}
	if s.Identity == "" {
		s.Identity = c.getenv("HOLDFAST_IDENTITY")
	}
	if s.Identity != "" { // ssh is called from other directories
		if s.Identity, err = filepath.Abs(s.Identity); err != nil {
			return s, fmt.Errorf("find the identity: %w", err)
		}
	}
	var me struct{ Site string }
	var ca struct {
		HostKey string                 `json:"host_key"`
		Keys    []struct{ Key string } `json:"host_authorities"`
	}
	var accounts []struct{ Name, Target string }
	for _, q := range []struct {
		into  any
		words []string
	}{
		{&me, []string{"whoami"}}, {&ca, []string{"ca", "show"}}, {&accounts, []string{"account", "ls", "--mine", "--live", "--limit", "100000"}},
	} {
		if err := c.askSite(ctx, q.into, append(q.words, "--json")); err != nil {
			return s, err
		}
	}
	s.Name, s.HostKey = me.Site, ca.HostKey
	for _, k := range ca.Keys {
		s.Authorities = append(s.Authorities, k.Key)
	}
	for _, a := range accounts {
		s.add(a.Name, a.Target)
	}
	return s, s.check()
}

// askSite runs a verb at the site and decodes what it answers with.
func (c *client) askSite(ctx context.Context, into any, words []string) error {
	asking := *c
	var out bytes.Buffer
	asking.stdout = &out
	code, err := asking.run(ctx, verb{words: words})
	if err != nil {
		return err
	}
	if code != 0 {
		return &console.Fault{Exit: console.Exit(code), Message: "the site did not answer " + strings.Join(words, " ")}
	}
	var answer struct{ Item, Items json.RawMessage }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return fmt.Errorf("read the site's answer to %s: %w", strings.Join(words, " "), err)
	}
	body := answer.Item
	if answer.Items != nil {
		body = answer.Items
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the site's answer to %s: %w", strings.Join(words, " "), err)
	}
	return nil
}

func (s *sshSite) add(account, target string) {
	i := slices.IndexFunc(s.Targets, func(t sshTarget) bool { return t.Name == target })
	if i < 0 {
		i, s.Targets = len(s.Targets), append(s.Targets, sshTarget{Name: target})
	}
	if t := &s.Targets[i]; !slices.Contains(t.Accounts, account) {
		t.Accounts = append(t.Accounts, account)
	}
}

// check refuses what would mean something else in a file that ssh obeys.
func (s *sshSite) check() error {
	names := []string{s.Name, s.Login}
	for _, t := range s.Targets {
		names = append(append(names, t.Name), t.Accounts...)
	}
	for _, n := range names {
		if !safeName.MatchString(n) {
			return &console.Fault{Exit: console.Failed, Message: fmt.Sprintf("the site gave the name %q, which has no place in ssh's configuration", n)}
		}
	}
	if len(s.Targets) == 0 {
		return &console.Fault{Exit: console.NotFound, Message: "there is no target that you have a grant for", Hint: "ask an administrator for one"}
	}
	if strings.ContainsAny(s.Identity, "\"\r\n") {
		return &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("the identity's path %q can't be written to ssh's configuration", s.Identity)}
	}
	keys := []*string{&s.HostKey}
	for i := range s.Authorities {
		keys = append(keys, &s.Authorities[i])
	}
	for _, k := range keys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(*k))
		if err != nil {
			return fmt.Errorf("read the keys that the site gave: %w", err)
		}
		*k = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	}
	return nil
}

// alias is how ssh's configuration names the site's gateway.
func (s *sshSite) alias() string { return "holdfast-" + s.Name }

func (s *sshSite) example() string {
	t := s.Targets[0]
	if len(t.Accounts) == 1 {
		return t.Name
	}
	return t.Accounts[0] + "@" + t.Name
}

// hosts are the names of the targets, also as ssh looks them up.
func (s *sshSite) hosts() []string {
	var all []string
	for _, t := range s.Targets {
		all = append(all, t.Name)
		if lower := strings.ToLower(t.Name); !slices.Contains(all, lower) {
			all = append(all, lower)
		}
	}
	return all
}

// config is the site's part of ssh_config.
func (s *sshSite) config(f sshFiles) string {
	var b strings.Builder
	host, port, _ := net.SplitHostPort(s.Addr) // destination made it
	fmt.Fprintf(&b, "# Written by holdfast ssh-config for site %s, and replaced by it.\n", s.Name)
	fmt.Fprintf(&b, "Host %s\n  HostName %s\n  Port %s\n  User %s\n  HostKeyAlias %[1]s\n", s.alias(), host, port, s.Login)
	if s.Identity != "" {
		fmt.Fprintf(&b, "  IdentityFile \"%s\"\n", escapeTokens(s.Identity))
	}
	for _, t := range s.Targets {
		if len(t.Accounts) == 1 {
			fmt.Fprintf(&b, "Host %s\n  User %s\n", t.Name, t.Accounts[0])
		}
	}
	fmt.Fprintf(&b, "Host %s\n  ProxyJump %s\n", strings.Join(s.hosts(), " "), s.alias())
	fmt.Fprintf(&b, "Host %s %s\n  UserKnownHostsFile \"%s\"\n  StrictHostKeyChecking yes\n",
		s.alias(), strings.Join(s.hosts(), " "), escapeTokens(f.known(s.Name)))
	return b.String()
}

// knownHosts is the site's known_hosts: the gateway's key, and the authorities
// for the names of the targets.
func (s *sshSite) knownHosts() string {
	var names []string
	for _, h := range s.hosts() {
		if h == strings.ToLower(h) { // as ssh looks them up
			names = append(names, h)
		}
	}
	lines := fmt.Sprintf("%s %s\n", s.alias(), s.HostKey)
	for _, key := range s.Authorities { // while one takes the other's place, both count
		lines += fmt.Sprintf("@cert-authority %s %s\n", strings.Join(names, ","), key)
	}
	return lines
}

// escapeTokens keeps ssh from reading a path's % as one of its tokens.
func escapeTokens(path string) string { return strings.ReplaceAll(path, "%", "%%") }
