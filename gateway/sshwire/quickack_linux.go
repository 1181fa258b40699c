package sshwire

import (
	"net"

	"golang.org/x/sys/unix"
)

// quickReads is how many reads of a starting session are acknowledged at once.
const quickReads = 200

// quickAck gives what to call before each read: it sets TCP_QUICKACK, which Linux clears by itself, while the
// session is starting. Without it, delayed acknowledgements make a login's small round trips wait.
func quickAck(c net.Conn) func() {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	left := quickReads
	set := func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // a hint: failing costs only time
	}
	return func() {
		if left > 0 {
			left--
			_ = raw.Control(set)
		}
	}
}
