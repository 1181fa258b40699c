package rotator

import (
	"context"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/tls"
	"database/sql/driver"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"filippo.io/edwards25519"
	"github.com/go-sql-driver/mysql"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
)

// mysqlUser changes the password of a MySQL or MariaDB user. Where the server
// takes the hash that it would store, the hash is sent. MySQL takes no hash
// from a user for themselves, nor for its SHA-2 plugins: there the password is in
// the statement, which MySQL itself blots out in its logs.
type mysqlUser struct{}

// Numbers of errors that a login meets, of both servers.
const (
	errAccessDenied      = 1045
	errDatabaseDenied    = 1044
	errUnknownDatabase   = 1049
	errTooMany           = 1040
	errHostBlocked       = 1129
	errHostDenied        = 1130
	errExpired           = 1862
	errMySQLLocked       = 3118
	errMySQLBlocked      = 3955
	errMariaDBLocked     = 4151
	errMariaDBBlocked    = 4150
	errPasswordPolicy    = 1819
	errServerShutdown    = 1053
	errReadOnly          = 1290
	errQueryInterrupted  = 1317
	errConnectionKilled  = 1927
	errMustChangeAtLogin = 1820
)

// mysqlTries is how often a login is begun when the driver can't read the server's
// challenge: it drops a last byte of zero, which one in 256 challenges of MariaDB's
// ed25519 has, and answers nothing. The server counts no wrong password for that.
const mysqlTries = 4

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_.:%/-]{1,255}$`)

// quiet drops what the driver would write to standard error.
type quiet struct{}

func (quiet) Print(...any) {}

// session is one logged-in connection.
type mysqlSession struct {
	conn    driver.Conn
	mariaDB bool
	version string
	user    string // of CURRENT_USER(), the account that the server matched
	host    string
}

// Verify logs in and asks as whom.
func (m mysqlUser) Verify(ctx context.Context, j Job, candidate Secret) (Answer, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	s, answer, err := m.connect(ctx, j, j.self(candidate))
	if s != nil {
		_ = s.conn.Close() // a courtesy; the login has succeeded
	}
	if answer == Accepted {
		return Accepted, nil
	}
	return answer, cleaned(err, candidate)
}

// Change implements [Rotator].
func (m mysqlUser) Change(ctx context.Context, j Job, next Secret) (Outcome, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	if err := fitsDatabase(next); err != nil {
		return Refused, notPresented(err)
	}
	who, err := j.actor()
	if err != nil {
		return Refused, err
	}
	s, answer, err := m.connect(ctx, j, who)
	if s == nil {
		if answer == Accepted {
			answer = NoAnswer // the secret was right, and yet there is no session
		}
		return refusedLogin(who, answer, cleaned(err, who.Secret))
	}
	defer s.conn.Close() // best effort: the statements' results are known
	statements, err := s.statements(ctx, j, next)
	if err != nil {
		return Refused, cleaned(errors.Join(err, ctx.Err()), next, who.Secret)
	}
	outcome, err := s.change(ctx, statements)
	if outcome == Applied {
		return Applied, nil
	}
	return outcome, preserveUnfit(err, cleaned(errors.Join(err, ctx.Err()), next, who.Secret))
}

func (m mysqlUser) connect(ctx context.Context, j Job, who Login) (*mysqlSession, Answer, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = who.Account, string(who.Secret.Bytes.Bytes()), "tcp", j.Addr, j.Params[targetkind.Database]
	cfg.Logger, cfg.CheckConnLiveness = quiet{}, false
	var err error
	if cfg.TLS, err = tlsConfig(j); err != nil {
		return nil, NoAnswer, notPresented(err)
	}
	cfg.AllowCleartextPasswords = verified(j) // PAM and LDAP plugins of the server need it
	var wrote, secured atomic.Bool
	var answers atomic.Int32
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		answers.Store(0)
		return mysqlConn{conn, shownTo{conn, func([]byte) bool { return true }, &wrote}, cfg.TLS != nil, &answers}, nil
	}
	if cfg.TLS != nil { // before the secret there is a request for TLS
		cfg.TLS.VerifyConnection = func(tls.ConnectionState) error { secured.Store(true); return nil }
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, NoAnswer, notPresented(err)
	}
	conn, err := connector.Connect(ctx)
	for n := 1; n < mysqlTries && errors.Is(err, mysql.ErrMalformPkt) && answers.Load() == 1; n++ {
		conn, err = connector.Connect(ctx)
	}
	if err != nil {
		answer, err := mysqlAnswer(err, wrote.Load() && (cfg.TLS == nil || secured.Load()))
		return nil, answer, err
	}
	s := &mysqlSession{conn: conn}
	row, err := s.row(ctx, "SELECT VERSION(), CURRENT_USER()")
	if err != nil {
		return nil, NoAnswer, errors.Join(fmt.Errorf("ask who has logged in: %w", err), conn.Close())
	}
	at := strings.LastIndexByte(row[1], '@')
	s.version, s.mariaDB = row[0], strings.Contains(strings.ToLower(row[0]), "mariadb")
	s.user, s.host = row[1][:max(at, 0)], row[1][at+1:]
	if s.user != who.Account {
		return nil, NoAnswer, errors.Join(fmt.Errorf("the server took %s for %s", who.Account, row[1]), conn.Close())
	}
	return s, Accepted, nil
}

// mysqlConn is a connection that notes whether anything was written to it, and counts
// the packets in which the client answers: the first one names the user, and answers what
// the server asks of most users, each further one another challenge.
type mysqlConn struct {
	net.Conn
	to      shownTo
	tls     bool
	answers *atomic.Int32
}

// tlsData begins a TLS record of application data (RFC 8446 section 5.1).
const tlsData = 23

func (c mysqlConn) Write(p []byte) (int, error) {
	if !c.tls || len(p) > 0 && p[0] == tlsData {
		c.answers.Add(1)
	}
	return c.to.Write(p)
}

// mysqlAnswer says what a failed login means. shown is whether the server can
// have seen anything of the secret.
func mysqlAnswer(err error, shown bool) (Answer, error) {
	var said *mysql.MySQLError
	if !errors.As(err, &said) {
		switch {
		case errors.Is(err, mysql.ErrNoTLS):
			err = notPresented(noTLS(err))
		case !shown:
			err = notPresented(explained(err))
		case errors.Is(err, mysql.ErrUnknownPlugin):
			err = errors.New("the server goes on to a login method that is not spoken here, as it does with unix_socket after a wrong password")
		}
		return NoAnswer, err
	}
	switch said.Number {
	case errAccessDenied:
		return Rejected, err
	case errMySQLLocked, errMySQLBlocked, errMariaDBLocked, errMariaDBBlocked:
		return Locked, err
	case errDatabaseDenied, errUnknownDatabase, errExpired, errMustChangeAtLogin: // asked after the password
		return Accepted, err
	case errTooMany, errHostBlocked, errHostDenied:
		return NoAnswer, notPresented(err)
	}
	return NoAnswer, err
}

// statements are what sets the password, one for each host of the user.
func (s *mysqlSession) statements(ctx context.Context, j Job, next Secret) ([]string, error) {
	if j.Verb == AsItself {
		plugin, err := s.plugin(ctx, "CURRENT_USER()")
		if err != nil {
			return nil, err
		}
		if s.mariaDB {
			return s.setHash("", plugin, next)
		}
		return s.alterSelf(ctx, j.Current, next)
	}
	hosts, err := s.hosts(ctx, j)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, host := range hosts {
		name := fmt.Sprintf("'%s'@'%s'", j.Account, host)
		plugin, err := s.plugin(ctx, name)
		if err != nil {
			return nil, err
		}
		var one []string
		switch {
		case s.mariaDB:
			one, err = s.setHash(" FOR "+name, plugin, next)
		case plugin == "mysql_native_password":
			one = []string{fmt.Sprintf("ALTER USER %s IDENTIFIED WITH mysql_native_password AS '%s'", name, nativeHash(next.Bytes.Bytes()))}
		default:
			var text string
			text, err = s.literal(ctx, next)
			one = []string{"ALTER USER " + name + " IDENTIFIED BY " + text}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}

// hosts lists the host parts under which the server knows the user: all of
// them hold the same secret, unless the account names one.
func (s *mysqlSession) hosts(ctx context.Context, j Job) ([]string, error) {
	if host := j.Params[targetkind.Host]; host != "" {
		if !hostPattern.MatchString(host) {
			return nil, fmt.Errorf("%.80q is not the host part of a user", host)
		}
		return []string{host}, nil
	}
	rows, err := s.rows(ctx, "SELECT Host FROM mysql.user WHERE User = '"+j.Account+"' ORDER BY Host")
	if err != nil {
		return nil, fmt.Errorf("list the hosts of the user (or name one with --param %s=HOST): %w", targetkind.Host, err)
	}
	var hosts []string
	for _, row := range rows {
		if !hostPattern.MatchString(row[0]) {
			return nil, fmt.Errorf("the user has the host %.80q, which can't be handled", row[0])
		}
		hosts = append(hosts, row[0])
	}
	if len(hosts) == 0 {
		return nil, errors.New("there is no such user")
	}
	return hosts, nil
}

var (
	quotedText = regexp.MustCompile(`'(?:[^'\\]|''|\\.)*'`)
	viaPlugin  = regexp.MustCompile(`(?i)\b(?:VIA|WITH|OR) '?([a-z0-9_]+)'?`)
	byPassword = regexp.MustCompile(`(?i)\bIDENTIFIED BY PASSWORD\b`)
)

