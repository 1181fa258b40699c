package projections

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Overtaken is a session that went on, or even began, after its right had been
// taken away at another site, until its own site heard of that.
type Overtaken struct {
	Session events.SessionID `json:"session"`
	User    string           `json:"user"`
	Account string           `json:"account"`
	Target  string           `json:"target"`
	Site    events.SiteID    `json:"site"` // where it ran

	By     string        `json:"by"`      // type of the event that took the right away
	Event  uuid.UUID     `json:"event"`   // and its id
	BySite events.SiteID `json:"by_site"` // that decided it
	Taken  time.Time     `json:"taken"`   // when, by that site's clock

	From    time.Time  `json:"from"`  // what ran without the right begins here
	Until   *time.Time `json:"until"` // and ends here; null while it goes on
	Seconds float64    `json:"seconds"`
}

// takers are the ways in which an event x takes the right of a session s away,
// g being the grant that it was started under.
var takers = map[string]string{
	"user.disabled": "s.user = x.stream",
	"user.key_removed": "s.user = x.stream AND s.fingerprint = json_extract(x.payload, '$.fingerprint')" +
		unlessBack("user.key_added", "json_extract(a.payload, '$.fingerprint') = s.fingerprint"),
	"account.removed":        "s.account = x.stream" + unlessBack("account.restored", "1"),
	"target.removed":         "s.target = x.stream" + unlessBack("target.restored", "1"),
	"grant.removed":          "g.off_stamp = x.stamp",
	"group.member_removed":   "g.grp = x.stream AND s.user = x.user" + unlessBack("group.member_added", "a.user = x.user"),
	"group.removed":          "g.grp = x.stream",
	"request.denied":         "s.request = x.stream",
	"request.withdrawn":      "s.request = x.stream",
	"session.kill_requested": "s.id = x.stream",
}

// unlessBack leaves out what came back by an event a of a type, if the session's site
// knew of both when it began: one that did not know of the removal went by an old
// right, which does not come back (rule R7), however late it began.
func unlessBack(kind, same string) string {
	return " AND NOT (knew(s.knew, x.stamp) AND EXISTS (SELECT 1 FROM audit a WHERE a.type = '" + kind +
		"' AND a.stream = x.stream AND a.stamp > x.stamp AND knew(s.knew, a.stamp) AND " + same + "))"
}

// knew tells in SQL whether who had applied what a clock covers knew of what has a stamp.
var _ = function("knew", func(clock string, stamp []byte) (bool, error) {
	c, err := events.ParseClock(clock)
	o, position, ok := placeOf(stamp)
	return ok && c.At(o) >= position, err
})

// Overtaken lists the sessions that ran for longer than that after their right
// was taken away at another site, the newest first. Order is by the stamps,
// which no clock can turn against what is known to be before what.
func (p *Projections) Overtaken(ctx context.Context, f Filter, longer time.Duration, now time.Time) (all []Overtaken, err error) {
	err = p.read(ctx, func(q *query) error {
		for kind, how := range takers {
			var w where
			w.add("x.type = ?", kind)
			w.add(how)
			w.add("x.masked = ''")
			w.add("x.site <> substr(s.start_stamp, 9, 16)")
			w.add("(s.end_stamp IS NULL OR s.end_stamp > x.stamp)")
			w.add("COALESCE(s.ended, ?) - MAX(x.wall, s.started) > ?", now.UnixMicro(), longer.Microseconds())
			if !f.Since.IsZero() {
				w.add("COALESCE(s.ended, ?) >= ?", now.UnixMicro(), f.Since.UnixMicro())
			}
			found, err := list(q, func(row scanner) (Overtaken, error) { return scanOvertaken(row, now) }, `SELECT s.id, COALESCE(u.name, ''), s.user, COALESCE(a.name, ''), s.account,
				COALESCE(t.name, ''), s.target, substr(s.start_stamp, 9, 16), s.started, s.ended, x.type, x.id, x.site, x.wall
				FROM audit x JOIN sessions s ON s.start_stamp IS NOT NULL LEFT JOIN grants g ON g.id = s.grant_id LEFT JOIN users u ON u.id = s.user
				LEFT JOIN accounts a ON a.id = s.account LEFT JOIN targets t ON t.id = s.target`+w.String()+
				fmt.Sprintf(" ORDER BY s.start_stamp DESC LIMIT %d", f.limit()), w.args...)
			if err != nil {
				return err
			}
			all = append(all, found...)
		}
		return nil
	}, "audit", "sessions", "grants", "users", "accounts", "targets")
	return all, err
}

func scanOvertaken(row scanner, now time.Time) (o Overtaken, err error) {
	var started, ended, taken sql.NullInt64
	var user, account, target uuid.UUID
	err = row.Scan(&o.Session, &o.User, &user, &o.Account, &account, &o.Target, &target, &o.Site, &started, &ended, &o.By, &o.Event, &o.BySite, &taken)
	o.User, o.Account, o.Target = named(o.User, user), named(o.Account, account), named(o.Target, target)
	o.Taken, o.From = at(taken), at(started)
	if o.Taken.After(o.From) {
		o.From = o.Taken
	}
	until := now
	if ended.Valid {
		until = at(ended)
		o.Until = &until
	}
	o.Seconds = until.Sub(o.From).Seconds()
	return o, err
}
