package events

// SessionPacketAltered says that a received packet was passed on with bytes
// changed, in the rec log. What was received is in SessionPackets; the length
// never changes.
type SessionPacketAltered struct {
	Direction Direction `json:"direction"`
	Number    uint64    `json:"number"`
	Edits     []Edit    `json:"edits"` // in order
}

var _ = define[SessionPacketAltered]("session.packet_altered", 1)
