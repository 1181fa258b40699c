package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// A frame on a lane is
//
//	0  4  length of what follows, big-endian
//	4  1  number of the message
//	5  .  the message, CBOR with integer keys
//
// The bound on the length depends on the number, and is checked before a byte
// of the message is read into memory.

const (
	// maxBatch bounds the records of one batch: the limit of a commit, so that
	// a receiver can store a batch as it came.
	maxBatch = store.MaxCommitSize
	// maxSmall bounds every message that carries no records or payloads.
	maxSmall = 256 << 10
	// maxHoldings bounds the logs in one [Have].
	maxHoldings = 1024
	// maxLogs bounds the logs of one site: each takes files.
	maxLogs = 256
	// maxPoints bounds the sizes in one [Prove].
	maxPoints = 16
	// maxProof bounds the hashes of one proof; a tree of 2^63 leaves needs no more.
	maxProof = 128
	// maxHead bounds a signed note.
	maxHead = 4 << 10
	// maxKey bounds a verifier key and a voucher.
	maxKey = 512
)

// MaxWraps bounds the wrapped keys in one [Wraps].
const MaxWraps = 256

// MaxAfter bounds what a [Wraps] names that the receiver is to have applied.
const MaxAfter = 256

var (
	// ErrBadMessage says that bytes from a peer are no message of this protocol.
	ErrBadMessage = errors.New("not a valid message of the mesh protocol")
	// ErrUnknownMessage says that a peer sent a message of a newer level. It is
	// passed over.
	ErrUnknownMessage = errors.New("message of a newer level of the mesh protocol")
)

var (
	wireEnc = must(cbor.CoreDetEncOptions().EncMode())
	wireDec = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		UTF8:             cbor.UTF8RejectInvalid,
		MaxNestedLevels:  8,
		MaxArrayElements: store.MaxCommitEntries,
		MaxMapPairs:      32,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options above are constants
	}
	return v
}

// decoders turns the bytes of each message into its value, by number.
var decoders = map[uint8]func([]byte) (Message, error){
	Hello{}.kind():     decoder[Hello],
	Key{}.kind():       decoder[Key],
	Have{}.kind():      decoder[Have],
	Subscribe{}.kind(): decoder[Subscribe],
	Batch{}.kind():     decoder[Batch],
	Ack{}.kind():       decoder[Ack],
	Prove{}.kind():     decoder[Prove],
	Proof{}.kind():     decoder[Proof],
	Forked{}.kind():    decoder[Forked],
	Fetch{}.kind():     decoder[Fetch],
	Payload{}.kind():   decoder[Payload],
	Ping{}.kind():      decoder[Ping],
	Wraps{}.kind():     decoder[Wraps],
	Lease{}.kind():     decoder[Lease],
	Kept{}.kind():      decoder[Kept],
}

func decoder[M Message](b []byte) (Message, error) {
	var m M
	if err := wireDec.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	return m, check(m)
}

// bound is the greatest length of a message by its number.
func bound(kind uint8) int {
	switch kind {
	case Batch{}.kind():
		return maxBatch + 16*store.MaxCommitEntries + maxSmall // framing of each record
	case Payload{}.kind():
		return events.MaxPayloadSize + maxSmall
	}
	return maxSmall
}

// Encode gives the number and body of a message.
func Encode(m Message) ([]byte, error) {
	body, err := wireEnc.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	if len(body) > bound(m.kind()) {
		return nil, fmt.Errorf("encode %T: %d bytes are over the limit of %d", m, len(body), bound(m.kind()))
	}
	return append([]byte{m.kind()}, body...), nil
}

// Decode reads what [Encode] gave. It refuses whatever is over a bound. A
// message of a newer level gives [ErrUnknownMessage].
func Decode(b []byte) (Message, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrBadMessage)
	}
	decode, known := decoders[b[0]]
	if !known {
		return nil, fmt.Errorf("number %d: %w", b[0], ErrUnknownMessage)
	}
	if len(b)-1 > bound(b[0]) {
		return nil, fmt.Errorf("%w: message %d of %d bytes, the limit is %d", ErrBadMessage, b[0], len(b)-1, bound(b[0]))
	}
	m, err := decode(b[1:])
	if err != nil {
		return nil, fmt.Errorf("%w: message %d: %w", ErrBadMessage, b[0], err)
	}
	return m, nil
}

