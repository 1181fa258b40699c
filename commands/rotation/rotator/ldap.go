package rotator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"
	"unicode/utf16"

	"crypto/tls"

	"github.com/go-ldap/ldap/v3"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
)

// directory changes the password of an entry of an LDAP directory: by RFC 3062,
// or in Active Directory by its attribute unicodePwd. As itself, the old
// password goes along with the change.
type directory struct{}

// Verify binds as the account.
func (d directory) Verify(ctx context.Context, j Job, candidate Secret) (Answer, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	b, answer, err := d.bind(ctx, j, j.self(candidate))
	if b != nil {
		_ = b.conn.Close() // a courtesy; the bind has succeeded
	}
	if answer == Accepted {
		return Accepted, nil
	}
	return answer, cleaned(err, candidate)
}

// Change implements [Rotator].
func (d directory) Change(ctx context.Context, j Job, next Secret) (Outcome, error) {
	ctx, cancel := within(ctx, j)
	defer cancel()
	if err := fitsDatabase(next); err != nil {
		return Refused, notPresented(err)
	}
	ad := j.Params[targetkind.Directory] == "ad"
	if ad && j.Params[targetkind.TLS] == targetkind.TLSDisable {
		return Refused, notPresented(errors.New("a password goes to Active Directory over TLS only; set --param tls=verify"))
	}
	who, err := j.actor()
	if err != nil {
		return Refused, err
	}
	b, answer, err := d.bind(ctx, j, who)
	if b == nil {
		if answer == Accepted {
			answer = NoAnswer // right, but not good for a change: it has expired
		}
		return refusedLogin(who, answer, cleaned(err, who.Secret))
	}
	defer b.conn.Close() // best effort: the request's result is known
	dn := b.dn
	if j.Verb == ByPrivileged || dn == "" {
		if dn, err = b.find(j.Account, j.Params); err != nil {
			return Refused, cleaned(errors.Join(err, ctx.Err()), who.Secret)
		}
	}
	if ad {
		err = b.setUnicodePwd(dn, j, next)
	} else {
		err = b.modifyPassword(dn, j, next)
	}
	outcome := ldapOutcome(err)
	if outcome == Applied {
		return Applied, nil
	}
	clean := cleaned(errors.Join(err, ctx.Err()), next, who.Secret)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultConstraintViolation) {
		return outcome, fmt.Errorf("%w: %w", ErrUnfit, clean)
	}
	return outcome, clean
}

// ldapOutcome: a result of the server's own is a no, but for those that it
// gives when it does not know itself.
func ldapOutcome(err error) Outcome {
	var said *ldap.Error
	switch {
	case err == nil:
		return Applied
	case !errors.As(err, &said), said.ResultCode >= ldap.ErrorNetwork:
		return Unknown // a failure of the connection, not of the server
	case said.ResultCode == ldap.LDAPResultOther, said.ResultCode == ldap.LDAPResultTimeLimitExceeded,
		said.ResultCode == ldap.LDAPResultOperationsError, said.ResultCode == ldap.LDAPResultUnavailable:
		return Unknown
	}
	return Refused
}

// bound is a connection that has proven who it is.
type bound struct {
	conn *ldap.Conn
	dn   string // that it has bound as; empty where it bound by another name
}

func (d directory) bind(ctx context.Context, j Job, who Login) (*bound, Answer, error) {
	if who.Secret.Bytes.Len() == 0 { // RFC 4513 section 5.1.2: would succeed as nobody
		return nil, NoAnswer, notPresented(errors.New("the password is empty"))
	}
	conn, err := d.connect(ctx, j)
	if err != nil {
		return nil, NoAnswer, notPresented(err)
	}
	b := &bound{conn: conn}
	name := ""
	if template := who.Params[targetkind.Bind]; template != "" && who.Params[targetkind.DN] == "" {
		name = strings.Replace(template, targetkind.Account, who.Account, 1)
	} else if b.dn, err = b.find(who.Account, who.Params); err != nil {
		return nil, NoAnswer, notPresented(errors.Join(err, conn.Close()))
	} else {
		name = b.dn
	}
	result, err := conn.SimpleBind(ldap.NewSimpleBindRequest(name, string(who.Secret.Bytes.Bytes()), []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}))
	if err == nil {
		return b, Accepted, nil
	}
	return nil, ldapAnswer(result, err), errors.Join(err, ctx.Err(), ignoreClosed(conn.Close()))
}

