// Package targetkind says what kinds of target there are, and which parameters
// each takes, on the target and on its accounts.
//
// A parameter of an account adds to those of its target; no name stands for
// both.
package targetkind

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
)

const (
	maxParams = 32
	maxValue  = 512      // bytes of a value
	maxCA     = 64 << 10 // bytes of certificates
)

// Spec is one parameter that a kind takes.
type Spec struct {
	Name    string
	Default string // what holds where it is not given
	Help    string
	check   func(value string) error // nil for any printable text
}

// kind is one sort of target.
type kind struct {
	secrets []events.SecretKind
	target  []Spec
	account []Spec
	free    bool // other parameters are for its program
	check   func(params map[string]string) error
}

var kinds = map[events.TargetKind]kind{
	events.SSH: {
		secrets: []events.SecretKind{events.Password, events.PrivateKey, events.UserCertificate},
		account: []Spec{
			{Name: AuthorizedKeys, Default: ".ssh/authorized_keys", Help: "file with the account's keys, absolute or in its home", check: isPath},
		},
	},
	events.Postgres: {
		secrets: []events.SecretKind{events.Password},
		target:  []Spec{{Name: Database, Default: "postgres", Help: "database to log in to"}, tlsMode, authorities},
	},
	events.MySQL: {
		secrets: []events.SecretKind{events.Password},
		target:  []Spec{{Name: Database, Help: "database to log in to; none by default"}, tlsMode, authorities},
		account: []Spec{{Name: Host, Help: "host part of the account ('app'@'HOST'); all of its hosts by default", check: isHost}},
	},
	events.LDAP: {
		secrets: []events.SecretKind{events.Password},
		target: []Spec{
			tlsMode, authorities,
			{Name: StartTLS, Help: "yes or no; by default yes on ports 389 and 3268, else no", check: oneOf("yes", "no")},
			{Name: UserDN, Help: "how an account's DN is made, for example uid={account},ou=people,dc=example,dc=net", check: isTemplate},
			{Name: BaseDN, Help: "where accounts are looked for if there is no user-dn; the directory's naming contexts by default", check: isDN},
			{Name: Attribute, Default: "uid", Help: "attribute that holds an account's name; sAMAccountName for Active Directory", check: isAttribute},
			{Name: Bind, Help: "what an account binds as, for example {account}@example.net; its DN by default", check: isTemplate},
			{Name: Directory, Default: "ldap", Help: "ldap changes a password by RFC 3062, ad by unicodePwd", check: oneOf("ldap", "ad")},
		},
		account: []Spec{{Name: DN, Help: "the account's DN, where the target's rule does not give it", check: isDN}},
	},
	events.Exec: {
		secrets: []events.SecretKind{events.Password, events.PrivateKey},
		target:  []Spec{{Name: Program, Help: "a program that the site's configuration names under rotation.exec", check: isName}},
		free:    true,
		check: func(params map[string]string) error {
			if params[Program] == "" {
				return fmt.Errorf("an exec target needs --param %s=NAME, a program of the site's configuration", Program)
			}
			return nil
		},
	},
}

// The names of parameters.
const (
	Database       = "database"
	TLS            = "tls"
	CA             = "ca"
	Host           = "host"
	AuthorizedKeys = "authorized-keys"
	StartTLS       = "starttls"
	UserDN         = "user-dn"
	BaseDN         = "base-dn"
	Attribute      = "attribute"
	Bind           = "bind"
	Directory      = "directory"
	DN             = "dn"
	Program        = "program"
)

// Account stands for an account's name in a template.
const Account = "{account}"

// The values of [TLS].
const (
	TLSDisable = "disable"
	TLSRequire = "require" // encrypted, and the target may be anybody
	TLSVerify  = "verify"  // the target proves its name to a trusted authority
)

var (
	tlsMode = Spec{Name: TLS, Default: TLSVerify, Help: "disable, require or verify", check: oneOf(TLSDisable, TLSRequire, TLSVerify)}
	// authorities are given as text: an argument never names a file.
	authorities = Spec{Name: CA, Help: "certificates to verify against, PEM; the machine's own by default", check: isCA}
)

