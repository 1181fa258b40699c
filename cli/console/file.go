package console

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/projections"
)

var accessColumns = []column[projections.File]{
	{"time", func(f projections.File) string { return stamp(f.Time) }},
	{"user", func(f projections.File) string { return f.User }},
	{"account", func(f projections.File) string { return f.Account + "+" + f.Target }},
	{"did", func(f projections.File) string { return f.Kind }},
	{"path", func(f projections.File) string { return f.Path }},
	{"other", func(f projections.File) string { return f.Other }},
	{"bytes", func(f projections.File) string { return strconv.FormatUint(f.Bytes, 10) }},
	{"outcome", func(f projections.File) string { return outcomeOf(f) }},
	{"sha256", func(f projections.File) string { return f.SHA256 }},
	{"session", func(f projections.File) string { return f.Session.String() }},
}

func outcomeOf(f projections.File) string {
	switch {
	case f.OK && f.Note == "":
		return "done"
	case f.OK:
		return "done; " + f.Note
	case f.Status == "":
		return "not done; " + f.Note
	}
	return f.Status
}

// fileOperations is the sum of what a session did to files.
func fileOperations(s projections.Session) string {
	text := strconv.FormatUint(s.Files.Operations, 10)
	if s.Files.Untold > 0 {
		text += fmt.Sprintf(" (%d without an event)", s.Files.Untold)
	}
	if s.Files.Unread {
		text += " (the recording was not read to its end; see session files)"
	}
	return text
}

var _ = noun(func(c *call) *cobra.Command {
	return group("file", "What was done to files of targets, in all sessions", c.fileList())
})

var hashPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// fileList lists the events. It reads no recording: that is session files.
func (c *call) fileList() *cobra.Command {
	var w window
	var f projections.FileFilter
	var user, target, after, session string
	cmd := c.verb("ls", "List what sessions did to files by sftp and scp, the newest first; an operator sees their own", own, func([]string) error {
		narrowed, err := w.filter()
		if err != nil {
			return err
		}
		f.Filter = narrowed
		if f.User, err = c.ownOrNamed("file ls", user); err != nil {
			return err
		}
		if f.SHA256 = strings.ToLower(f.SHA256); f.SHA256 != "" && !hashPattern.MatchString(f.SHA256) {
			return usageError("--sha256 takes 64 hex digits")
		}
		f.Target, f.After = target, after
		if session != "" {
			s, err := c.session("file ls", session)
			if err != nil {
				return err
			}
			f.Session = s.ID
		}
		p, err := c.views()
		if err != nil {
			return err
		}
		page, err := p.Files(c.ctx, f)
		if err != nil {
			return err
		}
		return listPage(c, "file.access", page.Items, page.Next, accessColumns)
	})
	flags := cmd.Flags()
	flags.StringVar(&w.since, "since", "", "only from this time on (RFC 3339, or how long ago: 8h, 30d)")
	flags.StringVar(&w.until, "until", "", "only before this time")
	flags.IntVar(&w.limit, "limit", projections.DefaultLimit, "at most this many")
	flags.StringVar(&user, "user", "", "only of this user, by name or id")
	flags.StringVar(&target, "target", "", "only at this target, by name or id")
	flags.StringVar(&session, "session", "", "only in this session")
	flags.StringVar(&f.Path, "path", "", "only this path; * is any text, ? one character")
	flags.StringVar(&f.SHA256, "sha256", "", "only files with this content")
	flags.StringVar(&f.Kind, "did", "", "only this: upload, download, remove, rename, mkdir, rmdir, setstat, ...")
	flags.StringVar(&after, "after", "", "go on where a list before ended")
	return cmd
}
