package sshwire

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// outputLimit is how much sealed output may wait before WritePacket writes it out by itself. What the reading
// goroutine adds on its own (key exchange, UNIMPLEMENTED) may fill up four times that before the connection is given up.
const outputLimit = 256 << 10

// A Conn is an authenticated SSH connection below its channels. One goroutine reads (ReadPacket, ReadReady); any
// number write. ReadPacket must be called for a key exchange to finish, so the goroutine that reads must never
// wait in WritePacket: see DESIGN.md, "Rekey".
type Conn struct {
	conn   net.Conn
	raw    syscall.RawConn // of conn; nil where there is none
	cfg    Config
	server bool

	in  receiver
	kex kexState // with in, and belongs to the same goroutine

	clientVersion, serverVersion string
	user                         string

	writing  sync.Mutex // held while writing to conn; taken before mu
	mu       sync.Mutex // guards what follows
	cond     *sync.Cond // held or err changed
	out      sender
	held     bool        // our KEXINIT is out, our NEWKEYS not: only key exchange messages may be sent
	busy     bool        // a key exchange is under way in either direction
	err      error       // why the connection is over
	inits    int         // KEXINITs that we have sent
	offered  []byte      // the last of them, during its exchange
	owed     bool        // the reading goroutine has sealed something that is to be flushed
	flushing bool        // a goroutine of background is at it
	timeout  *time.Timer // of the key exchange under way
	regular  *time.Timer // Config.RekeyInterval

	notifying sync.Mutex // held while calling Config.OnRekey; guards notified
	notified  bool

	background sync.WaitGroup // the flushing that the reading goroutine must not wait for

	stashed       []byte // packet that ReadReady has opened
	stashedErr    error
	authenticated atomic.Bool
	bytesOut      atomic.Uint64
	kexFrom       atomic.Uint64 // bytes read when our KEXINIT went out; 0 outside a key exchange
}

func newConn(c net.Conn, cfg Config, server bool) *Conn {
	conn := &Conn{conn: c, cfg: cfg, server: server}
	if s, ok := c.(syscall.Conn); ok {
		conn.raw, _ = s.SyscallConn() // without it TryWrite takes nothing
	}
	conn.cond = sync.NewCond(&conn.mu)
	conn.in = receiver{src: c, beforeRead: quickAck(c), size: smallBuffer, maxPayload: preAuthMaxPayload}
	conn.in.poll(conn.raw)
	conn.in.use(plain{})
	conn.out.use(plain{})
	return conn
}

// ReadPacket returns the next connection-layer packet (message numbers 80 to 127), valid until the next call of
// ReadPacket. Transport messages are dealt with inside. The peer's DISCONNECT comes as *DisconnectError, a
// breach of protocol as *ProtocolError, the end of the stream as io.EOF; after any error the connection is over.
func (c *Conn) ReadPacket() ([]byte, error) {
	if p, err := c.stashed, c.stashedErr; p != nil || err != nil {
		c.stashed = nil
		return p, err
	}
	p, err := c.read()
	if err != nil {
		return nil, c.end(err)
	}
	return p, nil
}

// ReadReady says that ReadPacket will return at once, with a packet or an error. It belongs to the goroutine of
// ReadPacket and leaves the packet last returned valid.
func (c *Conn) ReadReady() bool {
	for c.stashed == nil && c.stashedErr == nil {
		p, err := c.in.take()
		if p == nil && err == nil {
			return false
		}
		deliver := false
		if err == nil {
			deliver, err = c.dispatch(p)
		}
		if err != nil {
			c.stashedErr = c.end(err)
		} else if deliver {
			c.stashed = p
		}
	}
	return true
}

// end makes err the connection's end: it tells the peer of a breach of protocol, closes, and wakes writers.
func (c *Conn) end(err error) error {
	defer c.notify()
	if prior := c.failure(); prior != nil {
		return prior // closed under the reader's feet, or by a writer
	}
	if breach := (*ProtocolError)(nil); errors.As(err, &breach) {
		c.sendDisconnect(breach.Reason, breach.Error())
	}
	_ = c.fail(err) // telling the peer may have failed before; what it did counts
	c.conn.Close()
	return err
}

// WritePacket seals a connection-layer packet into the output buffer; Flush sends it. It waits while a key exchange is
// under way, and for the network when 256 KiB are buffered. p is not kept.
func (c *Conn) WritePacket(p []byte) error {
	if err := checkPacket(p, c.cfg.MaxPacket); err != nil {
		return err
	}
	c.mu.Lock()
	for c.held && c.err == nil {
		c.cond.Wait()
	}
	if err := c.err; err != nil {
		c.mu.Unlock()
		return err
	}
	c.out.seal(p, 0)
	var rekey error
	started := false
	if c.out.worn(&c.cfg) {
		started, rekey = c.startKex()
	}
	full := c.out.buffered() >= outputLimit
	c.mu.Unlock()
	if started {
		c.kexChanged()
	}
	if rekey != nil {
		return rekey
	}
	if full {
		return c.Flush()
	}
	return nil
}

