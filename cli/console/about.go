package console

import "github.com/spf13/cobra"

// self is what a person is told of themselves.
type self struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Role        string `json:"role"`
	Fingerprint string `json:"fingerprint"`
	Source      string `json:"source"`
	Site        string `json:"site"`
	SiteID      string `json:"site_id"`
}

var selfColumns = []column[self]{
	{"name", func(s self) string { return s.Name }},
	{"role", func(s self) string { return s.Role }},
	{"id", func(s self) string { return s.ID }},
	{"key", func(s self) string { return s.Fingerprint }},
	{"from", func(s self) string { return s.Source }},
	{"site", func(s self) string { return s.Site }},
}

var _ = noun(func(c *call) *cobra.Command {
	return c.verb("whoami", "Show who you are here", own, func([]string) error {
		return show(c, "user", self{
			ID: c.by.ID.String(), Name: c.name, Role: string(c.role), Fingerprint: c.by.Fingerprint,
			Source: c.by.Source, Site: c.cfg.Site.Name(), SiteID: c.cfg.Site.ID().String(),
		}, selfColumns)
	})
})

var _ = noun(func(c *call) *cobra.Command {
	return c.verb("version", "Show the version of this site", own, func([]string) error {
		return show(c, "version", c.cfg.Version, versionColumns)
	})
})

var siteColumns = []column[siteState]{
	{"site", func(s siteState) string { return s.Name }},
	{"state", func(s siteState) string { return s.State }},
	{"version", func(s siteState) string { return s.Version.Version }},
	{"started", func(s siteState) string { return stamp(s.Started) }},
	{"gateway", func(s siteState) string { return s.Listen }},
	{"host key", func(s siteState) string { return s.HostKey }},
	{"sessions", func(s siteState) string { return number(s.Sessions) }},
	{"requests pending", func(s siteState) string { return number(s.Pending) }},
	{"reviews overdue", func(s siteState) string { return number(s.Overdue) }},
	{"process", func(s siteState) string { return s.Process.String() }},
	{"id", func(s siteState) string { return s.ID.String() }},
}

var _ = noun(func(c *call) *cobra.Command {
	return c.verb("status", "Show how this site does", own, func([]string) error {
		s, err := c.siteState()
		if err != nil {
			return err
		}
		return show(c, "site", s, siteColumns)
	})
})
