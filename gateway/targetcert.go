package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

const (
	// userCertLife is how long the certificate of a login is good. A target looks at it once, when the session logs in.
	userCertLife = 5 * time.Minute
	// userCertSkew is how far a target's clock may be behind ours.
	userCertSkew = 5 * time.Minute
)

// certificates are the ways to log in with a user certificate made for this login: a fresh key, certified by each of
// the site's authorities in turn, the newest first, since a target may not have heard of that one yet. None is signed
// before the target has proven its host key and asked.
func (t *targetLogin) certificates() ([]sshwire.ClientAuth, error) {
	if len(t.started.Signers) == 0 {
		return nil, errors.New("the site has no authority that signs user certificates")
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for the login: %w", err)
	}
	t.fresh = private
	var ways []sshwire.ClientAuth
	for _, ca := range t.started.Signers {
		ways = append(ways, sshwire.PublicKeysFrom(func() ([]ssh.Signer, error) {
			signer, err := t.certified(ca)
			if err != nil {
				t.vault = err
				return nil, err
			}
			return []ssh.Signer{signer}, nil
		}))
	}
	return ways, nil
}

// certified signs the login's certificate with one authority, and returns it once that is on record.
func (t *targetLogin) certified(ca vault.CA) (ssh.Signer, error) {
	signer, err := ssh.NewSignerFromKey(t.fresh)
	if err != nil {
		return nil, fmt.Errorf("make a key for the login: %w", err)
	}
	var serial [8]byte
	_, _ = rand.Read(serial[:])
	now := t.now()
	cert := &ssh.Certificate{
		Key: signer.PublicKey(), Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.UserCert,
		KeyId:           fmt.Sprintf("holdfast session %s user %s site %s", t.started.Session, t.started.UserName, t.site),
		ValidPrincipals: []string{t.started.Principal},
		ValidAfter:      uint64(now.Add(-userCertSkew).Unix()), //nolint:gosec // after 1970
		ValidBefore:     uint64(now.Add(userCertLife).Unix()),  //nolint:gosec // after 1970
		Permissions:     ssh.Permissions{Extensions: t.extensions()},
	}
	source := onLink(t.from, t.to)
	if source != "" {
		cert.CriticalOptions = map[string]string{sourceAddress: source}
	}
	if err := vault.SignCertificate(context.Background(), t.sealer, ca, cert); err != nil {
		return nil, err
	}
	err = t.issue(events.CertificateIssued{
		Authority: ca.ID, Serial: cert.Serial, KeyID: cert.KeyId, Principal: t.started.Principal,
		Fingerprint: ssh.FingerprintSHA256(cert.Key), Before: now.Add(userCertLife).UTC(), Source: source,
		Extensions: slices.Sorted(maps.Keys(cert.Extensions)),
	})
	if err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, signer)
}

// extensions are what the certificate permits: what the grant's terms and the person's own way in allow, so that the
// target refuses the rest as well. X11 and the target's user rc are never asked for.
func (t *targetLogin) extensions() map[string]string {
	allowed := func(w events.Way) bool { return slices.Contains(t.started.Terms.Allow, w) }
	out := map[string]string{}
	if t.permits.pty {
		out["permit-pty"] = ""
	}
	if t.permits.forwarding && (allowed(events.Local) || allowed(events.Remote)) {
		out["permit-port-forwarding"] = ""
	}
	if t.permits.agent && allowed(events.Agent) {
		out["permit-agent-forwarding"] = ""
	}
	return out
}

// onLink gives our address if the target is in a network of ours, so that nothing between us translates it: then the
// certificate is good from there only. Otherwise "": what address the target sees is not known here.
func onLink(from, to net.Addr) string {
	ours, ok := from.(*net.TCPAddr)
	theirs, ok2 := to.(*net.TCPAddr)
	if !ok || !ok2 {
		return ""
	}
	us, them := ours.AddrPort().Addr().Unmap().WithZone(""), theirs.AddrPort().Addr().Unmap().WithZone("")
	networks, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, n := range networks {
		p, err := netip.ParsePrefix(n.String())
		if err == nil && p.Addr().Unmap() == us && p.Contains(them) || us.IsLoopback() && them.IsLoopback() {
			return us.String()
		}
	}
	return ""
}
