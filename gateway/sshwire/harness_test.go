package sshwire

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// full asks for every combination instead of a sample.
var full = os.Getenv("HOLDFAST_TEST_FULL") == "1"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newSigner(key any) ssh.Signer { return must(ssh.NewSignerFromKey(key)) }

// testKeys are made once: RSA keys take long.
var testKeys = sync.OnceValue(func() (k struct{ host, hostRSA, hostEC, user, userRSA, other ssh.Signer }) {
	ed := func() ssh.Signer { _, p, err := ed25519.GenerateKey(rand.Reader); return newSigner(must(p, err)) }
	k.host, k.user, k.other = ed(), ed(), ed()
	k.hostRSA = newSigner(must(rsa.GenerateKey(rand.Reader, 2048)))
	k.userRSA = newSigner(must(rsa.GenerateKey(rand.Reader, 2048)))
	k.hostEC = newSigner(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	return k
})

func sameKey(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }

var errUnknownKey = errors.New("unknown key")

// testServer lets the user's test keys in.
func testServer() *ServerConfig {
	k := testKeys()
	return &ServerConfig{
		HostKeys: []ssh.Signer{k.host, k.hostRSA, k.hostEC},
		Auth: ServerAuth{PublicKey: func(_ Meta, key ssh.PublicKey, _ bool) error {
			if sameKey(key, k.user.PublicKey()) || sameKey(key, k.userRSA.PublicKey()) {
				return nil
			}
			return errUnknownKey
		}},
	}
}

func testClient() *ClientConfig {
	k := testKeys()
	return &ClientConfig{
		User: "ann",
		Auth: []ClientAuth{PublicKeys(k.user)},
		HostKey: func(_ net.Addr, key ssh.PublicKey) error {
			for _, h := range []ssh.Signer{k.host, k.hostRSA, k.hostEC} {
				if sameKey(key, h.PublicKey()) {
					return nil
				}
			}
			return errUnknownKey
		},
	}
}

// tcpPair is a loopback TCP connection.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// login runs both roles over a connection.
func login(t testing.TB, cc, sc net.Conn, client *ClientConfig, server *ServerConfig) (c, s *Conn, cerr, serr error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, serr = Server(ctx, sc, server)
	}()
	c, cerr = Client(ctx, cc, client)
	<-done
	t.Cleanup(func() {
		if c != nil {
			c.Close()
		}
		if s != nil {
			s.Close()
		}
	})
	return c, s, cerr, serr
}

// pair is a logged-in connection.
func pair(t testing.TB, client *ClientConfig, server *ServerConfig) (c, s *Conn) {
	t.Helper()
	cc, sc := tcpPair(t)
	c, s, cerr, serr := login(t, cc, sc, client, server)
	if cerr != nil || serr != nil {
		t.Fatalf("client: %v; server: %v", cerr, serr)
	}
	return c, s
}

// outbox writes packets from a goroutine of its own, so that a reading goroutine never waits for a key exchange.
type outbox struct {
	conn   *Conn
	mu     sync.Mutex
	cond   *sync.Cond
	queue  [][]byte
	closed bool
}

func newOutbox(c *Conn) *outbox {
	o := &outbox{conn: c}
	o.cond = sync.NewCond(&o.mu)
	go o.run()
	return o
}

func (o *outbox) put(p []byte) {
	o.mu.Lock()
	o.queue = append(o.queue, p)
	o.mu.Unlock()
	o.cond.Signal()
}

func (o *outbox) run() {
	for {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.cond.Wait()
		}
		batch := o.queue
		o.queue = nil
		o.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, p := range batch {
			if o.conn.WritePacket(p) != nil {
				return
			}
		}
		if o.conn.Flush() != nil {
			return
		}
	}
}

// stop lets the goroutine end when its queue is empty or the connection over. It doesn't wait for that: a key
// exchange may be under way, and the caller no longer reads.
func (o *outbox) stop() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cond.Signal()
}

// echoChannel is one session channel of echoServer.
type echoChannel struct {
	peer   uint32
	window int64 // what we may still send
	most   int
	queue  []byte
	eof    bool
	ended  bool
}

// echoServer answers session channels on c: exec "cat" echoes stdin, exec "fail" exits with 3. It returns when the peer leaves.
func echoServer(c *Conn) error {
	out := newOutbox(c)
	defer out.stop()
	channels := map[uint32]*echoChannel{}
	for {
		p, err := c.ReadPacket()
		if err != nil {
			return err
		}
		if err := echoPacket(out, channels, p); err != nil {
			return err
		}
	}
}