// Kinds lists the kinds of target.
func Kinds() []events.TargetKind { return slices.Sorted(maps.Keys(kinds)) }

// Check refuses a kind that is not there, and parameters of a target that it
// does not take.
func Check(k events.TargetKind, params map[string]string) error {
	def, ok := kinds[k]
	if !ok {
		return fmt.Errorf("%q is not a kind of target; use one of %s", k, list(Kinds()))
	}
	if err := check(fmt.Sprintf("targets of kind %s", k), def.target, def.free, params); err != nil {
		return err
	}
	if def.check != nil {
		return def.check(params)
	}
	return nil
}

// CheckAccount refuses a secret and parameters of an account that the kind of
// its target does not take.
func CheckAccount(k events.TargetKind, secret events.SecretKind, params map[string]string) error {
	def := kinds[k]
	if err := check(fmt.Sprintf("accounts on targets of kind %s", k), def.account, def.free, params); err != nil {
		return err
	}
	if !slices.Contains(def.secrets, secret) {
		return fmt.Errorf("accounts on targets of kind %s have no %s; use one of %s", k, strings.ReplaceAll(string(secret), "_", " "), list(def.secrets))
	}
	return nil
}

func check(what string, specs []Spec, free bool, params map[string]string) error {
	if len(params) > maxParams {
		return fmt.Errorf("%d parameters are too many, the limit is %d", len(params), maxParams)
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		value := params[name]
		i := slices.IndexFunc(specs, func(s Spec) bool { return s.Name == name })
		var test func(string) error
		switch {
		case i >= 0:
			test = specs[i].check
		case !free || isName(name) != nil:
			return fmt.Errorf("%s take no parameter %.80q; they take: %s", what, name, takes(specs, free))
		}
		if test == nil {
			test = isText
		}
		if err := test(value); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return nil
}

func takes(specs []Spec, free bool) string {
	var names []string
	for _, s := range specs {
		names = append(names, s.Name)
	}
	if free {
		names = append(names, "what its program takes")
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// Effective gives the parameters of a target or an account with the defaults
// for those that were not given. addr is the target's.
func Effective(k events.TargetKind, addr string, target, account []events.Param) map[string]string {
	all := map[string]string{}
	for _, s := range slices.Concat(kinds[k].target, kinds[k].account) {
		if s.Default != "" {
			all[s.Name] = s.Default
		}
	}
	if _, port, err := net.SplitHostPort(addr); err == nil && k == events.LDAP {
		all[StartTLS] = "no"
		if port == "389" || port == "3268" {
			all[StartTLS] = "yes"
		}
	}
	for _, p := range slices.Concat(target, account) {
		all[p.Name] = p.Value
	}
	return all
}

// Sorted gives parameters as events hold them; those without a value are left out.
func Sorted(params map[string]string) []events.Param {
	var out []events.Param
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if params[name] != "" {
			out = append(out, events.Param{Name: name, Value: params[name]})
		}
	}
	return out
}

// Map is the inverse of [Sorted].
func Map(params []events.Param) map[string]string {
	out := map[string]string{}
	for _, p := range params {
		out[p.Name] = p.Value
	}
	return out
}

// Help lists the parameters of all kinds, a line each.
func Help() string {
	var b strings.Builder
	for _, k := range Kinds() {
		for _, group := range []struct {
			of    string
			specs []Spec
		}{{"target", kinds[k].target}, {"account", kinds[k].account}} {
			for _, s := range group.specs {
				fmt.Fprintf(&b, "  %-8s %-7s %-15s %s", k, group.of, s.Name, s.Help)
				if s.Default != "" {
					fmt.Fprintf(&b, " (default %s)", s.Default)
				}
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

func list[S ~string](all []S) string {
	var texts []string
	for _, s := range all {
		texts = append(texts, string(s))
	}
	return strings.Join(texts, ", ")
}
