package rotator

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
)

// Discoverer reads which accounts a target has, through the job's privileged
// account. It changes nothing. What it gives is what the target says: bounded,
// and to be trusted and shown as such.
type Discoverer interface {
	// Discover lists accounts; cut says that the target has more than are listed.
	Discover(ctx context.Context, j Job) (found []events.FoundAccount, cut bool, err error)
}

// Discoverer gives the discoverer for a kind of target, false if there is none.
func (*Set) Discoverer(kind events.TargetKind) (Discoverer, bool) {
	switch kind {
	case events.SSH:
		return unixPassword{}, true
	case events.Postgres:
		return postgres{}, true
	case events.MySQL:
		return mysqlUser{}, true
	case events.LDAP:
		return directory{}, true
	}
	return nil, false
}

// What is kept of a target's answers.
const (
	maxFound = 2000
	maxEach  = 32  // keys and rights of one account
	maxText  = 200 // bytes of a name, a right
)

// collect gathers accounts within the bounds.
type collect struct {
	found []events.FoundAccount
	cut   bool
}

func (c *collect) add(a events.FoundAccount) {
	if len(c.found) == maxFound {
		c.cut = true
		return
	}
	a.Name, a.ID = fit(a.Name), fit(a.ID)
	a.Keys, a.Rights = fitAll(a.Keys), fitAll(a.Rights)
	c.found = append(c.found, a)
}

func fit(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") // never cut inside a character
}

func fitAll(all []string) (out []string) {
	for _, s := range all[:min(len(all), maxEach)] {
		out = append(out, fit(s))
	}
	return out
}

// unixLedger asks for everything in one script. Contents of home directories
// are their owners': each is preceded by a line with a random mark, so that none
// can pass for another's, and read only if it is a file.
const unixLedger = `LC_ALL=C; export LC_ALL
echo "MARK passwd"; getent passwd || cat /etc/passwd
echo "MARK shadow"; getent shadow || cat /etc/shadow
n=0
{ getent passwd || cat /etc/passwd; } | while IFS=: read -r name x uid gid gecos home shell; do
	n=$((n+1)); [ $n -le ` + "2000" + ` ] || break
	case $shell in */nologin|*/false|*/sync) continue;; esac
	echo "MARK keys $name"
	f=$home/.ssh/authorized_keys
	if [ -f "$f" ]; then head -c 65536 -- "$f"; echo; fi
	if command -v sudo >/dev/null 2>&1; then
		echo "MARK sudo $name"
		sudo -n -l -U "$name" 2>/dev/null </dev/null | head -c 8192; echo
	fi
done
echo "MARK end"
`

// Discover implements [Discoverer].
func (unixPassword) Discover(ctx context.Context, j Job) ([]events.FoundAccount, bool, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	who, err := j.actor()
	if err != nil {
		return nil, false, err
	}
	client, answer, err := dialSSH(ctx, j, who)
	if client == nil {
		return nil, false, &LoginError{Account: who.Account, Answer: answer, Err: cleaned(err, who.Secret)}
	}
	defer client.Close() // best effort: all has been read
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return nil, false, err
	}
	mark := hex.EncodeToString(random)
	r, err := runSSH(client, asPrivileged("sh -c "+quoteSh(strings.ReplaceAll(unixLedger, "MARK", mark))), nil)
	if err == nil && r.status != 0 {
		err = fmt.Errorf("the account may not read the system's accounts: %s", r.errs)
	}
	if err != nil {
		return nil, false, cleaned(errors.Join(err, ctx.Err()), who.Secret)
	}
	return readLedger(r.out, mark)
}

// readLedger reads what [unixLedger] has written.
func readLedger(out []byte, mark string) ([]events.FoundAccount, bool, error) {
	sections := map[string][]byte{}
	for _, part := range bytes.Split(append([]byte("\n"), out...), []byte("\n"+mark+" "))[1:] {
		head, body, _ := bytes.Cut(part, []byte("\n"))
		if _, twice := sections[string(head)]; !twice {
			sections[string(head)] = body
		}
	}
	if _, whole := sections["end"]; !whole {
		return nil, false, errors.New("the target's answer has no end")
	}
	locked := map[string]bool{}
	for line := range bytes.Lines(sections["shadow"]) {
		f := strings.Split(string(line), ":")
		locked[f[0]] = len(f) > 1 && (strings.HasPrefix(f[1], "!") || strings.HasPrefix(f[1], "*"))
	}
	var c collect
	for line := range bytes.Lines(sections["passwd"]) {
		f := strings.Split(strings.TrimSuffix(string(line), "\n"), ":")
		if len(f) != 7 {
			continue
		}
		_, shell := sections["keys "+f[0]]
		a := events.FoundAccount{Name: f[0], ID: f[2], Keys: fingerprints(sections["keys "+f[0]]), Rights: sudoRights(sections["sudo "+f[0]])}
		a.Login = shell && (!locked[f[0]] || len(a.Keys) > 0)
		if f[2] == "0" {
			a.Rights = append([]string{"uid 0"}, a.Rights...)
		}
		c.add(a)
	}
	return c.found, c.cut, nil
}

