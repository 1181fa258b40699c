package site

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// scanTimeout bounds one connection of a scan.
const scanTimeout = 10 * time.Second

// scanned are the host key algorithms that a scan asks for, one connection each.
var scanned = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA256}

var errScanned = errors.New("the key is all that was wanted")

// ScanHostKeys asks an SSH server for its host keys, as ssh-keyscan does. It
// logs in nowhere. The keys are what whoever answers at addr says they are.
func ScanHostKeys(ctx context.Context, addr string) ([]ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	for _, algorithm := range scanned {
		key, err := scanHostKey(ctx, addr, algorithm)
		if err != nil {
			return nil, fmt.Errorf("scan host keys of %s: %w", addr, err)
		}
		if key != nil {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("scan host keys of %s: the server offers no host key of a kind that is supported; give it with --host-key", addr)
	}
	return keys, nil
}

// scanHostKey gives the server's key of one kind, nil when it has none.
func scanHostKey(ctx context.Context, addr, algorithm string) (ssh.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	var got ssh.PublicKey
	_, _, _, err = ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		HostKeyAlgorithms: []string{algorithm},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			got = key
			return errScanned
		},
	})
	var none *ssh.AlgorithmNegotiationError
	if got != nil || errors.As(err, &none) {
		return got, nil
	}
	return nil, err
}