func echoPacket(out *outbox, channels map[uint32]*echoChannel, p []byte) error {
	const window = 1 << 20
	switch p[0] {
	case MsgGlobalRequest:
		if m := must(ParseGlobalRequest(p)); m.WantReply {
			out.put(RequestFailure{}.Append(nil))
		}
	case MsgChannelOpen:
		m := must(ParseChannelOpen(p))
		id := uint32(len(channels))
		channels[id] = &echoChannel{peer: m.Sender, window: int64(m.Window), most: int(m.MaxPacket)}
		out.put(ChannelOpenConfirmation{m.Sender, id, window, 32768, nil}.Append(nil))
	case MsgChannelRequest:
		m := must(ParseChannelRequest(p))
		ch := channels[m.Recipient]
		if m.WantReply {
			out.put(ChannelSuccess{ch.peer}.Append(nil))
		}
		if m.Type == "exec" && must(ParseExecRequest(m.Payload)).Command == "fail" {
			ch.end(out, 3)
		}
	case MsgChannelData:
		m := must(ParseChannelData(p))
		ch := channels[m.Recipient]
		ch.queue = append(ch.queue, m.Data...)
		out.put(ChannelWindowAdjust{ch.peer, uint32(len(m.Data))}.Append(nil))
		ch.pump(out)
	case MsgChannelWindowAdjust:
		m := must(ParseChannelWindowAdjust(p))
		channels[m.Recipient].window += int64(m.Bytes)
		channels[m.Recipient].pump(out)
	case MsgChannelEOF:
		ch := channels[must(ParseChannelEOF(p)).Recipient]
		ch.eof = true
		ch.pump(out)
	case MsgChannelClose:
	default:
		return fmt.Errorf("unexpected message %d", p[0])
	}
	return nil
}

func (ch *echoChannel) pump(out *outbox) {
	for len(ch.queue) > 0 && ch.window > 0 {
		n := min(len(ch.queue), int(ch.window), ch.most, 32000)
		out.put(ChannelData{ch.peer, ch.queue[:n]}.Append(nil))
		ch.queue = ch.queue[n:]
		ch.window -= int64(n)
	}
	if ch.eof && len(ch.queue) == 0 {
		ch.end(out, 0)
	}
}

func (ch *echoChannel) end(out *outbox, status uint32) {
	if ch.ended {
		return
	}
	ch.ended = true
	out.put(ChannelEOF{ch.peer}.Append(nil))
	out.put(ChannelRequest{ch.peer, "exit-status", false, ExitStatus{status}.Append(nil)}.Append(nil))
	out.put(ChannelClose{ch.peer}.Append(nil))
}

// runExec is a small client of one session channel: it runs command with stdin and returns stdout.
func runExec(c *Conn, command string, stdin []byte) (stdout []byte, status uint32, err error) {
	out := newOutbox(c)
	defer out.stop()
	out.put(ChannelOpen{"session", 0, 1 << 21, 32768, nil}.Append(nil))
	ch := &echoChannel{most: 32000}
	for {
		p, err := c.ReadPacket()
		if err != nil {
			return stdout, status, err
		}
		switch p[0] {
		case MsgChannelOpenConfirmation:
			m := must(ParseChannelOpenConfirmation(p))
			ch.peer, ch.window, ch.most = m.Sender, int64(m.Window), int(m.MaxPacket)
			out.put(ChannelRequest{ch.peer, "exec", true, ExecRequest{command}.Append(nil)}.Append(nil))
		case MsgChannelSuccess:
			ch.queue, ch.ended = stdin, true // ended: pump must not close as a server would
			ch.send(out)
		case MsgChannelWindowAdjust:
			ch.window += int64(must(ParseChannelWindowAdjust(p)).Bytes)
			ch.send(out)
		case MsgChannelData:
			m := must(ParseChannelData(p))
			stdout = append(stdout, m.Data...)
			out.put(ChannelWindowAdjust{ch.peer, uint32(len(m.Data))}.Append(nil))
		case MsgChannelRequest:
			if m := must(ParseChannelRequest(p)); m.Type == "exit-status" {
				status = must(ParseExitStatus(m.Payload)).Code
			}
		case MsgChannelClose:
			return stdout, status, nil
		case MsgChannelOpenFailure, MsgChannelFailure:
			return nil, 0, fmt.Errorf("refused with message %d", p[0])
		}
	}
}

func (ch *echoChannel) send(out *outbox) {
	if !ch.ended {
		return // a window adjust before the command was accepted
	}
	ch.pump(out)
	if len(ch.queue) == 0 && !ch.eof {
		ch.eof = true
		out.put(ChannelEOF{ch.peer}.Append(nil))
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	must(io.ReadFull(rand.Reader, b))
	return b
}
