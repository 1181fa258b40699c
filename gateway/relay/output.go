package relay

import "github.com/holdfast-pam/holdfast/events"

// Direction is one of the two packet sequences of a session.
type Direction uint8

const (
	// In runs from the client to the target.
	In Direction = 0
	// Out runs from the target to the client.
	Out Direction = 1
)

// Other is the opposite direction.
func (d Direction) Other() Direction { return d ^ 1 }

// String is "in" or "out", as events name it.
func (d Direction) String() string {
	if d == In {
		return "in"
	}
	return "out"
}

// Kind is what an [Output] tells the relay's owner to do.
type Kind uint8

const (
	// Forward sends the packet given to Step on, in its own direction.
	Forward Kind = iota
	// Drop keeps the packet given to Step back.
	Drop
	// Make sends a packet of the gateway's own.
	Make
	// Refused notes that policy refused the packet given to Step, or a part of it. It comes with a Drop or an Altered.
	Refused
	// Altered notes that the packet given to Step is passed on with bytes changed. It comes before its Forward, whose
	// Packet is fresh.
	Altered
	// Opened notes that the packet given to Step opens a channel of a forwarding. It comes before its Forward.
	Opened
	// Closed notes that with the packet given to Step such a channel is closed, or was not opened.
	Closed
)

// Output is one thing to do. The outputs of all steps, in order, are the session.
type Output struct {
	Kind Kind
	// Direction that a Forward or Make travels in; of the packet given to Step otherwise.
	Direction Direction
	// Number of a Forward or Make among the packets sent in Direction; of the packet given to Step among those
	// received otherwise. Both count from 0.
	Number uint64
	// Packet of a Forward is the slice given to Step; of a Make it is fresh.
	Packet []byte
	// Refuses is, for a Make, the number of the packet that it refuses, received in the other direction; in its own if
	// Instead.
	Refuses uint64
	Instead bool
	// Edits of an Altered.
	Edits []events.Edit
	// What is the reason of a Drop, or for Refused "channel TYPE" or "request TYPE".
	What string
	// Detail of a Refused is the destination or the like: valid UTF-8, at most maxDetail bytes.
	Detail string
	// Channel of an Opened or Closed.
	Channel *Channel
}

// Channel is a channel of a forwarding, as an [Output] or the session's end tells of it. Its texts are valid UTF-8 of
// at most maxDetail bytes.
type Channel struct {
	Serial    uint64    // counts these channels from 0
	Direction Direction // that its CHANNEL_OPEN travelled in
	Type      string
	To        string    // host:port or path that it leads to; of a forwarded one the listener
	Origin    string    // host:port that it comes from, as its opener says
	Bytes     [2]uint64 // data received so far, by direction
	Failure   string    // of Closed: why the other side did not take it
}

// Counts is what went through one direction so far.
type Counts struct {
	Received uint64 // packets given to Step
	Sent     uint64 // packets forwarded or made, travelling in this direction
	Bytes    uint64 // channel data (stdin, stdout, stderr, forwarded bytes) among the packets received
}
