package relay

import (
	"encoding/binary"
	"slices"

	"github.com/holdfast-pam/holdfast/commands/destination"
)

// Policy says which ways a session may open besides the session channel. The zero value refuses them all. X11 and tun
// are never allowed.
type Policy struct {
	To     []destination.Rule // where connections of the target for the client may lead: ssh -L, -D, -W
	Listen []destination.Rule // what the target may listen on for the client: ssh -R
	Agent  bool               // the target may ask the client's agent: ssh -A
	NoPTY  bool               // no terminal: the certificate that the client logged in with does not permit one

	NoShell, NoExec, NoSFTP, NoSubsystem bool // what session channels may not be used for; subsystem is any but sftp
	NoUpload, NoDownload                 bool // where files may not go by SFTP, scp, rsync and git
}

func (p Policy) reaches(host string, port uint32) bool {
	return slices.ContainsFunc(p.To, func(r destination.Rule) bool { return r.Reaches(host, port) })
}

func (p Policy) reachesSocket(path string) bool {
	return slices.ContainsFunc(p.To, func(r destination.Rule) bool { return r.Names(path) })
}

func (p Policy) binds(l *listener) bool {
	return slices.ContainsFunc(p.Listen, func(r destination.Rule) bool {
		return l.socket && r.Names(l.host) || !l.socket && r.Binds(l.host, l.port)
	})
}

// The channel types that a session may hold beside "session".
const (
	directTCPIP       = "direct-tcpip"
	directSocket      = "direct-streamlocal@openssh.com"
	forwardedTCPIP    = "forwarded-tcpip"
	forwardedSocket   = "forwarded-streamlocal@openssh.com"
	agentChannel      = "auth-agent@openssh.com"
	sessionChannel    = "session"
	hostKeysAnnounced = "hostkeys-00@openssh.com" // the target's keys are not the gateway's: a client must not learn them
)

// allowsOpen decides on a channel that the packet at hand opens. Unknown types are refused, and so is what can't be
// read: the other side might read it in another way.
func (s *step) allowsOpen(kind string, to place) bool {
	if !to.readable {
		return false
	}
	if s.d == In {
		switch kind {
		case sessionChannel:
			return true
		case directTCPIP:
			return s.policy.reaches(to.host, to.port)
		case directSocket:
			return s.policy.reachesSocket(to.host)
		}
		return false
	}
	switch kind {
	case forwardedTCPIP, forwardedSocket:
		return s.listened(to)
	case agentChannel:
		return s.policy.Agent && s.agentAsked()
	}
	return false
}

// agentAsked reports whether a session channel that is still open asked for the agent.
func (s *step) agentAsked() bool {
	for _, c := range s.dir[In].byID {
		if c.agent && !c.closed[In] && !c.closed[Out] {
			return true
		}
	}
	return false
}

// allowsRequest decides on a channel request. Only those that open a way of their own are refused: what else a client
// asks of its own shell is the target's to judge.
func (s *step) allowsRequest(c *channel, kind string, payload []byte) bool {
	switch {
	case s.d == Out:
		return true
	case asksAgent(kind):
		return s.policy.Agent && c.forward == nil
	case kind == "shell":
		return !s.policy.NoShell
	case kind == "exec":
		return !s.policy.NoExec
	case kind == "subsystem":
		return s.policy.allowsSubsystem(payload)
	}
	return kind != "x11-req" && (kind != "pty-req" || !s.policy.NoPTY)
}

// allowsSubsystem decides on the payload of a request for a subsystem: its name (RFC 4254 section 6.5).
func (p Policy) allowsSubsystem(payload []byte) bool {
	if !p.NoSFTP && !p.NoSubsystem {
		return true
	}
	if len(payload) < 4 || uint64(binary.BigEndian.Uint32(payload)) != uint64(len(payload)-4) {
		return false // the target might read another name
	}
	if string(payload[4:]) == "sftp" {
		return !p.NoSFTP
	}
	return !p.NoSubsystem
}

func asksAgent(kind string) bool {
	return kind == "auth-agent-req@openssh.com" || kind == "auth-agent-req"
}