func fingerprints(content []byte) (all []string) {
	for line := range bytes.Lines(content) {
		if blob, _, _ := lineKey(line); blob != nil {
			if key, err := ssh.ParsePublicKey(blob); err == nil {
				all = append(all, ssh.FingerprintSHA256(key))
			}
		}
	}
	return all
}

// sudoRights are the lines after the one that says what somebody may run.
func sudoRights(text []byte) (all []string) {
	_, rules, ok := bytes.Cut(text, []byte("may run the following commands"))
	if !ok {
		return nil
	}
	for line := range strings.Lines(string(rules)) {
		if rule := strings.TrimSpace(line); strings.HasPrefix(rule, "(") {
			all = append(all, "sudo "+rule)
		}
	}
	return all
}

// Discover implements [Discoverer].
func (p postgres) Discover(ctx context.Context, j Job) ([]events.FoundAccount, bool, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	who, err := j.actor()
	if err != nil {
		return nil, false, err
	}
	conn, answer, err := p.connect(ctx, j, who)
	if conn == nil {
		return nil, false, &LoginError{Account: who.Account, Answer: answer, Err: cleaned(err, who.Secret)}
	}
	defer conn.Close(ctx) // best effort: all has been read
	rights := []string{"superuser", "createrole", "createdb", "replication", "bypassrls"}
	results, err := conn.Exec(ctx, `SELECT rolname, oid, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
		FROM pg_roles WHERE rolname NOT LIKE 'pg\_%' ORDER BY rolname LIMIT `+strconv.Itoa(maxFound+1)).ReadAll()
	if err != nil {
		return nil, false, cleaned(errors.Join(err, ctx.Err()), who.Secret)
	}
	var c collect
	for _, row := range results[0].Rows {
		a := events.FoundAccount{Name: string(row[0]), ID: string(row[1]), Login: string(row[2]) == "t"}
		for i, right := range rights {
			if string(row[3+i]) == "t" {
				a.Rights = append(a.Rights, right)
			}
		}
		c.add(a)
	}
	return c.found, c.cut, nil
}

// Discover implements [Discoverer]: one account for each host of a user.
func (m mysqlUser) Discover(ctx context.Context, j Job) ([]events.FoundAccount, bool, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	who, err := j.actor()
	if err != nil {
		return nil, false, err
	}
	s, answer, err := m.connect(ctx, j, who)
	if s == nil {
		return nil, false, &LoginError{Account: who.Account, Answer: answer, Err: cleaned(err, who.Secret)}
	}
	defer s.conn.Close() // best effort: all has been read
	rows, err := s.rows(ctx, "SELECT User, Host, Super_priv, Create_user_priv, Grant_priv FROM mysql.user ORDER BY User, Host LIMIT "+strconv.Itoa(maxFound+1))
	if err != nil {
		return nil, false, cleaned(errors.Join(err, ctx.Err()), who.Secret)
	}
	var c collect
	for _, row := range rows {
		a := events.FoundAccount{Name: row[0], ID: row[1], Login: true}
		for i, right := range []string{"super", "create user", "grant"} {
			if row[2+i] == "Y" {
				a.Rights = append(a.Rights, right)
			}
		}
		c.add(a)
	}
	return c.found, c.cut, nil
}

// Discover implements [Discoverer]: the entries that have a name to log in by.
func (d directory) Discover(ctx context.Context, j Job) ([]events.FoundAccount, bool, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	who, err := j.actor()
	if err != nil {
		return nil, false, err
	}
	b, answer, err := d.bind(ctx, j, who)
	if b == nil {
		return nil, false, &LoginError{Account: who.Account, Answer: answer, Err: cleaned(err, who.Secret)}
	}
	defer b.conn.Close() // best effort: all has been read
	bases, err := b.bases(j.Params)
	if err != nil {
		return nil, false, cleaned(errors.Join(err, ctx.Err()), who.Secret)
	}
	var c collect
	name := j.Params[targetkind.Attribute]
	for _, base := range bases {
		request := ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxFound+1, 0, false, "("+name+"=*)", []string{name, "memberOf"}, nil)
		result, err := b.conn.SearchWithPaging(request, 500)
		if ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
			c.cut, err = true, nil
		}
		if err != nil {
			return nil, false, cleaned(errors.Join(err, ctx.Err()), who.Secret)
		}
		for _, e := range result.Entries {
			c.add(events.FoundAccount{Name: e.GetAttributeValue(name), ID: e.DN, Login: true, Rights: e.GetAttributeValues("memberOf")})
		}
	}
	slices.SortStableFunc(c.found, func(x, y events.FoundAccount) int { return strings.Compare(x.Name, y.Name) })
	return c.found, c.cut, nil
}
