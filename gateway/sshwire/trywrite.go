package sshwire

import "golang.org/x/sys/unix"

// TryWrite is WritePacket of each packet and a Flush, if none of that has to wait: for a key exchange, for other writers or
// for the network. took false says that nothing was done; sent false after it, that the network didn't take all at once
// and a Flush has to follow. A connection that has ended takes nothing: the other two methods say why.
func (c *Conn) TryWrite(packets [][]byte) (took, sent bool) {
	if c.raw == nil || !c.writing.TryLock() {
		return false, false
	}
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.held || c.err != nil || c.out.pending != nil || c.out.worn(&c.cfg) || !c.fits(packets) {
		c.mu.Unlock()
		return false, false
	}
	for _, p := range packets {
		c.out.seal(p, 0)
	}
	out := c.out.pending
	c.out.pending = nil
	c.mu.Unlock()
	if out == nil {
		return true, true // no packets
	}
	n := c.writeNow(*out)
	c.bytesOut.Add(uint64(n))
	if n == len(*out) {
		recycle(out)
		return true, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := append((*out)[:0], (*out)[n:]...)
	if later := c.out.pending; later != nil { // sealed meanwhile by the goroutine that reads
		rest = append(rest, *later...)
		recycle(later)
	}
	*out = rest
	c.out.pending = out
	return true, false
}

// fits says that packets are what WritePacket takes, and few enough to be written in one go.
func (c *Conn) fits(packets [][]byte) bool {
	all := 0
	for _, p := range packets {
		if checkPacket(p, c.cfg.MaxPacket) != nil {
			return false
		}
		all += len(p)
	}
	return all < outputLimit/4
}

// writeNow writes what the network takes at once. A failure is left for the Flush that follows to find.
func (c *Conn) writeNow(b []byte) (n int) {
	_ = c.raw.Write(func(fd uintptr) bool {
		if m, err := unix.Write(int(fd), b); err == nil {
			n = m
		}
		return true // never wait
	})
	return n
}
