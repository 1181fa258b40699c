package gateway

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/relay"
)

// permits is what a way of logging in allows beside commands. A key on record allows all; a certificate what its
// extensions say (OpenSSH PROTOCOL.certkeys). None of them gives anything that the grant doesn't.
//
// permit-X11-forwarding has no place here, since X11 is never relayed. Nor has permit-user-rc: the gateway is the
// server that the certificate speaks to, and it runs no file of its holder's; what the target does for its own account
// was never the certificate's to allow.
type permits struct{ pty, forwarding, agent bool }

var allPermits = permits{pty: true, forwarding: true, agent: true}

// limit takes from a session's policy what the certificate doesn't permit.
func (p permits) limit(policy relay.Policy) relay.Policy {
	policy.NoPTY = !p.pty
	policy.Agent = policy.Agent && p.agent
	if !p.forwarding {
		policy.To, policy.Listen = nil, nil
	}
	return policy
}

const (
	sourceAddress = "source-address" // the critical option that is kept
	forceCommand  = "force-command"
	minRSA        = 2048 // bits of a certified key
)

// certified decides whom a certificate authenticates. Nothing that it says counts before the signature of a trusted
// authority is verified: until then it is an unknown key.
func (s *Server) certified(cert *ssh.Certificate, from net.Addr) (*identity, *noEntry) {
	c := &aggregate.Certificate{
		Authority: ssh.FingerprintSHA256(cert.SignatureKey), Key: ssh.FingerprintSHA256(cert.Key),
		Serial: cert.Serial, KeyID: cert.KeyId, Principals: cert.ValidPrincipals,
		After: certTime(cert.ValidAfter),
	}
	if cert.ValidBefore != ssh.CertTimeInfinity {
		c.Before = certTime(cert.ValidBefore)
	}
	var err error
	s.cfg.Dispatcher.View(func(state *aggregate.State) { _, err = state.CAByKey(c.Authority) })
	if err == nil {
		err = verifyCertificate(cert)
	}
	if err != nil {
		return nil, &noEntry{reason: events.UnknownKey, detail: "certificate: " + plain(err.Error()), text: keyTexts[events.UnknownKey]}
	}
	if why := unacceptable(cert, from); why != "" {
		return nil, badCertificate(c, why)
	}
	return s.byCertificate(c, permits{
		pty: permitted(cert, "permit-pty"), forwarding: permitted(cert, "permit-port-forwarding"),
		agent: permitted(cert, "permit-agent-forwarding"),
	})
}

// byCertificate asks the state whom a verified certificate authenticates now.
func (s *Server) byCertificate(c *aggregate.Certificate, p permits) (who *identity, no *noEntry) {
	var several *aggregate.ConflictError
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		u, _, err := state.UserByCertificate(c, s.cfg.Now())
		if u != nil {
			who = &identity{user: u.ID, name: u.Name, role: u.Role, fingerprint: c.Key, certificate: c, permits: p}
		}
		switch {
		case err == nil:
		case errors.Is(err, aggregate.ErrDisabled):
			no = &noEntry{reason: events.UserIsDisabled, text: keyTexts[events.UserIsDisabled]}
		case errors.Is(err, aggregate.ErrSuspended):
			no = &noEntry{reason: events.Suspended, text: keyTexts[events.Suspended]}
		case errors.As(err, &several):
			no = badCertificate(c, "its principals name more than one user")
			no.reason = events.NameConflict
		default:
			no = badCertificate(c, strings.TrimPrefix(err.Error(), "certificate "))
		}
	})
	if no != nil && who != nil {
		no.user = who.user
	}
	return who, no
}

// badCertificate is the refusal of a certificate whose authority is trusted.
func badCertificate(c *aggregate.Certificate, why string) *noEntry {
	return &noEntry{
		reason: events.BadCertificate,
		detail: fmt.Sprintf("certificate %s, serial %d, of %s: %s", plain(c.KeyID), c.Serial, c.Authority, plain(why)),
		text:   "your certificate is not accepted: " + plain(why),
	}
}

// expired reports whether a login's certificate has run out since.
func (i *identity) expired(now time.Time) bool {
	return i.certificate != nil && !i.certificate.Before.IsZero() && !now.Before(i.certificate.Before)
}

// certTime is a moment as certificates write it. What no clock will reach is cut to what time can hold.
func certTime(seconds uint64) time.Time {
	return time.Unix(int64(min(seconds, 1<<40)), 0).UTC() //nolint:gosec // bounded
}

// verifyCertificate checks the authority's signature and nothing else: the checker is told of a moment within the
// certificate's own time and that it knows all its options, since what is wrong with those is told by its own name.
func verifyCertificate(cert *ssh.Certificate) error {
	if cert.Signature.Format == ssh.KeyAlgoRSA {
		return errors.New("signed with SHA-1")
	}
	principal := ""
	if len(cert.ValidPrincipals) > 0 {
		principal = cert.ValidPrincipals[0]
	}
	check := &ssh.CertChecker{
		SupportedCriticalOptions: slices.Collect(maps.Keys(cert.CriticalOptions)),
		Clock:                    func() time.Time { return time.Unix(int64(cert.ValidAfter), 0) }, //nolint:gosec // a negative one is refused
	}
	return check.CheckCert(principal, cert)
}

// unacceptable tells why a certificate lets nobody in whoever it is for, empty if it may.
//
// A forced command is refused rather than kept to: the session's packets go to the target as they come, and a command
// slipped in their place would be one that nobody typed and the recording doesn't show.
func unacceptable(cert *ssh.Certificate, from net.Addr) string {
	if cert.CertType != ssh.UserCert {
		return "it is not a user certificate"
	}
	if k, ok := cert.Key.(ssh.CryptoPublicKey); ok {
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < minRSA {
			return fmt.Sprintf("its RSA key has less than %d bits", minRSA)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cert.CriticalOptions)) {
		switch name {
		case sourceAddress:
			if !isFrom(cert.CriticalOptions[name], from) {
				return "it may not be used from your address"
			}
		case forceCommand:
			return "it forces a command, and sessions through this gateway can't be held to one"
		default:
			return "it has the critical option " + name + ", which is not known here"
		}
	}
	return ""
}

// isFrom reports whether an address is in a list of addresses and prefixes, separated by commas. A list with anything
// else in it means nobody.
func isFrom(list string, from net.Addr) bool {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr, in := tcp.AddrPort().Addr().Unmap().WithZone(""), false
	for _, item := range strings.Split(list, ",") {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			one, err := netip.ParseAddr(item)
			if err != nil {
				return false
			}
			prefix = netip.PrefixFrom(one, one.BitLen())
		}
		in = in || prefix.Contains(addr)
	}
	return in
}

func permitted(cert *ssh.Certificate, extension string) bool {
	_, ok := cert.Extensions[extension]
	return ok
}
