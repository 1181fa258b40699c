package rotator

import "github.com/holdfast-pam/holdfast/events"

// Set holds the rotators of a site.
type Set struct{ exec execPlugin }

// NewSet makes the rotators; programs are what exec targets may run, by name.
func NewSet(programs map[string]Program) *Set { return &Set{execPlugin{programs}} }

// For gives the rotator for secrets of a kind on targets of a kind, false if
// there is none.
func (s *Set) For(kind events.TargetKind, secret events.SecretKind) (Rotator, bool) {
	switch {
	case kind == events.SSH && secret == events.Password:
		return unixPassword{}, true
	case kind == events.SSH && secret == events.PrivateKey:
		return sshKey{}, true
	case kind == events.Postgres && secret == events.Password:
		return postgres{}, true
	case kind == events.MySQL && secret == events.Password:
		return mysqlUser{}, true
	case kind == events.LDAP && secret == events.Password:
		return directory{}, true
	case kind == events.Exec && (secret == events.Password || secret == events.PrivateKey):
		return s.exec, true
	}
	return nil, false
}
