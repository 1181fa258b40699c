package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Conn is the packet connection below the channels, such as a *sshwire.Conn. One goroutine reads, another one writes.
type Conn interface {
	// ReadPacket returns a packet that is valid until the next call.
	ReadPacket() ([]byte, error)
	// WritePacket may buffer until Flush. It doesn't keep the packet.
	WritePacket([]byte) error
	Flush() error
	// Close makes the other methods return.
	Close() error
}

// Limits bounds what a client may make us hold. Zero fields take the defaults.
type Limits struct {
	Channels int  // sessions open at once; default 16
	Streams  int  // streams open at once; default 64
	NoPTY    bool // nobody gets a terminal
	Env      int  // bytes of names and values per channel; default 16 KiB. Over that a variable is refused
}

const (
	window       = 256 << 10 // bytes of standard input that wait for the handler, per session
	streamWindow = 1 << 20   // received bytes that wait for a stream's reader
	maxPacket    = 32 << 10  // data bytes per packet, both ways
	outputRoom   = 256 << 10 // queued output at which writers wait
	outputMax    = 1 << 20   // queued output, replies included, at which a client that doesn't read is given up
)

// ErrProtocol is wrapped by every error about a client that broke RFC 4254.
var ErrProtocol = errors.New("protocol error")

// errGone is what writes to a channel return when nobody reads it any more.
var errGone = fmt.Errorf("channel is closed: %w", io.ErrClosedPipe)

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// Handler serves one channel whose client asked for a shell or a command, and returns its exit status. It must return
// soon after ctx is done, which is when the client closed the channel or the connection ended.
type Handler func(ctx context.Context, s *Session) (exit uint32)

// Handlers serve the channels of a connection. A nil one refuses its kind of channel.
type Handlers struct {
	Session Handler
	Stream  StreamHandler
}

