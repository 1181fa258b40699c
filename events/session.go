package events

import "github.com/google/uuid"

// SessionStarted records that a user was let through to an account. It is
// durable before the target is dialled and before any secret is opened.
type SessionStarted struct {
	User        UserID       `json:"user"`
	Account     AccountID    `json:"account"`
	Target      TargetID     `json:"target"`
	Credential  CredentialID `json:"credential"`
	Secret      SecretID     `json:"secret"`               // version that is presented
	Grant       GrantID      `json:"grant"`                // what allowed it
	Source      string       `json:"source"`               // client's address
	Client      string       `json:"client"`               // client's SSH version line, bounded
	Fingerprint string       `json:"fingerprint"`          // of the key that the user proved
	Login       string       `json:"login,omitempty"`      // SSH user name as sent; of a jump, that of the outer login
	Jump        string       `json:"jump,omitempty"`       // host that the client jumped to; empty without a jump
	Certificate Certificate  `json:"certificate,omitzero"` // by which the key was the user's; zero for a key on record
	Factor      Factor       `json:"factor,omitzero"`      // how the login proved a second factor; zero for none

	Request    RequestID   `json:"request,omitzero"`      // what allowed it instead of a grant
	Reason     string      `json:"reason,omitempty"`      // of the request
	Ticket     string      `json:"ticket,omitempty"`      // of the request
	Approvals  []uuid.UUID `json:"approvals,omitempty"`   // events that approved the request
	BreakGlass bool        `json:"break_glass,omitempty"` // the glass was broken for it
}

var _ = define[SessionStarted]("session.started", 1)

// SessionConnected records that the target accepted the login.
type SessionConnected struct {
	Server      string `json:"server"`   // target's SSH version line, bounded
	HostKey     string `json:"host_key"` // fingerprint proven by the target
	Cipher      string `json:"cipher"`   // towards the target
	KeyExchange string `json:"kex"`

	Secret SecretID `json:"secret,omitzero"` // version that it accepted; zero for that of session.started
}

var _ = define[SessionConnected]("session.connected", 1)

// SessionRefused records that the relay refused a packet of a running session:
// a channel open or a request that its grant does not allow.
type SessionRefused struct {
	Direction Direction `json:"direction"`        // of the refused packet
	Number    uint64    `json:"number"`           // its packet number
	What      string    `json:"what"`             // "channel direct-tcpip", "request tcpip-forward"
	Detail    string    `json:"detail,omitempty"` // destination or the like, bounded
}

var _ = define[SessionRefused]("session.refused", 1)

// SessionChannelOpened records that the relay passed on the open of a channel
// other than a session: a connection of a forwarding, or one to the agent. It
// is durable before the open is passed on; whether the other side took it,
// SessionChannelClosed tells.
type SessionChannelOpened struct {
	Channel   uint64    `json:"channel"`          // counts the channels of this kind in the session, from 0
	Direction Direction `json:"direction"`        // of the open: In is asked for by the client
	Type      string    `json:"type"`             // "direct-tcpip", "forwarded-tcpip", ...
	To        string    `json:"to,omitempty"`     // host:port or path that it leads to; for a forwarded one, the listener
	Origin    string    `json:"origin,omitempty"` // host:port that it comes from, as the opener says
	Number    uint64    `json:"number"`           // packet number of the open
	At        uint64    `json:"at"`               // microseconds since session start
}

var _ = define[SessionChannelOpened]("session.channel_opened", 1)

// SessionChannelClosed records the end of such a channel, with what went over
// it.
type SessionChannelClosed struct {
	Channel  uint64 `json:"channel"`
	Type     string `json:"type"`
	To       string `json:"to,omitempty"`
	In       uint64 `json:"in"`                // bytes of data from the client
	Out      uint64 `json:"out"`               // bytes of data from the target
	Duration uint64 `json:"duration"`          // microseconds since SessionChannelOpened
	Failure  string `json:"failure,omitempty"` // why the other side did not take it; "" if it did
}

var _ = define[SessionChannelClosed]("session.channel_closed", 1)

