package gateway

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/mux"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

const (
	// refusedJumps is how many refused jumps of one connection get an event each.
	refusedJumps = 64
	// jumpEnd is how long the sessions that jumped may take to end before the connection below them is cut.
	jumpEnd = endTime + 200*time.Millisecond
)

// jumper serves the jumps of one console connection: `ssh -J gw account@target` opens a direct-tcpip channel to the
// target's name, and gets an SSH server of ours on it. Who asks was settled by the outer login.
type jumper struct {
	server *Server
	outer  *login

	mu      sync.Mutex
	changed *sync.Cond
	running int // jumps under way
	refused int
	hurry   bool
}

func newJumper(s *Server, outer *login) *jumper {
	j := &jumper{server: s, outer: outer}
	j.changed = sync.NewCond(&j.mu)
	return j
}

// settle waits until the jumps under way have ended, or jumpEnd has passed: whoever ends the connection below them ends
// their sessions as well, and each is to be told why.
func (j *jumper) settle() {
	late := time.AfterFunc(jumpEnd, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.hurry = true
		j.changed.Broadcast()
	})
	defer late.Stop()
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.running > 0 && !j.hurry {
		j.changed.Wait()
	}
}

func (j *jumper) count(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running += n
	j.changed.Broadcast()
}

// serve takes one direct-tcpip channel from its wish to its end.
func (j *jumper) serve(ctx context.Context, st *mux.Stream) {
	j.count(+1)
	defer j.count(-1)
	target, no := j.server.jumpTarget(j.outer.identity, st.Host, st.Port)
	if no != nil {
		j.refuse(ctx, st, no)
		return
	}
	hostKeys, err := j.server.hostCertificate(target, j.server.cfg.Now())
	if err != nil {
		j.server.log.Error("a jump was refused", "error", err)
		_ = st.Refuse(sshwire.OpenConnectFailed, "the gateway can't vouch for "+target+" now") // an error ends the connection
		return
	}
	if st.Accept() == nil { // else the connection is over
		j.inner(ctx, st, target, hostKeys)
	}
}

// noJump is why a direct-tcpip channel is refused: reason and detail for the log, a text for the person.
type noJump struct {
	reason       events.DenyReason
	detail, text string
}

// jumpTarget finds the target that a host name stands for, among those that the user has any grant for, expired ones
// too: what is wrong with a grant is told later; and among those with an account that they may ask for. All others
// read the same as names that are none.
//
// The port must be 22, which is what `ssh -J` asks for unless told otherwise, or the target's own. Any other one is a
// forwarding that somebody wants to the target, who must not be given a login there in its place.
func (s *Server) jumpTarget(who *identity, host string, port uint32) (string, *noJump) {
	name, addr, known := s.reachable(who.user, host)
	if !known {
		name, addr, known = s.askable(who, host)
	}
	at := plain(net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10)))
	switch {
	case !known:
		return "", &noJump{s.unreachable(host), at, "no grant for " + plain(host) + "; this gateway leads to targets of yours and nowhere else"}
	case !portFits(addr, port):
		return "", &noJump{events.NotAllowedVerb, at, "ports of " + name + " are not forwarded here; jump to it without naming a port"}
	}
	return name, nil
}

// reachable finds the target that is called host among those that the user has a grant or a request for, and its address. OpenSSH
// sends host names in lower case, so case decides only where targets differ in nothing else; then the exact one is meant.
func (s *Server) reachable(user events.UserID, host string) (name, addr string, ok bool) {
	now := s.cfg.Now()
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		for _, a := range state.AccountsOf(user, now) {
			t, known := state.Target(a.Target)
			if !a.Removed && known && !t.Removed && strings.EqualFold(t.Name, host) && (name == "" || t.Name == host) {
				name, addr, ok = t.Name, t.Addr, true
			}
		}
	})
	return name, addr, ok
}

// askable is reachable for the targets with an account that the user may ask for, or break the glass for.
func (s *Server) askable(who *identity, host string) (name, addr string, ok bool) {
	log, now := s.cfg.Dispatcher.Log(), s.cfg.Now()
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		for _, a := range state.Accounts() {
			t, known := state.Target(a.Target)
			if a.Removed || !known || t.Removed || !strings.EqualFold(t.Name, host) || ok && t.Name != host {
				continue
			}
			if _, may := commands.WishOf(state, who.user, a.Name, t.Name, who.factor, log, now); may {
				name, addr, ok = t.Name, t.Addr, true
			}
		}
	})
	return name, addr, ok
}

