package commands

import "reflect"

// ZeroCommands gives an empty value of every registered command.
func ZeroCommands() map[string]Command {
	all := map[string]Command{}
	for t, e := range registry {
		all[e.name] = reflect.Zero(t).Interface().(Command)
	}
	return all
}

// The input checks, for the fuzz tests.
var (
	CheckName = checkName
	Bounded   = bounded
)

// ParseUserKey parses a user's key and gives what an event would hold.
func ParseUserKey(text string) (line, fingerprint, comment string, err error) {
	k, err := parseKey(text, minUserRSA)
	return k.line, k.fingerprint, k.comment, err
}
