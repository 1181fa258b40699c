package console

import (
	"encoding/json"
	"strings"
	"testing"
)

// What a database target and its accounts are added with is shown, changed and
// checked.
func TestTargetsOfOtherKinds(t *testing.T) {
	w := newWorld(t)
	w.must(
		"target add db1 --kind postgres --addr 192.0.2.9:5432 --param database=app --param tls=require",
		"account add postgres+db1 --password-stdin",
		"account add app+db1 --password-stdin --via postgres+db1",
		"account add batch+db1 --no-secret password --via postgres+db1",
		"target add dir --kind ldap --addr dir:389 --param base-dn=dc=example,dc=net",
		"account add admin+dir --password-stdin --param dn=cn=admin,dc=example,dc=net",
	)
	for _, c := range []struct{ line, stdin, says string }{
		{"target add x --kind telnet --addr x:23", "", "is not a kind of target"},
		{"target add x --kind postgres --addr x:1 --scan", "", "no SSH host key"},
		{"target add x --kind postgres --addr x:1 --param tls", "", "NAME=VALUE"},
		{"target add x --kind postgres --addr x:1 --param tls=require --param tls=verify", "", "given twice"},
		{"target add x --kind postgres --addr x:1 --param ca=-", "no certificate", "PEM"},
		{"target set db1", "", "needs --param"},
		{"target set db1 --param port=1", "", "take no parameter"},
		{"account set app+db1", "", "needs --param, --via or --no-via"},
		{"account set app+db1 --via postgres+db1 --no-via", "", "two answers"},
		{"account add y+db1 --no-secret password", "", "privileged account"},
		{"account add y+db1 --no-secret certificate --via postgres+db1", "", "not a kind of secret"},
		{"account add y+db1 --no-secret password --password-stdin", "x", "needs one of"},
		{"target allow db1 --algorithm ssh-rsa", "", "only ssh targets"},
	} {
		if r := w.run(w.admin, c.line, c.stdin); r.exit != Usage || !strings.Contains(r.err, c.says) {
			t.Errorf("%s: exit %d, %s", c.line, r.exit, r.err)
		}
	}
	w.must("target set db1 --param database=", "account set batch+db1 --no-via")
	for line, want := range map[string][]string{
		"target show db1":        {`"kind":"postgres"`, `"params":[{"name":"tls","value":"require"}]`},
		"account show app+db1":   {`"via":"postgres+db1"`},
		"account show batch+db1": {`"params":[]`},
		"account show admin+dir": {`"value":"cn=admin,dc=example,dc=net"`},
	} {
		r := w.run(w.admin, line+" --json", "")
		if !json.Valid([]byte(r.out)) || strings.Contains(line, "batch") && strings.Contains(r.out, `"via"`) {
			t.Errorf("%s: %s", line, r.out)
		}
		for _, text := range want {
			if !strings.Contains(r.out, text) {
				t.Errorf("%s lacks %s: %s", line, text, r.out)
			}
		}
	}
}
