package relay

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
	// Refused notes that policy refused the packet given to Step. It comes with a Drop.
	Refused
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
	// Refuses is, for a Make, the number of the packet that it refuses, received in the other direction.
	Refuses uint64
	// What is the reason of a Drop, or for Refused "channel TYPE" or "request TYPE".
	What string
	// Detail of a Refused is the destination or the like: valid UTF-8, at most maxDetail bytes.
	Detail string
}

// Counts is what went through one direction so far.
type Counts struct {
	Received uint64 // packets given to Step
	Sent     uint64 // packets forwarded or made, travelling in this direction
	Bytes    uint64 // channel data (stdin, stdout, stderr, forwarded bytes) among the packets received
}