// connect opens the connection, in TLS before anything is said or after
// StartTLS; the end of ctx closes it.
func (directory) connect(ctx context.Context, j Job) (*ldap.Conn, error) {
	cfg, err := tlsConfig(j)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", j.Addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // what waits on it then fails and says so
	start := j.Params[targetkind.StartTLS] == "yes"
	nc := raw
	if cfg != nil && !start {
		wrapped := tls.Client(raw, cfg)
		if err := wrapped.HandshakeContext(ctx); err != nil {
			stop()
			return nil, errors.Join(explained(err), raw.Close())
		}
		nc = wrapped
	}
	conn := ldap.NewConn(nc, nc != raw)
	conn.Start()
	if end, ok := ctx.Deadline(); ok {
		conn.SetTimeout(time.Until(end))
	}
	if cfg != nil && start {
		if err := conn.StartTLS(cfg); err != nil {
			if ldap.IsErrorWithCode(err, ldap.LDAPResultProtocolError) {
				err = noTLS(err)
			}
			return nil, errors.Join(explained(err), ignoreClosed(conn.Close()))
		}
	}
	return conn, nil
}

// find gives the DN of an account: as it says, by the target's rule, or by
// looking for the one entry that has the name.
func (b *bound) find(account string, params map[string]string) (string, error) {
	if dn := params[targetkind.DN]; dn != "" {
		return dn, nil
	}
	if template := params[targetkind.UserDN]; template != "" {
		return strings.Replace(template, targetkind.Account, ldap.EscapeDN(account), 1), nil
	}
	bases, err := b.bases(params)
	if err != nil {
		return "", err
	}
	var found []string
	filter := "(" + params[targetkind.Attribute] + "=" + ldap.EscapeFilter(account) + ")"
	for _, base := range bases {
		result, err := b.conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, 0, false, filter, []string{"1.1"}, nil))
		if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
			return "", fmt.Errorf("look for %s under %s: %w", filter, base, err)
		}
		for _, e := range result.Entries {
			found = append(found, e.DN)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d entries answer to %s, not one; name the account's with --param %s=DN", len(found), filter, targetkind.DN)
	}
	return found[0], nil
}

// bases are where accounts are looked for.
func (b *bound) bases(params map[string]string) ([]string, error) {
	if base := params[targetkind.BaseDN]; base != "" {
		return []string{base}, nil
	}
	const standard, first = "namingContexts", "defaultNamingContext"
	result, err := b.conn.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{first, standard}, nil))
	if err != nil || len(result.Entries) != 1 {
		return nil, fmt.Errorf("ask the directory for its naming contexts (or give the target --param %s=DN): %w", targetkind.BaseDN, errors.Join(err))
	}
	if one := result.Entries[0].GetAttributeValue(first); one != "" {
		return []string{one}, nil
	}
	return result.Entries[0].GetAttributeValues(standard), nil
}

// modifyPassword is RFC 3062's operation.
func (b *bound) modifyPassword(dn string, j Job, next Secret) error {
	old := ""
	if j.Verb == AsItself {
		old = string(j.Current.Bytes.Bytes())
	}
	_, err := b.conn.PasswordModify(ldap.NewPasswordModifyRequest(dn, old, string(next.Bytes.Bytes())))
	return err
}

// setUnicodePwd is Active Directory's form (MS-ADTS section 3.1.1.3.1.5): to take
// the old value away and add the new one proves the old one, to replace it needs
// the right to reset.
func (b *bound) setUnicodePwd(dn string, j Job, next Secret) error {
	const attribute = "unicodePwd"
	request := ldap.NewModifyRequest(dn, nil)
	if j.Verb == AsItself {
		request.Delete(attribute, []string{unicodePwd(j.Current)})
		request.Add(attribute, []string{unicodePwd(next)})
	} else {
		request.Replace(attribute, []string{unicodePwd(next)})
	}
	return b.conn.Modify(request)
}

// unicodePwd is a password between quotation marks, in UTF-16, little endian.
func unicodePwd(s Secret) string {
	var out []byte
	for _, u := range utf16.Encode([]rune(`"` + string(s.Bytes.Bytes()) + `"`)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return string(out)
}

// adReason is the number that Active Directory hides in an error's text.
var adReason = regexp.MustCompile(`\bdata ([0-9a-f]{3,4})\b`)

// ldapAnswer says what a failed bind means.
func ldapAnswer(result *ldap.SimpleBindResult, err error) Answer {
	var said *ldap.Error
	if !errors.As(err, &said) || said.ResultCode >= ldap.ErrorNetwork {
		return NoAnswer
	}
	if result != nil {
		if c, ok := ldap.FindControl(result.Controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy); ok {
			switch c.Error {
			case ldap.BeheraAccountLocked:
				return Locked
			case ldap.BeheraPasswordExpired, ldap.BeheraChangeAfterReset:
				return Accepted
			}
		}
	}
	switch said.ResultCode {
	case ldap.LDAPResultInvalidCredentials:
		if m := adReason.FindStringSubmatch(err.Error()); m != nil {
			switch m[1] {
			case "530", "531", "533", "701", "775": // hours, workstation, disabled, expired, locked
				return Locked
			case "532", "773": // the password has expired or must be changed
				return Accepted
			case "525": // no such user
				return NoAnswer
			}
		}
		return Rejected
	case ldap.LDAPResultConstraintViolation, ldap.LDAPResultUnwillingToPerform: // 389 Directory Server
		return Locked
	}
	return NoAnswer
}
