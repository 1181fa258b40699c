package mesh

import (
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// Input is something that happened.
type Input interface{ input() }

// Members says who the sites of the mesh are. Records of nobody else are taken
// in, and nobody else is spoken to.
type Members struct{ Sites []Member }

// Pairs says with which sites this one is a pair: what it writes counts as
// delivered once it is durable on both.
type Pairs struct{ Sites []events.SiteID }

// Opened says that the site holds a log. Own is set for the epochs that it
// writes to now: their growth is told by [Grew]. The others, its own earlier
// epochs included, grow by what peers have.
type Opened struct {
	Key  Key
	Own  bool
	Tree evidence.Tree // over what is durable and covered by Head
	Head []byte        // signed note that covers the tree; nil for own logs and empty ones
}

// Grew says that one of the site's own logs is durable up to a size.
type Grew struct {
	Origin events.Origin
	Size   uint64
	Root   events.Hash
}

// KnownFork gives the core a proof that it found in an earlier life. It comes
// after the log was opened.
type KnownFork struct{ Fork Fork }

// LinkUp says that a link to a site is there; who it is was proven by its key.
type LinkUp struct {
	Link LinkID
	Site events.SiteID
	Wall int64 // this site's wall clock, microseconds since 1970 UTC
}

// LinkDown says that a link is gone.
type LinkDown struct{ Link LinkID }

// Received is a message from a link; a nil one is of a newer level.
type Received struct {
	Link    LinkID
	Lane    Lane
	Message Message
}

// Stored answers a [Store].
type Stored struct {
	Origin events.Origin
	Err    error // nil: durable
}

// ReadDone answers a [Read].
type ReadDone struct {
	Link    LinkID
	Origin  events.Origin
	From    uint64         // records before the first entry
	Entries []events.Entry // at least one, unless Err is set
	Root    events.Hash    // own logs: over everything up to the last entry
	Head    []byte         // other logs: the note that covers exactly up to the last entry
	Err     error
}

// ProveDone answers a [MakeProof].
type ProveDone struct {
	Link   LinkID
	Origin events.Origin
	Mine   bool // as it was asked
	Branch Branch
	Err    error
}

// WantPayloads asks for payloads that this site holds only the headers of. They
// come as [GotPayload], each checked against its header by who asked.
type WantPayloads struct {
	ID     uint64 // not in use; answers carry it
	Origin events.Origin
	First  uint64
	Count  uint32
	Not    []events.SiteID // who is not to be asked
}

// PayloadRead answers a [ReadPayloads]: payloads in order, nil for absent ones.
type PayloadRead struct {
	Link     LinkID
	ID       uint64
	Origin   events.Origin
	First    uint64
	Payloads [][]byte
}

// SendWraps hands wrapped keys to a site, on the links that there are now.
type SendWraps struct {
	Site events.SiteID
	Wraps
}

// Reconsider says that Config.Payloads may give other answers than before.
type Reconsider struct{}

// SendKept tells a site that data keys of its are held here, if there is a link to it.
type SendKept struct {
	Site events.SiteID
	Kept Kept
}

// SendLease hands a question or an answer to a site, if there is a link to it.
type SendLease struct {
	Site  events.SiteID
	Lease Lease
}

// Tick says that time has passed.
type Tick struct{}

func (Members) input()      {}
func (Pairs) input()        {}
func (Opened) input()       {}
func (Grew) input()         {}
func (KnownFork) input()    {}
func (LinkUp) input()       {}
func (LinkDown) input()     {}
func (Received) input()     {}
func (Stored) input()       {}
func (ReadDone) input()     {}
func (ProveDone) input()    {}
func (WantPayloads) input() {}
func (PayloadRead) input()  {}
func (SendWraps) input()    {}
func (Reconsider) input()   {}
func (SendLease) input()    {}
func (SendKept) input()     {}
func (Tick) input()         {}

// Output is something to be done.
type Output interface{ output() }

// Send is a message for a link.
type Send struct {
	Link    LinkID
	Lane    Lane
	Message Message
}

// Store makes entries durable as one commit of a log at a size, together with
// the heads that cover them, and is answered by [Stored]. A log that is not
// there yet is made. At most one Store of a log is open at a time.
type Store struct {
	Origin  events.Origin
	Expect  uint64
	Entries []events.Entry
	Heads   [][]byte // the last one covers exactly up to the last entry
	Sizes   []uint64 // what each head covers
}

// NewLog says that a log is going to be stored whose key came from a peer. It
// comes before the first [Store] of it.
type NewLog struct{ Key Key }

// Read asks for records to push, and is answered by [ReadDone]: as many as fit
// into Bytes, at least one. Of a log that this site does not write, up to where
// a stored head ends.
type Read struct {
	Link     LinkID
	Origin   events.Origin
	From     uint64 // records before the first wanted
	To       uint64 // no record after this one
	Bytes    int
	Payloads bool
	Own      bool
}

// MakeProof asks for roots of a log at sizes (those that it reaches) with proofs
// against its head: the one stored, or for own logs one made over all of it.
type MakeProof struct {
	Link   LinkID
	Origin events.Origin
	Sizes  []uint64
	Mine   bool // for this site's own search, not for the peer
}

// Arrived says that a log written elsewhere is durable here up to a size.
type Arrived struct {
	Origin events.Origin
	Size   uint64
}

// Release says that one of the site's own logs may be acted on up to a size: it
// is durable here and, in a pair, there.
type Release struct {
	Origin events.Origin
	Size   uint64
}

// Degraded says that a sync peer was not heard in time; from now on nothing
// waits for it. From is what it had acknowledged.
type Degraded struct {
	Site events.SiteID
	From []Holding
}

// Restored says that a sync peer keeps up again and is waited for. From and To
// bound what was released without it.
type Restored struct {
	Site     events.SiteID
	From, To []Holding
}

// ForkFound says that a log was written twice, with the proof (rule R14).
type ForkFound struct{ Fork Fork }

// Behind says that others hold more of a log of this site than it does itself,
// by a head that its own key signed: its disk went back in time (rule R15). It
// must write nothing more in that epoch.
type Behind struct {
	Origin events.Origin
	Size   uint64 // what others hold
}

// Close ends a link, for a reason that is logged.
type Close struct {
	Link   LinkID
	Site   events.SiteID
	Reason string
}

// Refused tells of something that was not taken in, for the log.
type Refused struct {
	Link   LinkID // 0 when no peer is to blame
	Site   events.SiteID
	Origin events.Origin
	What   string
	Err    error
}

// ReadPayloads asks for payloads for a peer, answered by [PayloadRead].
type ReadPayloads struct {
	Link   LinkID
	ID     uint64
	Origin events.Origin
	First  uint64
	Count  uint32
}

// GotPayload answers a [WantPayloads] record by record. Failed ends it: nobody
// in reach has the rest.
type GotPayload struct {
	Site     events.SiteID // who gave it
	ID       uint64
	Origin   events.Origin
	Position uint64
	Payload  []byte
	Failed   bool
}

// GotWraps hands on wrapped keys that a member sent.
type GotWraps struct {
	Site events.SiteID
	Wraps
}

// GotKept tells that a member holds data keys that were sent to it.
type GotKept struct {
	Site events.SiteID
	Kept
}

// GotLease hands on what a member asked or answered.
type GotLease struct {
	Site  events.SiteID
	Lease Lease
}

// Met says that a link to a site is ready.
type Met struct{ Site events.SiteID }

func (Send) output()         {}
func (Store) output()        {}
func (NewLog) output()       {}
func (Read) output()         {}
func (MakeProof) output()    {}
func (Arrived) output()      {}
func (Release) output()      {}
func (Degraded) output()     {}
func (Restored) output()     {}
func (ForkFound) output()    {}
func (Behind) output()       {}
func (Close) output()        {}
func (Refused) output()      {}
func (ReadPayloads) output() {}
func (GotPayload) output()   {}
func (GotLease) output()     {}
func (GotKept) output()      {}
func (GotWraps) output()     {}
func (Met) output()          {}