func checkPacket(p []byte, most int) error {
	if len(p) == 0 || p[0] < MsgConnectionFirst || p[0] > MsgConnectionLast {
		return errors.New("WritePacket takes SSH messages 80 to 127 only")
	}
	if len(p) > most {
		return fmt.Errorf("SSH packet of %d bytes; at most %d may be sent", len(p), most)
	}
	return nil
}

// Flush hands all buffered output to the net.Conn in one write.
func (c *Conn) Flush() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	out := c.out.pending
	c.out.pending = nil
	err := c.err
	c.mu.Unlock()
	if out == nil {
		return err
	}
	n, werr := c.conn.Write(*out)
	c.bytesOut.Add(uint64(n))
	recycle(out)
	if werr != nil {
		return c.fail(fmt.Errorf("write to %s: %w", c.conn.RemoteAddr(), werr))
	}
	return nil
}

// Rekey asks for a new key exchange now. It doesn't wait for its end; while one is under way it does nothing.
func (c *Conn) Rekey() error {
	c.mu.Lock()
	if err := c.err; err != nil {
		c.mu.Unlock()
		return err
	}
	started, err := c.startKex()
	c.mu.Unlock()
	if started {
		c.kexChanged()
	}
	return err
}

// kexChanged follows every change of held by an established connection: it tells the owner and gets key exchange
// messages on their way. The write has a goroutine of its own, since the caller may be the one that reads: were both
// ends to wait for their writes, neither would read. There is one at a time, however much a peer makes us answer.
func (c *Conn) kexChanged() {
	c.mu.Lock()
	c.owed = true
	if c.err == nil && !c.flushing { // with an error, Close may be waiting for the last of them
		c.flushing = true
		c.background.Go(c.flushOwed)
	}
	c.mu.Unlock()
	c.notify()
}

// flushOwed flushes as long as more is owed.
func (c *Conn) flushOwed() {
	for {
		c.mu.Lock()
		c.flushing = c.owed && c.err == nil
		c.owed = false
		more := c.flushing
		c.mu.Unlock()
		if !more {
			return
		}
		_ = c.Flush() // a failure is kept in c.err
	}
}

// notify tells the owner whether writers wait, if that has changed.
func (c *Conn) notify() {
	if c.cfg.OnRekey == nil {
		return
	}
	c.notifying.Lock()
	defer c.notifying.Unlock()
	c.mu.Lock()
	held := c.held && c.err == nil
	c.mu.Unlock()
	if held != c.notified {
		c.notified = held
		c.cfg.OnRekey(held)
	}
}

// fail ends the connection for writers; the first cause stays. It returns the cause.
func (c *Conn) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		for _, t := range []*time.Timer{c.timeout, c.regular} {
			if t != nil {
				t.Stop()
			}
		}
		c.cond.Broadcast()
	}
	return c.err
}

func (c *Conn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// sendDisconnect seals and writes a DISCONNECT with what is buffered, waiting at most disconnectWait for the network.
func (c *Conn) sendDisconnect(reason uint32, text string) {
	if c.conn.SetWriteDeadline(time.Now().Add(disconnectWait)) != nil { // it also frees a writer that is stuck
		defer time.AfterFunc(disconnectWait, func() { c.conn.Close() }).Stop()
	}
	c.mu.Lock()
	if c.err == nil {
		p := appendUint32([]byte{MsgDisconnect}, reason)
		c.out.seal(appendString(appendString(p, clip(text)), ""), 0)
	}
	c.mu.Unlock()
	_ = c.Flush() // best effort: the connection is over either way
}

// Disconnect tells the peer why the connection ends and closes it. It is best effort and takes at most four
// seconds: two to write, two for the peer to hang up, since closing over unread input could destroy the message on its way.
func (c *Conn) Disconnect(reason uint32, text string) error {
	c.sendDisconnect(reason, text)
	already := c.failure()
	_ = c.fail(net.ErrClosed)
	if already == nil {
		c.linger()
	}
	return c.Close()
}

// linger ends our side of the stream and drops what still comes in, until the peer has hung up.
func (c *Conn) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(disconnectWait))
	for drop := make([]byte, 4096); ; {
		if _, err := c.conn.Read(drop); err != nil {
			return
		}
	}
}

// Close ends the connection without a word and frees what it holds. It may be called more than once.
func (c *Conn) Close() error {
	_ = c.fail(net.ErrClosed)
	err := c.conn.Close()
	c.background.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// SessionID is the exchange hash of the first key exchange: RFC 4253 section 7.2. The caller must not change it.
func (c *Conn) SessionID() []byte { return c.kex.sessionID }

// User is the name that was authenticated.
func (c *Conn) User() string { return c.user }

// ClientVersion is the client's identification string without its line end.
func (c *Conn) ClientVersion() []byte { return []byte(c.clientVersion) }

// ServerVersion is the server's identification string without its line end.
func (c *Conn) ServerVersion() []byte { return []byte(c.serverVersion) }

// Algorithms names what the last key exchange agreed on. It belongs to the goroutine of ReadPacket.
func (c *Conn) Algorithms() Algorithms { return c.kex.algorithms }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// LocalAddr is our address.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// BytesIn is how many bytes were read from the network.
func (c *Conn) BytesIn() uint64 { return c.in.total.Load() }

// BytesOut is how many bytes were written to the network.
func (c *Conn) BytesOut() uint64 { return c.bytesOut.Load() }
