package mesh

import (
	"github.com/google/uuid"

	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Level is the version of the protocol that this code speaks. A peer of another
// level is welcome: messages and fields are only added, and who does not know
// one passes over it (rule R20).
const Level = 1

// Lane is one of the two connections of a link.
type Lane uint8

const (
	// CtlLane carries decisions and everything small. Nothing on it ever waits
	// for session bytes.
	CtlLane Lane = iota
	// RecLane carries records of rec logs.
	RecLane
)

// lanes is how many lanes a link has.
const lanes = 2

// laneOf is the lane that records of a log travel on.
func laneOf(o events.Origin) Lane {
	if o.Kind == events.Rec {
		return RecLane
	}
	return CtlLane
}

// Message is what one site tells another on a link. The types are below; their
// numbers and field keys are the wire format and never change.
type Message interface{ kind() uint8 }

// Hello is the first message on a link, in both directions.
type Hello struct {
	Level   uint32        `cbor:"1,keyasint"`
	Site    events.SiteID `cbor:"2,keyasint"`
	Wall    int64         `cbor:"3,keyasint"` // sender's wall clock, microseconds since 1970 UTC
	Windows [lanes]uint64 `cbor:"4,keyasint"` // bytes on each lane that may be under way without an acknowledgement
	Mesh    events.SiteID `cbor:"5,keyasint"` // the site that founded the mesh
}

// Key introduces a log: the key that signs its heads, vouched for by the
// identity key of its site.
type Key struct {
	Origin  events.Origin `cbor:"1,keyasint"`
	Key     string        `cbor:"2,keyasint"` // C2SP verifier key
	Voucher []byte        `cbor:"3,keyasint"` // signature by the site's identity, see [Vouch]
}

// Have tells how much the sender holds durably of some logs. It is a claim: it
// decides what is asked for, never what is believed.
type Have struct {
	Logs []Holding `cbor:"1,keyasint"`
}

// Holding is one log in a [Have].
type Holding struct {
	Origin events.Origin `cbor:"1,keyasint"`
	Size   uint64        `cbor:"2,keyasint"`
	Root   events.Hash   `cbor:"3,keyasint"`
}

// Subscribe asks the receiver to push a log from a size on, until told
// otherwise. Asking again starts over from the size given.
type Subscribe struct {
	Origin   events.Origin `cbor:"1,keyasint"`
	From     uint64        `cbor:"2,keyasint"`           // records that the sender has
	Payloads bool          `cbor:"3,keyasint"`           // false: headers are enough
	Stop     bool          `cbor:"4,keyasint"`           // do not push this log any more
	To       uint64        `cbor:"5,keyasint,omitempty"` // nothing beyond, where a head ends there; 0 for no bound
}

// Batch is records of one log with the signed head that covers exactly up to
// the last of them.
type Batch struct {
	Origin  events.Origin `cbor:"1,keyasint"`
	First   uint64        `cbor:"2,keyasint"` // position of the first record
	Records []WireRecord  `cbor:"3,keyasint"`
	Head    []byte        `cbor:"4,keyasint"` // signed note

	from LinkID // on which it came
}

// WireRecord is a record as stored, byte for byte.
type WireRecord struct {
	Header  []byte `cbor:"1,keyasint"`
	Payload []byte `cbor:"2,keyasint"`
	Absent  bool   `cbor:"3,keyasint,omitempty"` // the payload is not in this message
}

// Ack says that the sender holds a log durably up to a size, and so frees
// what was under way of it.
type Ack struct {
	Origin events.Origin `cbor:"1,keyasint"`
	Size   uint64        `cbor:"2,keyasint"`
}

// Prove asks for the roots of a log at some sizes, each with the proof that
// ties it to a signed head.
type Prove struct {
	Origin events.Origin `cbor:"1,keyasint"`
	Sizes  []uint64      `cbor:"2,keyasint"`
}

// Proof answers a [Prove] as far as the sender's log reaches.
type Proof struct {
	Origin events.Origin `cbor:"1,keyasint"`
	Branch Branch        `cbor:"2,keyasint"`
}

// Forked spreads a proof that a log was written twice (rule R14).
type Forked struct {
	Fork Fork `cbor:"1,keyasint"`
}

// Fetch asks for payloads that the sender holds only the headers of.
type Fetch struct {
	ID     uint64        `cbor:"1,keyasint"` // chosen by the sender, comes back in the answers
	Origin events.Origin `cbor:"2,keyasint"`
	First  uint64        `cbor:"3,keyasint"`
	Count  uint32        `cbor:"4,keyasint"`
}

// Payload answers a [Fetch], one message a record.
type Payload struct {
	ID       uint64        `cbor:"1,keyasint"`
	Origin   events.Origin `cbor:"2,keyasint"`
	Position uint64        `cbor:"3,keyasint"`
	Payload  []byte        `cbor:"4,keyasint"`
	Absent   bool          `cbor:"5,keyasint,omitempty"` // the sender does not hold it either
}

// Ping keeps a silent link known to be alive, and measures it.
type Ping struct {
	Wall int64         `cbor:"1,keyasint"`           // sender's wall clock, microseconds since 1970 UTC; the shell fills it in
	At   time.Duration `cbor:"2,keyasint,omitempty"` // on the sender's clock
	Echo time.Duration `cbor:"3,keyasint,omitempty"` // At of the last Ping that came on this link
	Held time.Duration `cbor:"4,keyasint,omitempty"` // how long ago that came
}

// Wraps carries data keys, wrapped to the public keys of the sites that may
// open them. What is in it is opaque here; the receiver's key table checks it.
type Wraps struct {
	Keys  [][]byte            `cbor:"1,keyasint"`
	After []events.ClockEntry `cbor:"2,keyasint,omitempty"` // what the receiver is to have applied before it takes them
	Want  [][]byte            `cbor:"3,keyasint,omitempty"` // without keys: ids of those that are asked for; all of them where there is none
}

// Kept says that its site holds data keys that were wrapped for it, durable.
type Kept struct {
	Keys []uuid.UUID `cbor:"1,keyasint"`
}

// Lease is a question of a site to its successor, or the answer to one (rule R13).
// The core hands it on as it is.
type Lease struct {
	Answer bool          `cbor:"1,keyasint,omitempty"`
	Run    uint64        `cbor:"2,keyasint"`           // of the process that asked
	At     time.Duration `cbor:"3,keyasint"`           // when it did, on its clock
	Log    events.Origin `cbor:"4,keyasint,omitempty"` // of an answer: that of its site
	Size   uint64        `cbor:"5,keyasint,omitempty"` // how long that was
}

func (Hello) kind() uint8     { return 1 }
func (Key) kind() uint8       { return 2 }
func (Have) kind() uint8      { return 3 }
func (Subscribe) kind() uint8 { return 4 }
func (Batch) kind() uint8     { return 5 }
func (Ack) kind() uint8       { return 6 }
func (Prove) kind() uint8     { return 7 }
func (Proof) kind() uint8     { return 8 }
func (Forked) kind() uint8    { return 9 }
func (Fetch) kind() uint8     { return 10 }
func (Payload) kind() uint8   { return 11 }
func (Ping) kind() uint8      { return 12 }
func (Wraps) kind() uint8     { return 13 }
func (Lease) kind() uint8     { return 14 }
func (Kept) kind() uint8      { return 15 }
