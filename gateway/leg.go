package gateway

import (
	"net"
	"sync"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// packetConn is what a session needs of a connection; *sshwire.Conn is one.
type packetConn interface {
	ReadPacket() ([]byte, error) // valid until the next call
	ReadReady() bool             // ReadPacket won't wait
	WritePacket([]byte) error
	Flush() error
	TryWrite(packets [][]byte) (took, sent bool) // WritePacket and Flush, if that needs no waiting
	Disconnect(reason uint32, text string) error
	Close() error
}

var _ packetConn = (*sshwire.Conn)(nil)

// leg is one side of a session.
type leg struct {
	packetConn
	rekey *rekeyGate
	tcp   *net.TCPConn // below it; nil where that is a jump's channel
}

// newLeg makes a leg of an SSH connection over nc.
func newLeg(c packetConn, rekey *rekeyGate, nc net.Conn) *leg {
	tcp, _ := nc.(*net.TCPConn)
	return &leg{c, rekey, tcp}
}

// rekeyGate tells whether writers of a connection wait for a key exchange. While they do, its reader must read on,
// even when what it reads can't be delivered: the exchange needs it. It is made before the connection is, since
// sshwire.Config.OnRekey is set by then.
type rekeyGate struct {
	mu   sync.Mutex
	held bool
	wake func() // the session's, once there is one
}

// onRekey is the sshwire.Config.OnRekey of the leg.
func (g *rekeyGate) onRekey(held bool) {
	g.mu.Lock()
	g.held = held
	wake := g.wake
	g.mu.Unlock()
	if wake != nil {
		wake()
	}
}

func (g *rekeyGate) attach(wake func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wake = wake
}

func (g *rekeyGate) isHeld() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}
