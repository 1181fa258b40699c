package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// HeldLog is how much a member holds of a log: proven by a head that the log's own
// key signed, and the voucher of its site for that key.
type HeldLog struct {
	Key  Key    `cbor:"1,keyasint"`
	Head []byte `cbor:"2,keyasint"`
}

// maxHeld bounds the logs in an answer, so that it fits into a frame of a join.
const maxHeld = 200

// Held tells what is held of a site's logs, the newest epochs.
func (c *Core) Held(site events.SiteID) []HeldLog {
	var all []HeldLog
	for _, lg := range slices.Backward(c.inOrder) { // by epoch
		if lg.origin.Site == site && !lg.own && len(lg.head) > 0 && len(all) < maxHeld {
			all = append(all, HeldLog{lg.key, lg.head})
		}
	}
	return all
}

// answerHeld tells a member that is about to start what is held of its logs.
func (n *Node) answerHeld(ctx context.Context, conn *tls.Conn, site events.SiteID) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	answer := make(chan []HeldLog, 1)
	select {
	case n.calls <- func() { answer <- n.core.Held(site) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	return writeJoin(conn, <-answer)
}

// AskHeld asks a member at an address what it holds of the logs of the site that asks. What the
// member can't prove is left out.
func AskHeld(ctx context.Context, peer Member, addr string, identity ed25519.PrivateKey, self events.SiteID) ([]evidence.Head, error) {
	cert, err := certificate(identity, self)
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: clientTLS(cert, heldProtocol, peer.Identity)}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("reach site %s at %s: %w", peer.Site, addr, err)
	}
	defer conn.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil, errors.New("asking a member takes a deadline")
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	var held []HeldLog
	if err := readJoin(conn, &held); err != nil {
		return nil, fmt.Errorf("answer of site %s: %w", peer.Site, err)
	}
	var heads []evidence.Head
	public := identity.Public().(ed25519.PublicKey)
	for _, h := range held {
		if h.Key.Origin.Site != self || CheckVoucher(public, h.Key) != nil || len(heads) == maxHeld {
			continue
		}
		head, err := evidence.OpenHead(bytes.Clone(h.Head), h.Key.Key)
		if err == nil && head.Origin == h.Key.Origin {
			heads = append(heads, head)
		}
	}
	return heads, nil
}
