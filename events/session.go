package events

// SessionStarted records that a user was let through to an account. It is
// durable before the target is dialled and before any secret is opened.
type SessionStarted struct {
	User        UserID       `json:"user"`
	Account     AccountID    `json:"account"`
	Target      TargetID     `json:"target"`
	Credential  CredentialID `json:"credential"`
	Secret      SecretID     `json:"secret"`      // version that is presented
	Grant       GrantID      `json:"grant"`       // what allowed it
	Source      string       `json:"source"`      // client's address
	Client      string       `json:"client"`      // client's SSH version line, bounded
	Fingerprint string       `json:"fingerprint"` // of the key that the user proved
}

var _ = define[SessionStarted]("session.started", 1)

// SessionConnected records that the target accepted the login.
type SessionConnected struct {
	Server      string `json:"server"`   // target's SSH version line, bounded
	HostKey     string `json:"host_key"` // fingerprint proven by the target
	Cipher      string `json:"cipher"`   // towards the target
	KeyExchange string `json:"kex"`
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
	// EndedByPolicy: the right to it ended (user disabled, grant removed or expired).
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
	Refuses   uint64    `json:"refuses"` // number of the refused packet, of the other direction
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