// unreachable is the reason for the log: whether the name is a target's at all.
func (s *Server) unreachable(host string) (reason events.DenyReason) {
	reason = events.NoGrant
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		if _, err := state.TargetByName(host); err == aggregate.ErrUnknown {
			reason = events.UnknownTarget
		}
	})
	return reason
}

// portFits reports whether a port that a client names beside a target means its SSH server.
func portFits(addr string, port uint32) bool {
	_, own, err := net.SplitHostPort(addr)
	return port == 22 || err == nil && own == strconv.FormatUint(uint64(port), 10)
}

// refuse answers a wish that leads nowhere, with an event each up to a bound: a browser behind `ssh -D` makes thousands.
func (j *jumper) refuse(ctx context.Context, st *mux.Stream, no *noJump) {
	j.mu.Lock()
	j.refused++
	n := j.refused
	j.mu.Unlock()
	if n <= refusedJumps {
		detail := "jump to " + no.detail
		if n == refusedJumps {
			detail += "; further ones of this connection are not recorded"
		}
		j.outer.deny(ctx, st.RemoteAddr(), commands.DenyAccess{Reason: no.reason, Detail: detail})
	}
	_ = st.Refuse(sshwire.OpenAdministrativelyProhibited, "holdfast: "+no.text) // an error ends the connection
}

// inner is the SSH server at the end of a jump. Its session is one like any other.
func (j *jumper) inner(ctx context.Context, st *mux.Stream, target string, hostKeys []ssh.Signer) {
	s := j.server
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	grace := time.AfterFunc(s.cfg.Limits.LoginGrace, func() { cancel(nil) })
	defer grace.Stop()
	l := &login{
		server: s, client: &rekeyGate{}, grace: func() { grace.Stop() },
		name: j.outer.name, claimed: j.outer.identity, jump: st.Host, jumpTo: target,
	}
	defer s.letStay(l, cancel)()
	cfg := &sshwire.ServerConfig{Config: s.cfg.SSH, HostKeys: hostKeys, Auth: l.innerAuth(ctx), MaxAuthTries: 20, FitOffer: true}
	cfg.OnRekey = l.client.onRekey
	conn, err := sshwire.Server(ctx, st, cfg)
	if err != nil {
		s.log.Debug("a jump ended before its login did", "source", st.RemoteAddr().String(), "target", target, "error", err)
		if l.identity == nil && !l.wished.Account.IsZero() {
			l.unfinished(ctx, st.RemoteAddr())
		}
		if l.opened != nil {
			s.abandon(l.opened, nil)
		}
		return
	}
	s.relay(l.opened, newLeg(conn, l.client, nil))
}

// innerAuth is the sshwire.ServerAuth at the end of a jump. The outer login has settled who it is, so nothing is to be
// proven again; a client that shows a key anyway must not show somebody else's. Who lacks a grant for the account and may
// ask for one is asked here.
func (l *login) innerAuth(ctx context.Context) sshwire.ServerAuth {
	return sshwire.ServerAuth{
		None: func(m sshwire.Meta) error { return l.further(ctx, m) },
		PublicKey: func(m sshwire.Meta, key ssh.PublicKey, proven bool) error {
			who, no := l.server.whose(key, m.RemoteAddr())
			switch {
			case no != nil || who.user != l.claimed.user:
				return errNotLetIn
			case !proven:
				return nil
			}
			return l.further(ctx, m)
		},
		Accept: l.acceptJump,
	}
}

// acceptJump opens the way to the target of the jump: the inner user name is the account.
func (l *login) acceptJump(ctx context.Context, m sshwire.Meta) error {
	l.grace()
	if strings.ContainsAny(m.User(), routeMarks) {
		l.deny(ctx, m.RemoteAddr(), commands.DenyAccess{Reason: events.UnknownAccount, Detail: "jump to " + l.jump + ": the SSH user name is no account"})
		return text("after a jump the user name is the account and nothing else, for example root@" + l.jumpTo)
	}
	var err error
	l.opened, err = l.server.open(ctx, l, m, route{account: m.User(), target: l.jumpTo})
	return err
}
