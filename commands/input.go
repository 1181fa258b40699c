package commands

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

const (
	maxLogin = 255  // bytes of an SSH user name that are kept
	maxText  = 512  // bytes of a reason, a comment, a detail
	maxShown = 80   // bytes of a refused input that a message repeats
	maxYear  = 9999 // what RFC 3339 can write
)

var (
	namePattern      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	principalPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@:/-]{0,127}$`)
	accountPattern   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$`)
	hostPattern      = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)
	portPattern      = regexp.MustCompile(`^[1-9][0-9]{0,4}$`)
)

// checkName checks the name of a user, a target or a site. A name that looks
// like an id is refused, so that a reference can be either.
func checkName(what, name string) error {
	return checkPattern(what, name, namePattern, "a letter or digit")
}

// checkAccountName checks a login name on a target.
func checkAccountName(name string) error {
	return checkPattern("account", name, accountPattern, "a letter, digit or _")
}

func checkPattern(what, name string, pattern *regexp.Regexp, first string) error {
	if !pattern.MatchString(name) {
		return invalid("use 1 to 63 letters, digits, '.', '_' and '-', beginning with "+first,
			"%s is not a valid %s name", quoted(name), what)
	}
	if _, err := uuid.Parse(name); err == nil {
		return invalid("choose a name that does not look like an id", "%s is not a valid %s name", quoted(name), what)
	}
	return nil
}

// CheckAddr checks an address that is dialled: host:port.
func CheckAddr(addr string) error {
	const hint = "write HOST:PORT, for example web1.example.net:22 or [2001:db8::1]:22"
	host, port, err := net.SplitHostPort(addr)
	if err != nil || len(addr) > 300 {
		return invalid(hint, "%s is not a valid address", quoted(addr))
	}
	if n, err := strconv.Atoi(port); err != nil || n > 65535 || !portPattern.MatchString(port) {
		return invalid(hint, "%s is not a port from 1 to 65535", quoted(port))
	}
	if strings.HasPrefix(addr, "[") {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() {
			return invalid(hint, "%s is not an IPv6 address", quoted(host))
		}
		return nil
	}
	if len(host) > 253 || !hostPattern.MatchString(host) {
		return invalid(hint, "%s is not a host name or address", quoted(host))
	}
	return nil
}

// checkText checks a reason or another text that a person gives.
func checkText(what, text string) error {
	switch {
	case len(text) > maxText:
		return invalid("say it shorter", "the %s has %d bytes, the limit is %d", what, len(text), maxText)
	case !utf8.ValidString(text):
		return invalid("send it as UTF-8", "the %s is not valid UTF-8", what)
	case strings.ContainsFunc(text, unprintable):
		return invalid("remove it", "the %s contains a line break or another control character", what)
	}
	return nil
}

// checkExpiry checks the end of a grant, zero for none.
func checkExpiry(end, now time.Time) error {
	switch {
	case end.IsZero():
		return nil
	case !end.After(now):
		return invalid("give a time in the future", "the expiry %s is not in the future", end.UTC().Format(time.RFC3339))
	case end.UTC().Year() > maxYear:
		return invalid("leave the expiry out for a grant without end", "the expiry is after the year %d", maxYear)
	}
	return nil
}

// quoted repeats an input in a message: escaped, and cut where it is long.
func quoted(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "..."
	}
	return strconv.QuoteToGraphic(s)
}

// bounded makes text from outside fit for an event: valid UTF-8 of at most n bytes.
func bounded(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) { // never cut inside a rune
		n--
	}
	return s[:n]
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// accountOnTarget is how people write an account.
func accountOnTarget(account, target string) string {
	return fmt.Sprintf("%s+%s", plain(account), plain(target))
}

// plain shows a name from outside: as it is if it could be a name, else quoted.
func plain(name string) string {
	if accountPattern.MatchString(name) {
		return name
	}
	return quoted(name)
}
