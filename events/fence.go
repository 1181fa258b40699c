package events

// SiteFenced cuts the logs of a site that is not to be trusted any more: what they
// hold after these sizes, and all that they get from now on, is kept and has no
// effect. Its stream is the site, which is spoken to no more (rule R14). The cut is
// by size and not by time, so nothing is gained by a wrong clock.
type SiteFenced struct {
	Logs   []ClockEntry `json:"logs"` // up to where they count; those that are not named count for nothing
	Reason string       `json:"reason"`
}

var _ = define[SiteFenced]("site.fenced", 1)

// SiteReinstated takes back the fences of a site that it knows of: all that its
// logs hold counts again.
type SiteReinstated struct {
	Reason string `json:"reason"`
}

var _ = define[SiteReinstated]("site.reinstated", 1)

// SiteLeft is a site's own last word in a mesh: its place is where its log of
// decisions ends for the others (rule R18). What the site writes after it is its own
// affair.
type SiteLeft struct {
	Reason string       `json:"reason"`
	Logs   []ClockEntry `json:"logs,omitempty"` // where its logs of recordings end
}

var _ = define[SiteLeft]("site.left", 1)

// SiteClosed ends all logs of a site that has left, for ever: nothing counts of them
// beyond these sizes, nor of those that are not named (rule R18). Its stream is that
// site. A steward says so as soon as it hears that the site has left; so whoever has
// the keys of that site can neither go on in a new epoch nor write the last word away.
type SiteClosed struct {
	Logs []ClockEntry `json:"logs"`
}

var _ = define[SiteClosed]("site.closed", 1)

// ForkSettled is a person's word that the fork of a log was looked at. Nothing after
// the place where its branches part has effect, before and after: what was worth
// keeping is decided again. Its stream is the log's site.
type ForkSettled struct {
	Log    Origin `json:"log"`
	Size   uint64 `json:"size"`
	Reason string `json:"reason"`
}

var _ = define[ForkSettled]("fork.settled", 1)
