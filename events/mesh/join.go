package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// JoinRequest is what a newcomer sends to the member that invited it, on a
// connection on which both have proven their keys.
type JoinRequest struct {
	Invitation events.InvitationID `cbor:"1,keyasint"`
	Secret     []byte              `cbor:"2,keyasint"`
	Site       events.SiteID       `cbor:"3,keyasint"`
	Name       string              `cbor:"4,keyasint"`
	Addr       string              `cbor:"5,keyasint"` // of its mesh port; empty when it can't be dialled
	SealingKey []byte              `cbor:"6,keyasint"`
	HostKey    string              `cbor:"7,keyasint"`
	Holds      []Holding           `cbor:"8,keyasint"` // its ctl logs: what it decided before it joined

	Identity []byte `cbor:"-"` // the key that it has proven
	Source   string `cbor:"-"` // where it came from
}

// JoinAnswer admits a newcomer, or says why not.
type JoinAnswer struct {
	Refused string        `cbor:"1,keyasint,omitempty"`
	Mesh    events.SiteID `cbor:"2,keyasint"`
	Members []WirePeer    `cbor:"3,keyasint"`
	Before  []Holding     `cbor:"4,keyasint,omitempty"` // what counts as decided before it joined, as its admission says
}

// WirePeer is a member in a [JoinAnswer].
type WirePeer struct {
	Site     events.SiteID `cbor:"1,keyasint"`
	Identity []byte        `cbor:"2,keyasint"`
	Addr     string        `cbor:"3,keyasint"`
	Name     string        `cbor:"4,keyasint"`
}

// JoinHandler decides on a newcomer. The error is told to it.
type JoinHandler func(ctx context.Context, r JoinRequest) (JoinAnswer, error)

// maxJoin bounds both messages of a join.
const maxJoin = 256 << 10

func (n *Node) answerJoin(ctx context.Context, conn *tls.Conn, key ed25519.PublicKey) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	var r JoinRequest
	if err := readJoin(conn, &r); err != nil {
		return err
	}
	r.Identity, r.Source = key, conn.RemoteAddr().String()
	refused := errors.New("this site takes no newcomers")
	var answer JoinAnswer
	if _, ok := n.joins.take(sourceOf(conn.RemoteAddr())); !ok {
		refused = errors.New("too many attempts to join from your address; wait a minute and try again")
	} else if n.cfg.Join != nil {
		answer, refused = n.cfg.Join(ctx, r)
	}
	if refused != nil {
		answer = JoinAnswer{Refused: refused.Error()}
	}
	return errors.Join(refused, writeJoin(conn, answer))
}

// AskToJoin redeems an invitation at a member whose key is known from it. The
// identity is the one that the newcomer will have in the mesh.
func AskToJoin(ctx context.Context, addr string, member ed25519.PublicKey, identity ed25519.PrivateKey, r JoinRequest) (JoinAnswer, error) {
	var answer JoinAnswer
	cert, err := certificate(identity, r.Site)
	if err != nil {
		return answer, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: clientTLS(cert, joinProtocol, member)}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return answer, fmt.Errorf("reach the member at %s: %w", addr, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return answer, err
	}
	if err := writeJoin(conn, r); err != nil {
		return answer, fmt.Errorf("ask %s to join: %w", addr, err)
	}
	if err := readJoin(conn, &answer); err != nil {
		return answer, fmt.Errorf("answer of %s: %w", addr, err)
	}
	if answer.Refused != "" {
		return answer, fmt.Errorf("the member at %s refused: %s", addr, printable(answer.Refused))
	}
	return answer, nil
}

// printable bounds what a stranger may make us show.
func printable(s string) string {
	if len(s) > 300 {
		s = s[:300]
	}
	return fmt.Sprintf("%q", s)
}

func writeJoin(w io.Writer, v any) error {
	b, err := wireEnc.Marshal(v)
	if err != nil {
		return err
	}
	return WriteFrame(w, b)
}

func readJoin(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := int(head[0])<<24 | int(head[1])<<16 | int(head[2])<<8 | int(head[3])
	if n > maxJoin {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrBadMessage, n, maxJoin)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if err := wireDec.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrBadMessage, err)
	}
	return nil
}
