package gateway

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Every spelling of a target in an SSH user name, and what is refused rather than guessed at.
func TestParseRoute(t *testing.T) {
	for login, want := range map[string]route{
		"":                   {},
		"bob":                {},
		"bob.smith_1-x":      {},
		"root+web1":          {account: "root", target: "web1"},
		"_apt+db-7.example":  {account: "_apt", target: "db-7.example"},
		"root:web1":          {account: "root", target: "web1"},
		"bob@root@web1":      {account: "root", target: "web1", user: "bob"},
		"bob@root@web1#22":   {account: "root", target: "web1", user: "bob", port: 22},
		"bob@root@web1#2222": {account: "root", target: "web1", user: "bob", port: 2222},
	} {
		if got, err := parseRoute(login); got != want || err != nil {
			t.Errorf("%q: %+v, %v; want %+v", login, got, err, want)
		}
	}
	for login, want := range map[string]error{
		"+":                     errRoute,
		"root+":                 errRoute,
		"+web1":                 errRoute,
		"a+b+c":                 errRoute,
		":":                     errRoute,
		"root:":                 errRoute,
		":web1":                 errRoute,
		"bob:root:web1":         errRoute,
		"bob:root+web1":         errRoute,
		"bob@root+web1":         errRoute,
		"bob+root@web1":         errRoute,
		"bob@root:web1":         errRoute,
		"bob@root@web1:22":      errRoute,
		"bob@root@web1@gw":      errRoute,
		"@root@web1":            errRoute,
		"bob@@web1":             errRoute,
		"bob@root@":             errRoute,
		"root#web1":             errRoute,
		"#":                     errRoute,
		"bob@root@web1#22#22":   errRoute,
		"bob@web1":              errTwo,
		"bob@example.com":       errTwo,
		"root@web1#22":          errTwo,
		"bob@root#corp@web1":    errDomain,
		"bob@root#corp@web1#22": errDomain,
		"bob@root@web1#":        errPort,
		"bob@root@web1#0":       errPort,
		"bob@root@web1#65536":   errPort,
		"bob@root@web1#ssh":     errPort,
		"bob@root@web1#-1":      errPort,
	} {
		if got, err := parseRoute(login); err != want || got != (route{}) {
			t.Errorf("%q: %+v, %v; want %v", login, got, err, want)
		}
	}
}

// A name with a mark never gets to the console, and an end of a route never holds a mark.
func TestParseRouteNeverGuesses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		login := rapid.StringMatching(`[ab+:@#]{1,9}`).Draw(t, "login")
		r, err := parseRoute(login)
		if strings.ContainsAny(login, routeMarks) && err == nil && r.console() {
			t.Fatalf("%q leads to the console", login)
		}
		if strings.ContainsAny(r.account+r.target+r.user, routeMarks) || err == nil && (r.account == "") != (r.target == "") {
			t.Fatalf("%q leads to %+v", login, r)
		}
	})
}
