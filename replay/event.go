package replay

import (
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Kind says what an [Event] is.
type Kind string

// The kinds of events. All but Gap stand for one packet.
const (
	KindOpen        Kind = "open"           // a channel is asked for
	KindOpened      Kind = "opened"         // and confirmed
	KindRefused     Kind = "refused"        // or not
	KindRequest     Kind = "request"        // on a channel
	KindReply       Kind = "reply"          // to a request on a channel
	KindData        Kind = "data"           // bytes of a stream
	KindWindow      Kind = "window"         // WINDOW_ADJUST
	KindEOF         Kind = "eof"            // the sender sends no more data
	KindClose       Kind = "close"          // the sender closed its side
	KindGlobal      Kind = "global request" // not on a channel
	KindGlobalReply Kind = "global reply"
	KindStray       Kind = "stray"     // for a channel that is not there, or not in the state for it
	KindUnknown     Kind = "unknown"   // a message number that RFC 4254 doesn't define
	KindMalformed   Kind = "malformed" // not laid out as RFC 4254 says
	KindGap         Kind = "gap"       // packets that the recording lacks
)

// Event is one thing that happened on the connection layer.
type Event struct {
	Kind      Kind
	At        time.Duration // since session start, to the microsecond
	Direction events.Direction
	Number    uint64 // of the packet; see [Item]
	Made      bool   // by the gateway
	Dropped   bool   // by the gateway: it never reached the other side, and changes nothing
	Altered   bool   // by the gateway: it reached the other side with bytes changed; Packet is as received
	Packet    []byte // the whole packet

	Channel *Channel // nil if the event is not about one, or about one that is not known

	Stream Stream // of KindData
	Data   []byte // of KindData

	Request string // type, of requests and their replies; "" for a reply to none that is known
	OK      bool   // of replies: success
	Payload []byte // of requests: what follows the type

	Cols, Rows uint32 // of the requests pty-req and window-change
	Term       string // of pty-req
	Status     uint32 // of exit-status
	Signal     string // of exit-signal and signal
	Command    string // of exec and subsystem

	Missing uint64 // packets, of KindGap
	Detail  string // why it was refused, dropped, or is malformed
}