// ForwardTotals sums up the channels of a session other than sessions,
// including those beyond the number that make events of their own.
type ForwardTotals struct {
	Channels uint64 `json:"channels"`
	In       uint64 `json:"in"`  // bytes of data from the client
	Out      uint64 `json:"out"` // bytes of data from the target
}

// SessionKillRequested asks for the end of a running session.
type SessionKillRequested struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[SessionKillRequested]("session.kill_requested", 1)

// EndReason says why a session ended.
type EndReason string

const (
	// EndedByClient and EndedByTarget: that side closed the connection.
	EndedByClient EndReason = "client closed"
	EndedByTarget EndReason = "target closed"
	// EndedByKill: somebody asked for it.
	EndedByKill EndReason = "killed"
	// EndedByPolicy: the right to it ended (user disabled, grant removed or expired, its idle or maximum time reached).
	EndedByPolicy EndReason = "access ended"
	// EndedByTargetLogin: the target was not reached, proved another host key or refused the login.
	EndedByTargetLogin EndReason = "target login failed"
	// EndedByStorage: the log could not take its bytes.
	EndedByStorage EndReason = "recording failed"
	// EndedByProtocol: a side broke the SSH protocol.
	EndedByProtocol EndReason = "protocol error"
	// EndedByShutdown: the site stopped.
	EndedByShutdown EndReason = "site stopped"
	// EndedByCrash: the site was lost with the session open; written by the next start.
	EndedByCrash EndReason = "site lost"
)

// Cursors count one direction of a session: what the gateway received, what
// was durable, what it handed to the other side. Delivered <= Committed <=
// Received. After a crash Delivered is not known and 0.
type Cursors struct {
	Received  uint64 `json:"received"`  // packets
	Committed uint64 `json:"committed"` // packets
	Delivered uint64 `json:"delivered"` // packets
	Bytes     uint64 `json:"bytes"`     // channel data bytes in the committed packets
}

// SessionEnded closes a session.
type SessionEnded struct {
	Reason   EndReason `json:"reason"`
	Detail   string    `json:"detail,omitempty"`
	In       Cursors   `json:"in"`
	Out      Cursors   `json:"out"`
	Complete bool      `json:"complete"` // every packet that could have been delivered is in the recording

	Forwards ForwardTotals `json:"forwards,omitzero"`
	Files    FileTotals    `json:"files,omitzero"`
}

var _ = define[SessionEnded]("session.ended", 1)

// SessionRead records that somebody read a recording.
type SessionRead struct {
	How string `json:"how"` // "play", "export raw", ...
}

var _ = define[SessionRead]("session.read", 1)

// SessionPackets holds consecutive packets of one direction, in the rec log.
// The block (see [AppendPacket]) is sealed under the session's data key.
type SessionPackets struct {
	Direction Direction `json:"direction"`
	First     uint64    `json:"first"` // number of the first packet
	Count     uint64    `json:"count"` // packets
	At        uint64    `json:"at"`    // microseconds since session start at the first packet
	Sealed    []byte    `json:"sealed"`
}

var _ = define[SessionPackets]("session.packets", 1)

// SessionPacketMade holds a packet that the gateway itself makes towards one
// side, in the rec log; durable before it is sent.
type SessionPacketMade struct {
	Direction Direction `json:"direction"` // that it travels in: In is towards the target
	Output    uint64    `json:"output"`    // its number among the packets sent in that direction
	At        uint64    `json:"at"`        // microseconds since session start
	Packet    []byte    `json:"packet"`
	Refuses   uint64    `json:"refuses"`           // number of the refused packet, of the other direction
	Instead   bool      `json:"instead,omitempty"` // the refused packet is of this direction
}

var _ = define[SessionPacketMade]("session.packet_made", 1)

// SessionPacketDropped says that a received packet was not passed on, in the
// rec log.
type SessionPacketDropped struct {
	Direction Direction `json:"direction"`
	Number    uint64    `json:"number"`
	Why       string    `json:"why"`
}

var _ = define[SessionPacketDropped]("session.packet_dropped", 1)