// plugin finds the one way by which the user proves a password.
func (s *mysqlSession) plugin(ctx context.Context, name string) (string, error) {
	row, err := s.row(ctx, "SHOW CREATE USER "+name)
	if err != nil {
		return "", fmt.Errorf("ask how %s logs in: %w", name, err)
	}
	text := row[0]
	if at := strings.Index(strings.ToUpper(text), "IDENTIFIED"); at >= 0 {
		text = text[at:]
	}
	if end := strings.Index(strings.ToUpper(text), " REQUIRE "); end >= 0 {
		text = text[:end]
	}
	var found []string
	if byPassword.MatchString(text) {
		found = append(found, "mysql_native_password")
	}
	// The names of plugins come quoted from MySQL, hashes from both: drop what follows AS and USING.
	text = regexp.MustCompile(`(?i)\b(AS|USING) `+quotedText.String()).ReplaceAllString(text, "")
	for _, m := range viaPlugin.FindAllStringSubmatch(text, -1) {
		if p := strings.ToLower(m[1]); p != "unix_socket" && p != "auth_socket" {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s logs in by %d methods that take a password (%s); only one can be kept in step", name, len(found), strings.Join(found, ", "))
	}
	return found[0], nil
}

// setHash sets the hash that MariaDB stores; beside it, the user's other
// methods stay.
func (s *mysqlSession) setHash(of, plugin string, next Secret) ([]string, error) {
	hash := map[string]func([]byte) string{"mysql_native_password": nativeHash, "ed25519": ed25519Hash}[plugin]
	if hash == nil {
		return nil, fmt.Errorf("the user logs in by the plugin %s, whose passwords are not the server's to change", plugin)
	}
	return []string{"SET PASSWORD" + of + " = '" + hash(next.Bytes.Bytes()) + "'"}, nil
}

// alterSelf is MySQL's own form, which also proves the old password from 8.0.13 on.
func (s *mysqlSession) alterSelf(ctx context.Context, current, next Secret) ([]string, error) {
	text, err := s.literal(ctx, next)
	if err != nil {
		return nil, err
	}
	statement := "ALTER USER USER() IDENTIFIED BY " + text
	var major, minor, patch int
	if n, err := fmt.Sscanf(s.version, "%d.%d.%d", &major, &minor, &patch); n < 2 || err != nil && n < 2 {
		return nil, fmt.Errorf("the server calls its version %.40q", s.version)
	}
	if slices.Compare([]int{major, minor, patch}, []int{8, 0, 13}) >= 0 {
		old, err := s.literal(ctx, current)
		if err != nil {
			return nil, err
		}
		statement += " REPLACE " + old
	}
	return []string{statement}, nil
}

// literal writes a secret as a string of SQL.
func (s *mysqlSession) literal(ctx context.Context, secret Secret) (string, error) {
	row, err := s.row(ctx, "SELECT @@sql_mode")
	if err != nil {
		return "", fmt.Errorf("ask for the server's SQL mode: %w", err)
	}
	text := strings.ReplaceAll(string(secret.Bytes.Bytes()), "'", "''")
	if !strings.Contains(row[0], "NO_BACKSLASH_ESCAPES") {
		text = strings.ReplaceAll(text, `\`, `\\`)
	}
	return "'" + text + "'", nil
}

// change runs the statements. After the first one has succeeded, a later
// refusal leaves hosts with different passwords: which one counts is unknown.
func (s *mysqlSession) change(ctx context.Context, statements []string) (Outcome, error) {
	exec, ok := s.conn.(driver.ExecerContext)
	if !ok {
		return Refused, errors.New("the driver runs no statements")
	}
	for i, statement := range statements {
		_, err := exec.ExecContext(ctx, statement, nil)
		var said *mysql.MySQLError
		switch {
		case err == nil:
			continue
		case i > 0 || !errors.As(err, &said):
			return Unknown, err
		case said.Number == errPasswordPolicy:
			return Refused, fmt.Errorf("%w: %w", ErrUnfit, err)
		case said.Number == errServerShutdown, said.Number == errConnectionKilled, said.Number == errQueryInterrupted:
			return Unknown, err
		}
		return Refused, err
	}
	return Applied, nil
}

// row gives the first row of a query.
func (s *mysqlSession) row(ctx context.Context, query string) ([]string, error) {
	rows, err := s.rows(ctx, query)
	if err == nil && len(rows) == 0 {
		err = errors.New("the server answers with nothing")
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

// maxRows bounds what is read of an answer.
const maxRows = 10_000

func (s *mysqlSession) rows(ctx context.Context, query string) (all [][]string, err error) {
	queryer, ok := s.conn.(driver.QueryerContext)
	if !ok {
		return nil, errors.New("the driver runs no queries")
	}
	rows, err := queryer.QueryContext(ctx, query, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(values); {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, err
		case len(all) == maxRows:
			return nil, fmt.Errorf("the server answers with more than %d rows", maxRows)
		}
		var row []string
		for _, v := range values {
			switch v := v.(type) {
			case []byte:
				row = append(row, string(v))
			case nil:
				row = append(row, "")
			default:
				row = append(row, fmt.Sprint(v))
			}
		}
		all = append(all, row)
	}
}

// nativeHash is what mysql_native_password stores.
func nativeHash(password []byte) string {
	once := sha1.Sum(password)
	twice := sha1.Sum(once[:])
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// ed25519Hash is what MariaDB's ed25519 plugin stores: the public key whose
// private half is made of the password (of any length, unlike RFC 8032's).
func ed25519Hash(password []byte) string {
	sum := sha512.Sum512(password)
	defer clear(sum[:])
	scalar, err := new(edwards25519.Scalar).SetBytesWithClamping(sum[:32])
	if err != nil {
		panic(err) // 32 bytes always fit
	}
	return base64.RawStdEncoding.EncodeToString(new(edwards25519.Point).ScalarBaseMult(scalar).Bytes())
}