// check holds a decoded message against the bounds that CBOR does not know.
func check(m Message) error {
	switch m := m.(type) {
	case Key:
		if len(m.Key) > maxKey || len(m.Voucher) > maxKey {
			return errors.New("key or voucher is too long")
		}
		return checkOrigin(m.Origin)
	case Have:
		if len(m.Logs) > maxHoldings {
			return fmt.Errorf("%d logs, the limit is %d", len(m.Logs), maxHoldings)
		}
		for _, h := range m.Logs {
			if err := checkOrigin(h.Origin); err != nil {
				return err
			}
		}
	case Subscribe:
		return checkOrigin(m.Origin)
	case Batch:
		return checkBatch(m)
	case Ack:
		return checkOrigin(m.Origin)
	case Prove:
		if len(m.Sizes) > maxPoints {
			return fmt.Errorf("%d sizes, the limit is %d", len(m.Sizes), maxPoints)
		}
		return checkOrigin(m.Origin)
	case Proof:
		return errors.Join(checkOrigin(m.Origin), m.Branch.check())
	case Forked:
		return errors.Join(checkOrigin(m.Fork.Origin), m.Fork.A.check(), m.Fork.B.check())
	case Fetch:
		return checkOrigin(m.Origin)
	case Payload:
		return checkOrigin(m.Origin)
	case Lease:
		if m.Answer {
			return checkOrigin(m.Log)
		}
	case Kept:
		if len(m.Keys) > MaxWraps {
			return fmt.Errorf("%d keys, the limit is %d", len(m.Keys), MaxWraps)
		}
	case Wraps:
		if max(len(m.Keys), len(m.Want)) > MaxWraps {
			return fmt.Errorf("%d keys, the limit is %d", max(len(m.Keys), len(m.Want)), MaxWraps)
		}
		if len(m.After) > MaxAfter {
			return fmt.Errorf("%d places in logs, the limit is %d", len(m.After), MaxAfter)
		}
		for _, e := range m.After {
			if err := checkOrigin(e.Origin); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOrigin(o events.Origin) error {
	if o.Epoch == 0 || !o.Kind.Valid() || o.Site.IsZero() {
		return fmt.Errorf("%s does not name a log", o)
	}
	return nil
}

func checkBatch(b Batch) error {
	if len(b.Head) == 0 || len(b.Head) > maxHead {
		return fmt.Errorf("a head of %d bytes, the limit is %d", len(b.Head), maxHead)
	}
	if b.First == 0 || b.First+uint64(len(b.Records)) < b.First {
		return errors.New("positions out of range")
	}
	if err := store.CheckEntries(b.entries()); err != nil {
		return err
	}
	for _, r := range b.Records {
		if r.Absent && len(r.Payload) > 0 {
			return errors.New("a payload that is said to be absent")
		}
	}
	return checkOrigin(b.Origin)
}

func (b Branch) check() error {
	if len(b.Head) > maxHead || len(b.Points) > maxPoints {
		return errors.New("a branch with too long a head or too many points")
	}
	for _, p := range b.Points {
		if len(p.Proof) > maxProof {
			return errors.New("a proof with too many hashes")
		}
	}
	return nil
}

// entries gives the records of a batch as they are stored.
func (b Batch) entries() []events.Entry {
	out := make([]events.Entry, len(b.Records))
	for i, r := range b.Records {
		out[i] = events.Entry{Header: r.Header, Payload: r.Payload}
		switch {
		case r.Absent:
			out[i].Payload = nil
		case r.Payload == nil:
			out[i].Payload = []byte{}
		}
	}
	return out
}

// wireRecords is the reverse of entries.
func wireRecords(entries []events.Entry) []WireRecord {
	out := make([]WireRecord, len(entries))
	for i, e := range entries {
		out[i] = WireRecord{Header: e.Header, Payload: e.Payload, Absent: e.Payload == nil}
	}
	return out
}

const frameHead = 5

// WriteFrame writes an encoded message as one frame.
func WriteFrame(w io.Writer, encoded []byte) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(encoded)), uint32(len(encoded)))
	_, err := w.Write(append(b, encoded...))
	return err
}

// ReadFrame reads one frame: an encoded message. Too long a frame is
// [ErrBadMessage] before its body is read.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n, kind := binary.BigEndian.Uint32(head[:]), head[4]
	if n == 0 || int64(n)-1 > int64(bound(kind)) {
		return nil, fmt.Errorf("%w: a frame of %d bytes for message %d, the limit is %d", ErrBadMessage, n, kind, bound(kind))
	}
	b := make([]byte, n)
	b[0] = kind
	if _, err := io.ReadFull(r, b[1:]); err != nil {
		return nil, fmt.Errorf("frame cut short: %w", err)
	}
	return b, nil
}
