package cli

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-pam/holdfast/cli/console"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/site"
)

// consoleHandler serves the gateway's console calls with the verbs of a site.
type consoleHandler struct {
	site    *site.Site
	started time.Time
	log     *slog.Logger
}

// Run implements [gateway.Console].
func (h consoleHandler) Run(ctx context.Context, r *gateway.ConsoleRequest) int {
	q := &console.Request{
		Person: console.Person{ID: r.User, Login: r.Login, Source: r.Source, Fingerprint: r.Fingerprint, Factor: r.Factor},
		Line:   r.Line, Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr,
	}
	if t := r.Terminal; t != nil {
		q.Terminal = &console.Terminal{Kind: t.Term, Size: console.Size{Columns: t.Columns, Rows: t.Rows}, Resized: t.Resized}
	}
	c := console.New(console.Config{
		Site: h.site, Version: Version(), Started: h.started, Listen: h.site.Addr(), Log: h.log,
		Scan: site.ScanHostKeys, Discover: h.site.FindAccounts, Verify: h.site.VerifyLogs, Process: process,
	})
	return int(c.Run(ctx, q))
}
