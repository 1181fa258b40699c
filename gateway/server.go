package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Config is what a [Server] works with. All fields without a default are needed.
type Config struct {
	Site       events.SiteID
	Dispatcher *commands.Dispatcher
	Rec        *store.Writer // of the rec log
	RecLog     store.Log     // the same log, asked for its space
	// Release calls then once what the rec log holds up to a position may be delivered, at once or later from another
	// goroutine; nil where it may as soon as it is durable.
	Release  func(position uint64, then func())
	KeysHeld func() // returns once a second site holds the data keys made so far, where one is waited for; nil for no wait
	Sealer   *seal.Sealer
	Keeper   *lockout.Keeper // of the site's logins; nil for one of the server's own
	HostKeys []ssh.Signer
	CA       func() ssh.Signer // gives what certifies the first host key now for the names of targets that people jump to
	Console  Console
	Log      *slog.Logger     // nil is slog.Default
	Now      func() time.Time // nil is time.Now
	Limits   Limits
	SSH      sshwire.Config // for both legs; OnRekey is the server's own
	// Dial reaches targets; nil is the standard library's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Server is the SSH gateway of a site. Make it with [New].
type Server struct {
	cfg   Config
	log   *slog.Logger
	actor events.Actor
	door  *door
	waits waits
	lives lives

	ctx    context.Context // ends with Shutdown, for connections that are not let in yet
	cancel context.CancelFunc
	work   sync.WaitGroup // connections, and who watches over them

	watching sync.Once    // watchPeers has begun
	kept     atomic.Int64 // bytes of packets that wait in memory for the readers of files

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	down      bool
	tooMany   time.Time     // when a refusal for too many connections was last recorded
	turning   chan struct{} // one for each connection that is being told why it finds no place
}

// New makes a server. Nothing runs until [Server.Serve].
func New(cfg Config) (*Server, error) {
	if cfg.Dispatcher == nil || cfg.Rec == nil || cfg.RecLog == nil || cfg.Sealer == nil || cfg.Console == nil || cfg.CA == nil || len(cfg.HostKeys) == 0 {
		return nil, errors.New("new gateway: it needs a dispatcher, the rec log and its writer, a sealer, host keys, a certificate authority and a console")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Keeper == nil {
		cfg.Keeper = lockout.New(cfg.Site, cfg.Dispatcher, cfg.Now)
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Log, actor: events.SiteActor(cfg.Site), door: newDoor(cfg.Limits, cfg.Now),
		listeners: map[net.Listener]struct{}{}, turning: make(chan struct{}, 32),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections until [Server.Shutdown], and then returns nil. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	if !s.listen(l) {
		l.Close()
		return nil
	}
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		l.Close()
	}()
	for pause := time.Millisecond; ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = time.Millisecond
			s.take(c)
		case s.isDown():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of descriptors, or a client that left: the listener goes on
			s.log.Warn("a connection could not be accepted", "error", err)
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
		}
	}
}

// listen takes l in, unless the server is going down: no work begins once it waits for what there is.
func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return false
	}
	s.listeners[l] = struct{}{}
	s.watching.Do(func() { s.work.Go(func() { s.watchPeers(s.ctx) }) })
	return true
}

func (s *Server) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// take starts to serve a connection, if there is room for one more that nobody has answered for.
func (s *Server) take(c net.Conn) {
	from := c.RemoteAddr()
	ctx, cancel := context.WithCancelCause(s.ctx)
	leave, refused := s.door.enter(from, func() {
		cancel(&sshwire.DisconnectError{Reason: sshwire.ReasonTooManyConnections, Text: crowded})
		s.refuseMany(from)
	})
	if refused != "" {
		cancel(nil)
		s.refuseMany(from)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down:
		cancel(nil)
		c.Close()
	case refused != "":
		s.turnAway(c, refused)
	default:
		s.work.Go(func() {
			defer leave()
			s.serve(ctx, cancel, c, leave)
		})
	}
}

// turnAway tells why there is no place, as long as few are being told: nobody may hold up the listener by it. It is
// called with mu held.
func (s *Server) turnAway(c net.Conn, why string) {
	select {
	case s.turning <- struct{}{}:
		s.work.Go(func() {
			sshwire.TurnAway(c, s.cfg.SSH.Version, sshwire.ReasonTooManyConnections, "holdfast: "+why)
			<-s.turning
		})
	default:
		c.Close()
	}
}

// refuseMany records that connections were refused, once a minute: the log must not grow with an attack.
func (s *Server) refuseMany(from net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	if s.down || now.Sub(s.tooMany) < time.Minute {
		return
	}
	s.tooMany = now
	s.work.Go(func() {
		l := &login{server: s}
		l.deny(s.ctx, from, commands.DenyAccess{Reason: events.TooMany, Detail: "connections without a login; recorded once a minute"})
	})
}

// serve is the goroutine of one connection.
func (s *Server) serve(ctx context.Context, cancel context.CancelCauseFunc, c net.Conn, leave func()) {
	s.cfg.Limits.keepAlive(c)
	defer cancel(nil)
	grace := time.AfterFunc(s.cfg.Limits.LoginGrace, func() { cancel(nil) })
	defer grace.Stop()
	l := &login{server: s, client: &rekeyGate{}, grace: func() { grace.Stop(); leave() }}
	defer s.letStay(l, cancel)()
	cfg := &sshwire.ServerConfig{Config: s.cfg.SSH, HostKeys: s.cfg.HostKeys, Auth: l.auth(ctx), MaxAuthTries: 20, FitOffer: true}
	cfg.OnRekey = l.client.onRekey
	conn, err := sshwire.Server(ctx, c, cfg)
	switch {
	case err != nil:
		s.log.Debug("a connection ended before its login did", "source", c.RemoteAddr().String(), "error", err)
		l.failed(ctx, c.RemoteAddr())
		if l.opened != nil {
			s.abandon(l.opened, nil)
		}
	case l.wantConsole:
		s.console(context.WithoutCancel(ctx), conn, c, l)
	default:
		s.relay(l.opened, newLeg(conn, l.client, c))
	}
}

// letStay lets a login give its user more time once a key was proven. done is to be called when the connection has ended.
func (s *Server) letStay(l *login, cancel context.CancelCauseFunc) (done func()) {
	end := func(text string) {
		cancel(&sshwire.DisconnectError{Reason: sshwire.ReasonByApplication, Text: "holdfast: " + text})
	}
	strangers, over := l.grace, func() {}
	l.stay = func(user events.UserID, most time.Duration, late string) {
		strangers()
		over()
		leave := s.waits.enter(user, func() { end(crowdedUser) })
		timer := time.AfterFunc(most, func() { end(late) })
		over = func() { timer.Stop(); leave() }
	}
	l.grace = func() { strangers(); over() }
	return func() { over() }
}

// Shutdown stops accepting, tells everybody, and waits until every connection has ended or ctx has. Sessions end with
// what was received of them recorded.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.down = true
	for l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	for _, e := range s.lives.list() {
		go e.stop(shutdown)
	}
	s.cancel()
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
