package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Kind names one of the two logs of a site.
type Kind string

const (
	// Ctl is the log of decisions.
	Ctl Kind = "ctl"
	// Rec is the log of session bytes.
	Rec Kind = "rec"
)

// Valid reports whether k is a kind that this version writes.
func (k Kind) Valid() bool { return k == Ctl || k == Rec }

// Origin is the identity of a log. Any doubt about the disk opens a new epoch,
// so a position within an origin is never used twice.
type Origin struct {
	Site  SiteID `json:"site"`
	Epoch uint32 `json:"epoch"` // from 1
	Kind  Kind   `json:"kind"`
}

// String gives "site/epoch/kind", the form used in file paths and messages.
func (o Origin) String() string { return fmt.Sprintf("%s/%d/%s", o.Site, o.Epoch, o.Kind) }

// Compare orders origins by site, epoch and kind.
func (o Origin) Compare(p Origin) int {
	if c := bytes.Compare(o.Site.UUID[:], p.Site.UUID[:]); c != 0 {
		return c
	}
	if o.Epoch != p.Epoch {
		if o.Epoch < p.Epoch {
			return -1
		}
		return 1
	}
	return bytes.Compare([]byte(o.Kind), []byte(p.Kind))
}

// Actor says who caused an event: a user, the site itself, or somebody not
// known (ID is then zero). Only opaque ids: a header outlives every erasure.
type Actor struct {
	Kind ActorKind `json:"kind"`
	ID   uuid.UUID `json:"id"`
}

// ActorKind is the sort of an [Actor].
type ActorKind string

const (
	// ByUser is a person or automation with an identity of its own.
	ByUser ActorKind = "user"
	// BySite is the site acting by itself.
	BySite ActorKind = "site"
	// ByUnknown is a client that has not proven who it is.
	ByUnknown ActorKind = "unknown"
)

// UserActor is the actor for a user.
func UserActor(id UserID) Actor { return Actor{Kind: ByUser, ID: id.UUID} }

// SiteActor is the actor for a site.
func SiteActor(id SiteID) Actor { return Actor{Kind: BySite, ID: id.UUID} }

// UnknownActor is the actor for a client without a proven identity.
func UnknownActor() Actor { return Actor{Kind: ByUnknown} }

// Hash is a SHA-256 hash: 32 bytes where stored, hex where shown.
type Hash [sha256.Size]byte

// String gives the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText gives the hash in hex, for JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is the reverse.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err == nil && len(b) != len(h) {
		err = fmt.Errorf("%d bytes", len(b))
	}
	if err != nil {
		return fmt.Errorf("not a SHA-256 hash in hex: %w", err)
	}
	*h = Hash(b)
	return nil
}

// HeaderVersion is the version of [Header] that this code writes and reads.
const HeaderVersion = 1

// MaxHeaderSize bounds an encoded header, so that it fits a C2SP tlog-tiles
// entry bundle (16-bit length).
const MaxHeaderSize = 65535

// MaxPayloadSize bounds a payload. Session bytes are cut into much smaller
// records; the bound is what a reader may be asked to allocate.
const MaxPayloadSize = 4 << 20

// Header is what a record says of itself. Its encoded bytes are the leaf of
// the log's Merkle tree, so everything here is proven even when the payload is
// absent. A header version is closed: decoding refuses unknown fields and any
// encoding other than the canonical one.
type Header struct {
	V           uint8     `json:"v"`               // HeaderVersion
	ID          uuid.UUID `json:"id"`              // UUIDv7, made when the command was decided
	Site        SiteID    `json:"site"`            // with Epoch and Kind: the origin
	Epoch       uint32    `json:"epoch"`           //
	Kind        Kind      `json:"kind"`            //
	Position    uint64    `json:"pos"`             // from 1, gap-free within the origin
	Type        string    `json:"type"`            // stored name of the event type
	TypeVersion uint16    `json:"ver"`             // version of the event type
	Stream      uuid.UUID `json:"stream"`          // the aggregate
	Actor       Actor     `json:"actor"`           //
	Command     string    `json:"cmd,omitempty"`   // the command that decided it
	Parent      uuid.UUID `json:"parent,omitzero"` // the event that caused it
	HLC         HLC       `json:"hlc"`             // hybrid logical clock
	Wall        int64     `json:"wall"`            // site's wall clock, microseconds since 1970 UTC
	Clock       []byte    `json:"clock,omitempty"` // ctl only: delta against the log's previous record, see ClockWriter
	PayloadHash Hash      `json:"hash"`            // SHA-256 of the payload as stored
	PayloadSize uint64    `json:"size"`            // bytes
}

// Origin is the log that the record belongs to.
func (h *Header) Origin() Origin { return Origin{Site: h.Site, Epoch: h.Epoch, Kind: h.Kind} }

// Time is the site's wall-clock time at the record, UTC.
func (h *Header) Time() time.Time { return time.UnixMicro(h.Wall).UTC() }

// Entry is a record as stored and exchanged: two byte strings. A nil Payload
// is absent (pruned, erased, not held here), which is no damage; the header
// still proves what it was. An empty payload that is present is non-nil.
type Entry struct {
	Header  []byte
	Payload []byte
}

// Record is a decoded entry. Raw stays what hashes and replicas are made of.
type Record struct {
	Header Header
	Raw    Entry
}

// ErrPayloadAbsent says that a record's payload is not held here.
var ErrPayloadAbsent = errors.New("payload is not held at this site")

// ErrBadRecord is the class of errors for bytes that are no valid record.
var ErrBadRecord = errors.New("not a valid record")

// DecodeEntry decodes and checks the header of e, and its payload where it is
// present. It keeps references into e.
func DecodeEntry(e Entry) (Record, error) {
	h, err := DecodeHeader(e.Header)
	if err != nil {
		return Record{}, err
	}
	if e.Payload != nil {
		if err := h.CheckPayload(e.Payload); err != nil {
			return Record{}, err
		}
	}
	return Record{Header: h, Raw: e}, nil
}

// CheckPayload reports whether p is the payload that the header commits to.
func (h *Header) CheckPayload(p []byte) error {
	if uint64(len(p)) != h.PayloadSize || sha256.Sum256(p) != h.PayloadHash {
		return fmt.Errorf("%w: payload of %s position %d differs from what its header commits to", ErrBadRecord, h.Origin(), h.Position)
	}
	return nil
}

// Event decodes the payload into its event type (a struct value of the
// catalogue, upcast to the newest version). It returns [ErrPayloadAbsent] or
// [ErrUnknownType] where that is the case.
func (r *Record) Event() (Event, error) {
	if r.Raw.Payload == nil {
		return nil, fmt.Errorf("record %s position %d: %w", r.Header.Origin(), r.Header.Position, ErrPayloadAbsent)
	}
	return DecodeEvent(r.Header.Type, r.Header.TypeVersion, r.Raw.Payload)
}

// Draft is an event that a command has decided and that no log holds yet.
type Draft struct {
	ID      uuid.UUID // UUIDv7; also the id given to an engine, so that a retry is recognised
	Stream  uuid.UUID
	Actor   Actor
	Command string
	Parent  uuid.UUID // zero when no event caused it
	Event   Event
}

// NewDraft makes a draft with a fresh id.
func NewDraft(stream uuid.UUID, actor Actor, command string, e Event) (Draft, error) {
	id, err := NewID()
	if err != nil {
		return Draft{}, err
	}
	return Draft{ID: id, Stream: stream, Actor: actor, Command: command, Event: e}, nil
}