// Serve runs the connection until it ends or ctx is done, closes it, and returns after every handler has. It returns
// nil when the client hung up between packets.
func Serve(ctx context.Context, conn Conn, limits Limits, handlers Handlers) error {
	if limits.Channels <= 0 {
		limits.Channels = 16
	}
	if limits.Streams <= 0 {
		limits.Streams = 64
	}
	if limits.Env <= 0 {
		limits.Env = 16 << 10
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &mux{conn: conn, limits: limits, handlers: handlers, ctx: ctx, channels: map[uint32]*channel{}}
	m.cond = sync.NewCond(&m.mu)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	m.work.Go(m.write)
	err := m.read()
	m.end(err)
	cancel()
	m.work.Wait()
	stop()
	conn.Close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// mux is one connection.
type mux struct {
	conn     Conn
	limits   Limits
	handlers Handlers
	ctx      context.Context
	work     sync.WaitGroup // the writer and the handlers

	mu       sync.Mutex // guards what follows and every channel
	cond     *sync.Cond // anything below changed
	channels map[uint32]*channel
	streams  int      // of the channels
	pending  [][]byte // output that the writer has not taken
	queued   int      // its bytes
	err      error    // why the connection is over
}

// end makes err the connection's end and wakes everybody.
func (m *mux) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
	for _, c := range m.channels {
		c.shut()
	}
	m.cond.Broadcast()
}

// send queues a packet; m.mu is held. The reader never waits here, so a client that makes us answer without reading
// the answers is given up.
func (m *mux) send(packet []byte) error {
	if m.queued += len(packet); m.queued > outputMax {
		return violation("client doesn't read its answers")
	}
	m.pending = append(m.pending, packet)
	m.cond.Broadcast()
	return nil
}

// write is the goroutine that owns the sending side of the connection.
func (m *mux) write() {
	for {
		m.mu.Lock()
		for len(m.pending) == 0 && m.err == nil {
			m.cond.Wait()
		}
		batch, over := m.pending, m.err != nil
		m.pending = nil
		m.mu.Unlock()
		if over {
			return
		}
		if err := m.deliver(batch); err != nil {
			m.end(err)
			m.conn.Close()
			return
		}
	}
}

func (m *mux) deliver(batch [][]byte) error {
	n := 0
	for _, p := range batch {
		if err := m.conn.WritePacket(p); err != nil {
			return err
		}
		n += len(p)
	}
	err := m.conn.Flush()
	m.mu.Lock()
	m.queued -= n
	m.cond.Broadcast()
	m.mu.Unlock()
	return err
}

// read takes packets until the connection ends.
func (m *mux) read() error {
	for {
		p, err := m.conn.ReadPacket()
		if err == nil {
			err = m.take(p)
		}
		if err != nil {
			return err
		}
	}
}

// take deals with one packet.
func (m *mux) take(p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if len(p) == 0 {
		return violation("empty packet")
	}
	switch p[0] {
	case sshwire.MsgGlobalRequest:
		return m.global(p)
	case sshwire.MsgChannelOpen:
		return m.open(p)
	case sshwire.MsgChannelWindowAdjust:
		return m.adjust(p)
	case sshwire.MsgChannelData, sshwire.MsgChannelExtendedData:
		return m.data(p)
	case sshwire.MsgChannelEOF:
		return m.eof(p)
	case sshwire.MsgChannelClose:
		return m.close(p)
	case sshwire.MsgChannelRequest:
		return m.request(p)
	case sshwire.MsgRequestSuccess, sshwire.MsgRequestFailure, sshwire.MsgChannelSuccess, sshwire.MsgChannelFailure,
		sshwire.MsgChannelOpenConfirmation, sshwire.MsgChannelOpenFailure:
		return violation("message %d answers nothing that was asked", p[0])
	}
	return nil // unknown messages of the layer mean nothing here
}

// global answers every global request with a failure, which is what keepalives want.
func (m *mux) global(p []byte) error {
	r, err := sshwire.ParseGlobalRequest(p)
	if err != nil || !r.WantReply {
		return malformed(err)
	}
	return m.send(sshwire.RequestFailure{}.Append(nil))
}

func (m *mux) open(p []byte) error {
	o, err := sshwire.ParseChannelOpen(p)
	if err != nil {
		return malformed(err)
	}
	refuse := func(reason uint32, text string) error {
		return m.send(sshwire.ChannelOpenFailure{Recipient: o.Sender, Reason: reason, Text: text}.Append(nil))
	}
	switch {
	case o.MaxPacket == 0 && (o.Type == "session" || o.Type == "direct-tcpip"):
		return violation("channel that takes no data")
	case o.Type == "session" && m.handlers.Session != nil:
		if len(m.channels)-m.streams >= m.limits.Channels {
			return refuse(sshwire.OpenResourceShortage, "too many channels")
		}
		s := newSession(m, o)
		m.channels[s.id] = &s.channel
		return m.send(sshwire.ChannelOpenConfirmation{Recipient: o.Sender, Sender: s.id, Window: window, MaxPacket: maxPacket}.Append(nil))
	case o.Type == "direct-tcpip" && m.handlers.Stream != nil:
		to, err := sshwire.ParseDirectTCPIP(o.Payload)
		if err != nil {
			return malformed(err)
		}
		if m.streams >= m.limits.Streams {
			return refuse(sshwire.OpenResourceShortage, "too many channels")
		}
		m.openStream(o, to)
		return nil
	}
	return refuse(sshwire.OpenAdministrativelyProhibited, "channels of this type are not served here")
}

// freeID is the lowest channel number not in use.
func (m *mux) freeID() uint32 {
	for id := uint32(0); ; id++ {
		if m.channels[id] == nil {
			return id
		}
	}
}

func (m *mux) find(id uint32) (*channel, error) {
	if c := m.channels[id]; c != nil && !c.pending {
		return c, nil
	}
	return nil, violation("message for channel %d, which is not open", id)
}

// forget frees the channel's number.
func (m *mux) forget(c *channel) {
	delete(m.channels, c.id)
	if c.session == nil {
		m.streams--
	}
}

func malformed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}
