package console

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/projections"
)

var logColumns = []column[logState]{
	{"log", func(l logState) string { return l.Origin.String() }},
	{"records", func(l logState) string { return strconv.FormatUint(l.Records, 10) }},
	{"state", func(l logState) string { return l.State }},
	{"free", func(l logState) string { return strconv.FormatUint(l.Free, 10) }},
	{"root", func(l logState) string { return l.Root.String() }},
}

// check is what a verification found about one epoch of a log.
type check struct {
	Origin   events.Origin `json:"origin"`
	Records  uint64        `json:"records"` // that were checked
	Bytes    uint64        `json:"bytes"`
	Absent   uint64        `json:"absent"` // payloads that are not held here
	Root     events.Hash   `json:"root"`   // computed from the records
	Head     uint64        `json:"head"`   // records that the newest signed head covers, 0 without one
	Problems []string      `json:"problems"`
}

var checkColumns = []column[check]{
	{"log", func(l check) string { return l.Origin.String() }},
	{"records", func(l check) string { return strconv.FormatUint(l.Records, 10) }},
	{"signed head", func(l check) string { return strconv.FormatUint(l.Head, 10) }},
	{"absent", func(l check) string { return strconv.FormatUint(l.Absent, 10) }},
	{"root", func(l check) string { return l.Root.String() }},
	{"result", func(l check) string {
		if len(l.Problems) == 0 {
			return "ok"
		}
		return strings.Join(l.Problems, "; ")
	}},
}

// WriteVerification answers with what a verification found, and gives the
// fault that it amounts to.
func WriteVerification(w io.Writer, reports []*store.VerifyReport, asJSON bool) error {
	var checks []check
	var first *Fault
	for _, r := range reports {
		for _, e := range r.Epochs {
			l := check{Origin: e.Origin, Records: e.Records, Bytes: e.Bytes, Absent: e.Absent, Root: e.Root, Head: e.Head.Size, Problems: []string{}}
			for _, p := range e.Problems {
				l.Problems = append(l.Problems, p.Error())
				if first == nil {
					first = &Fault{Exit: Damaged, Message: p.Error(), cause: p,
						Hint: "nothing was changed; restore what is damaged from a replica or a backup"}
				}
			}
			checks = append(checks, l)
		}
	}
	if err := list(&call{stdout: w, json: asJSON}, "log", checks, checkColumns); err != nil || first == nil {
		return err
	}
	return first
}

var _ = noun(func(c *call) *cobra.Command {
	return group("log", "The logs that everything at this site is built from", c.logStat(), c.logVerify())
})

func (c *call) logStat() *cobra.Command {
	return c.verb("stat", "Show the logs of this site", read, func([]string) error {
		return list(c, "log", c.logs(), logColumns)
	})
}

func (c *call) logVerify() *cobra.Command {
	return c.verb("verify", "Check every record, hash, commit and signed head of this site's logs", read, func([]string) error {
		reports, err := c.cfg.Verify(c.ctx)
		if err != nil {
			return err
		}
		return WriteVerification(c.stdout, reports, c.json)
	})
}

// progress gives a function that tells on standard error how far a long task
// is: once a second, and at its end. With JSON it tells nothing.
func (c *call) progress(what string) func(done, total uint64) {
	var last time.Time
	return func(done, total uint64) {
		if done < total && time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		c.note("%s %d of %d records", what, done, total)
	}
}

// digest is what the decisions that a clock covers come to, in one hash: the same
// at every site that holds them.
type digest struct {
	Clock  string `json:"clock"`
	Digest string `json:"digest"`
	Views  string `json:"views,omitempty"` // hash of everything that this site's views hold now
}

var digestColumns = []column[digest]{
	{"digest", func(d digest) string { return d.Digest }},
	{"clock", func(d digest) string { return d.Clock }},
	{"views", func(d digest) string { return d.Views }},
}

var _ = noun(func(c *call) *cobra.Command {
	return group("projection", "The views that are built from the logs", c.projectionRebuild(), c.projectionDigest(), c.projectionList())
})

func (c *call) projectionRebuild() *cobra.Command {
	return c.verb("rebuild", "Build all views again from the first record", change, func([]string) error {
		if err := c.cfg.Site.Views().Rebuild(c.ctx, c.progress("applied")); err != nil {
			return err
		}
		return c.showDigest(events.Clock{})
	})
}

func (c *call) projectionDigest() *cobra.Command {
	var at string
	cmd := c.verb("digest", "Show the hash of what was decided, to compare sites", read, func([]string) error {
		if at == "" {
			return c.showDigest(events.Clock{})
		}
		clock, err := events.ParseClock(at)
		if err != nil {
			return usageError("--at: %v", err)
		}
		return c.showDigest(clock)
	})
	cmd.Flags().StringVar(&at, "at", "", "only the decisions that this clock covers, as another site showed it")
	return cmd
}

func (c *call) showDigest(at events.Clock) error {
	clock, hash, err := c.cfg.Site.Digest(c.ctx, at)
	if err != nil {
		return err
	}
	d := digest{Clock: clock.String(), Digest: hash}
	if len(at.Entries()) == 0 {
		p, err := c.views()
		if err != nil {
			return err
		}
		if d.Views, _, err = p.Digest(c.ctx); err != nil {
			return err
		}
	}
	return show(c, "projection", d, digestColumns)
}

var projectionColumns = []column[projections.Status]{
	{"name", func(p projections.Status) string { return p.Name }},
	{"version", func(p projections.Status) string { return number(p.Version) }},
	{"reads", func(p projections.Status) string { return string(p.Reads) }},
	{"behind", func(p projections.Status) string { return strconv.FormatUint(p.Behind, 10) }},
	{"unknown", func(p projections.Status) string { return strconv.FormatUint(p.Unknown, 10) }},
	{"absent", func(p projections.Status) string { return strconv.FormatUint(p.Absent, 10) }},
	{"unreadable", func(p projections.Status) string { return strconv.FormatUint(p.Unreadable, 10) }},
	{"failed", func(p projections.Status) string { return p.Failed }},
}

func (c *call) projectionList() *cobra.Command {
	return c.verb("ls", "Show where each view stands", read, func([]string) error {
		return list(c, "projection", c.cfg.Site.Views().Status(), projectionColumns)
	})
}
