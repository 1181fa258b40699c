package rotator

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
)

// postgres changes the password of a PostgreSQL role. What is sent is the
// SCRAM-SHA-256 verifier that the server would store (RFC 5803), so that the
// password stands in no statement and in no log of it.
type postgres struct{}

// Verify logs in, by a method that looks at the password: where the server
// would let anybody in, nothing is learned.
func (p postgres) Verify(ctx context.Context, j Job, candidate Secret) (Answer, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	conn, answer, err := p.connect(ctx, j, j.self(candidate))
	if conn != nil {
		_ = conn.Close(ctx) // a courtesy; the login has succeeded
	}
	if answer == Accepted {
		return Accepted, nil
	}
	return answer, cleaned(err, candidate)
}

// Change implements [Rotator].
func (p postgres) Change(ctx context.Context, j Job, next Secret) (Outcome, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	if err := fitsDatabase(next); err != nil {
		return Refused, notPresented(err)
	}
	who, err := j.actor()
	if err != nil {
		return Refused, err
	}
	conn, answer, err := p.connect(ctx, j, who)
	if conn == nil {
		if answer == Accepted {
			answer = NoAnswer // the secret was right, and yet there is no session
		}
		return refusedLogin(who, answer, cleaned(err, who.Secret))
	}
	defer conn.Close(ctx) // best effort: the statement's result is known
	verifier, err := pgVerifier(conn.ParameterStatus("server_version"), j.Account, next)
	if err != nil {
		return Refused, err
	}
	_, err = conn.Exec(ctx, "ALTER ROLE "+quoteIdentifier(j.Account)+" PASSWORD '"+verifier+"'").ReadAll()
	var said *pgconn.PgError
	switch {
	case err == nil:
		return Applied, nil
	case errors.As(err, &said) && said.SeverityUnlocalized == "ERROR", pgconn.SafeToRetry(err):
		return Refused, cleaned(err, next, who.Secret)
	}
	return Unknown, cleaned(errors.Join(err, ctx.Err()), next, who.Secret)
}

// fitsDatabase refuses what servers normalise, each in its own way.
func fitsDatabase(next Secret) error {
	for _, b := range next.Bytes.Bytes() {
		if b < 0x20 || b > 0x7e {
			return fmt.Errorf("%w: it contains other characters than printable ASCII", ErrUnfit)
		}
	}
	if n := next.Bytes.Len(); n == 0 || n > 255 {
		return fmt.Errorf("%w: a password has 1 to 255 characters, not %d", ErrUnfit, n)
	}
	return nil
}

// connect logs in. A connection comes with [Accepted]; without one, Accepted
// means that the server took the password and then refused the session.
func (postgres) connect(ctx context.Context, j Job, who Login) (*pgconn.PgConn, Answer, error) {
	host, port, err := net.SplitHostPort(j.Addr)
	if err != nil {
		return nil, NoAnswer, notPresented(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, NoAnswer, notPresented(err)
	}
	// Everything that the environment could say is said here.
	cfg, err := pgconn.ParseConfig("sslmode=disable servicefile=/dev/null passfile=/dev/null target_session_attrs=any")
	if err != nil {
		return nil, NoAnswer, notPresented(err)
	}
	cfg.Host, cfg.Port, cfg.Fallbacks, cfg.KerberosSrvName, cfg.KerberosSpn = host, uint16(n), nil, "", ""
	cfg.Database, cfg.User, cfg.Password = j.Params[targetkind.Database], who.Account, string(who.Secret.Bytes.Bytes())
	cfg.RuntimeParams = map[string]string{"application_name": "holdfast"}
	cfg.SSLNegotiation, cfg.SSLCertMode, cfg.ChannelBinding, cfg.MinProtocolVersion, cfg.MaxProtocolVersion = "", "disable", "prefer", "", ""
	cfg.RequireAuth = "scram-sha-256,md5"
	if verified(j) {
		cfg.RequireAuth += ",password"
	}
	if cfg.TLSConfig, err = tlsConfig(j); err != nil {
		return nil, NoAnswer, notPresented(err)
	}
	var shown atomic.Bool
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(r, shownTo{w, func(m []byte) bool { return m[0] == pgPassword }, &shown})
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err == nil {
		return conn, Accepted, nil
	}
	return nil, pgAnswer(err), pgMarked(err, shown.Load())
}

// pgPassword begins the messages that hold a password, or a proof made of one.
const pgPassword = 'p'

// pgAnswer says what a failed login means (PostgreSQL appendix A).
func pgAnswer(err error) Answer {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return NoAnswer
	}
	switch {
	case said.Code == "28P01":
		return Rejected
	case said.Code == "28000" && said.Routine == "InitializeSessionUserId" && strings.Contains(said.Message, "log in"):
		return Locked // the role may not log in
	case said.Code == "3D000", said.Code == "42501": // no such database, no right to connect: asked after the password
		return Accepted
	}
	return NoAnswer
}

// pgMarked marks errors that no lock-out counts: those before the password, and a server that is full.
func pgMarked(err error, shown bool) error {
	var said *pgconn.PgError
	full := errors.As(err, &said) && (said.Code == "57P03" || said.Code == "53300")
	if said == nil && strings.Contains(err.Error(), "server refused TLS connection") { // the library has no other sign of it
		err = noTLS(err)
	}
	if full || !shown {
		return notPresented(explained(err))
	}
	return err
}

var leadingDigits = regexp.MustCompile(`^[0-9]+`)

// pgVerifier is what the server stores of a password.
func pgVerifier(version, role string, next Secret) (string, error) {
	major, err := strconv.Atoi(leadingDigits.FindString(version))
	if err != nil {
		return "", fmt.Errorf("the server calls its version %.40q", version)
	}
	if major < 10 { // knows no SCRAM and would take the verifier for a password
		sum := md5.Sum(append(append([]byte(nil), next.Bytes.Bytes()...), role...))
		return "md5" + hex.EncodeToString(sum[:]), nil
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return scramVerifier(next.Bytes.Bytes(), salt, 4096)
}

// scramVerifier is RFC 5803's form of a password, as PostgreSQL writes it.
func scramVerifier(password, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}

// quoteIdentifier makes one SQL identifier.
func quoteIdentifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
