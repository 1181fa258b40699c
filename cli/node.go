package cli

import (
	"time"

	"github.com/holdfast-pam/holdfast/cli/console"
	"github.com/holdfast-pam/holdfast/site"
)

// node is a running site with what its console tells of it.
type node struct {
	*site.Site
	started time.Time
}

// console makes the console of the site, which listens by now.
func (n *node) console() *console.Console {
	return console.New(console.Config{
		Site: n.Site, Version: Version(), Started: n.started, Listen: n.Addr(),
		Scan: site.ScanHostKeys, Verify: n.VerifyLogs,
	})
}
