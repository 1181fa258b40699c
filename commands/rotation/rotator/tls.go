package rotator

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
)

// tlsConfig is how a target must prove itself, nil for a connection in the clear.
func tlsConfig(j Job) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(j.Addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", j.Addr, err)
	}
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	switch mode := j.Params[targetkind.TLS]; mode {
	case targetkind.TLSDisable:
		return nil, nil
	case targetkind.TLSRequire:
		c.InsecureSkipVerify = true // what the administrator asked for
	case targetkind.TLSVerify:
		if ca := j.Params[targetkind.CA]; ca != "" {
			c.RootCAs = x509.NewCertPool()
			if !c.RootCAs.AppendCertsFromPEM([]byte(ca)) {
				return nil, errors.New("parameter ca holds no certificate that can be read")
			}
		}
	default:
		return nil, fmt.Errorf("parameter tls is %q", mode)
	}
	return c, nil
}

// verified reports whether the target has proven its name, so that it may see a
// password in the clear.
func verified(j Job) bool { return j.Params[targetkind.TLS] == targetkind.TLSVerify }

// explained is the error of a connection that could not be made safe, with what
// an administrator can do about it.
func explained(err error) error {
	if _, why, ok := strings.Cut(err.Error(), "x509: "); ok { // not all libraries keep the error's class
		return fmt.Errorf("the target proves no name that is trusted here (its authority goes into --param %s=-; --param %s=%s believes anybody): %s",
			targetkind.CA, targetkind.TLS, targetkind.TLSRequire, why)
	}
	return err
}

// noTLS is the error of a target that speaks no TLS.
func noTLS(err error) error {
	return fmt.Errorf("the target speaks no TLS (--param %s=%s goes without): %w", targetkind.TLS, targetkind.TLSDisable, err)
}

// shownTo notes that what makes something of a secret was written to a target.
type shownTo struct {
	io.Writer
	is  func(message []byte) bool
	yes *atomic.Bool
}

func (s shownTo) Write(p []byte) (int, error) {
	if len(p) > 0 && s.is(p) {
		s.yes.Store(true)
	}
	return s.Writer.Write(p)
}
