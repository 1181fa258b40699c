package gateway

import (
	"errors"
	"strconv"
	"strings"
)

// routeMarks are the characters that make an SSH user name a route. No name of a user, an account or a target holds one.
const routeMarks = "+:@#"

// What a person is told whose SSH user name leads nowhere.
var (
	errRoute = errors.New("the user name must be ACCOUNT+TARGET, for example root+web1, or have none of + : @ # for the console")
	errTwo   = errors.New("it is not clear whether the name before the second @ is you or an account; write ACCOUNT+TARGET, " +
		"or have none of + : @ # for the console")
	errDomain = errors.New("accounts of a domain (ACCOUNT#DOMAIN) are not known here; write ACCOUNT+TARGET")
	errPort   = errors.New("what follows # must be a port from 1 to 65535; write ACCOUNT+TARGET, no port is needed")
)

// route is where an SSH user name leads: to an account on a target, or, without a mark, to the console. What follows
// from that is decided by who the key says it is; the name alone opens nothing.
type route struct {
	account, target string // both empty for the console
	user            string // who the client says it is, where the spelling has a place for that; it must be true
	port            uint32 // of the target, where the spelling has one; 0 without
}

func (r route) console() bool { return r.target == "" }

// parseRoute reads an SSH user name. ACCOUNT+TARGET is how it is written here; for people who come from elsewhere, two
// other spellings are read and never printed: ACCOUNT:TARGET (Warpgate) and USER@ACCOUNT@TARGET[#PORT] (PSMP). Whatever
// mixes them is refused rather than guessed at.
func parseRoute(login string) (route, error) {
	marks := strings.Map(func(r rune) rune {
		if strings.ContainsRune(routeMarks, r) {
			return r
		}
		return -1
	}, login)
	switch marks {
	case "":
		return route{}, nil
	case "+", ":":
		account, target, _ := strings.Cut(login, marks)
		return route{account: account, target: target}.complete()
	case "@@", "@@#":
		return parseVaultRoute(login)
	case "@", "@#":
		return route{}, errTwo
	case "@#@", "@#@#":
		return route{}, errDomain
	}
	return route{}, errRoute
}

// parseVaultRoute reads USER@ACCOUNT@TARGET[#PORT].
func parseVaultRoute(login string) (route, error) {
	user, rest, _ := strings.Cut(login, "@")
	account, rest, _ := strings.Cut(rest, "@")
	target, port, hasPort := strings.Cut(rest, "#")
	r := route{account: account, target: target, user: user}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return route{}, errPort
		}
		r.port = uint32(n)
	}
	if user == "" {
		return route{}, errRoute
	}
	return r.complete()
}

// complete refuses a route without one of its ends.
func (r route) complete() (route, error) {
	if r.account == "" || r.target == "" {
		return route{}, errRoute
	}
	return r, nil
}
