package gateway

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// silence asks the kernel how long ago the peer last acknowledged anything, and whether it has shut its window: it takes
// no more data. Not ok: the kernel doesn't say.
func silence(c *net.TCPConn) (since time.Duration, shut, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false, false
	}
	var info *unix.TCPInfo
	controlled := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if controlled != nil || err != nil {
		return 0, false, false
	}
	return time.Duration(info.Last_ack_recv) * time.Millisecond, info.Snd_wnd == 0, true
}
