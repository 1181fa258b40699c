package gateway

import (
	"errors"
	"strings"
)

// errRoute is what a person is told whose SSH user name leads nowhere.
var errRoute = errors.New("the user name must be ACCOUNT+TARGET, for example root+web1, or have no + for the console")

// route is where an SSH user name leads: to an account on a target, or, without "+", to the console. What follows from
// that is decided by who the key says it is; the name alone opens nothing.
type route struct {
	account, target string // both empty for the console
}

func (r route) console() bool { return r.target == "" }

// parseRoute reads an SSH user name. Account and target names hold no "+".
func parseRoute(login string) (route, error) {
	account, target, found := strings.Cut(login, "+")
	if !found {
		return route{}, nil
	}
	if account == "" || target == "" || strings.Contains(target, "+") {
		return route{}, errRoute
	}
	return route{account, target}, nil
}
