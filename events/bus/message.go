package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// The metadata of messages. Those to publish have the keys up to MetaParent;
// those that were read from a log have all of them.
const (
	MetaType      = "type"       // stored name of the event type
	MetaVersion   = "version"    // of the event type
	MetaStream    = "stream"     // UUID of the aggregate
	MetaActorKind = "actor_kind" //
	MetaActor     = "actor"      // UUID
	MetaCommand   = "command"    // may be absent
	MetaParent    = "parent"     // UUID of the causing event, may be absent
	MetaOrigin    = "origin"     // the log: site/epoch/kind
	MetaPosition  = "position"   // in that log
	MetaTime      = "time"       // site's wall clock, microseconds since 1970 UTC
)

// ErrBadMessage says that a message is not what the bus carries.
var ErrBadMessage = errors.New("not a message of the bus")

// DraftMessage puts a draft in the form in which a [Publisher] takes it: the
// message's UUID is the event's id, the payload its stored form, the rest is
// metadata.
func DraftMessage(d events.Draft) (*message.Message, error) {
	t, err := events.TypeOf(d.Event)
	if err != nil {
		return nil, err
	}
	payload, err := events.EncodeEvent(d.Event)
	if err != nil {
		return nil, err
	}
	m := message.NewMessage(d.ID.String(), payload)
	m.Metadata = headerMetadata(t.Name, t.Version, d.Stream, d.Actor, d.Command, d.Parent)
	return m, nil
}

func headerMetadata(name string, version uint16, stream uuid.UUID, by events.Actor, command string, parent uuid.UUID) message.Metadata {
	meta := message.Metadata{
		MetaType: name, MetaVersion: strconv.Itoa(int(version)), MetaStream: stream.String(),
		MetaActorKind: string(by.Kind), MetaActor: by.ID.String(),
	}
	if command != "" {
		meta[MetaCommand] = command
	}
	if parent != uuid.Nil {
		meta[MetaParent] = parent.String()
	}
	return meta
}

// draftOf is the reverse of DraftMessage. It refuses what a record could not hold.
func draftOf(m *message.Message) (events.Draft, error) {
	for key := range m.Metadata {
		switch key {
		case MetaType, MetaVersion, MetaStream, MetaActorKind, MetaActor, MetaCommand, MetaParent:
		default:
			return events.Draft{}, fmt.Errorf("%w: metadata %q has no place in a record", ErrBadMessage, key)
		}
	}
	var d events.Draft
	var err error
	id := func(what, text string) uuid.UUID {
		u, parseErr := uuid.Parse(text)
		if parseErr != nil || u == uuid.Nil && what != MetaActor {
			err = errors.Join(err, fmt.Errorf("%w: %s %q is not an id", ErrBadMessage, what, text))
		}
		return u
	}
	d.ID, d.Stream = id("message", m.UUID), id(MetaStream, m.Metadata[MetaStream])
	d.Actor = events.Actor{Kind: events.ActorKind(m.Metadata[MetaActorKind]), ID: id(MetaActor, m.Metadata[MetaActor])}
	d.Command = m.Metadata[MetaCommand]
	if parent, ok := m.Metadata[MetaParent]; ok {
		d.Parent = id(MetaParent, parent)
	}
	version, numErr := strconv.ParseUint(m.Metadata[MetaVersion], 10, 16)
	if numErr != nil {
		err = errors.Join(err, fmt.Errorf("%w: version %q", ErrBadMessage, m.Metadata[MetaVersion]))
	}
	if err != nil {
		return events.Draft{}, err
	}
	if d.Event, err = events.DecodeEvent(m.Metadata[MetaType], uint16(version), m.Payload); err != nil {
		return events.Draft{}, fmt.Errorf("%w: %w", ErrBadMessage, err)
	}
	return d, nil
}

// recordMessage puts a record in a message: its UUID is the event's id, the
// payload the record's bytes as [RecordOf] reads them.
func recordMessage(r events.Record) *message.Message {
	h := &r.Header
	m := message.NewMessage(h.ID.String(), encodeEntry(r.Raw))
	m.Metadata = headerMetadata(h.Type, h.TypeVersion, h.Stream, h.Actor, h.Command, h.Parent)
	m.Metadata[MetaOrigin] = h.Origin().String()
	m.Metadata[MetaPosition] = strconv.FormatUint(h.Position, 10)
	m.Metadata[MetaTime] = strconv.FormatInt(h.Wall, 10)
	return m
}

// RecordOf gives the record in a message that was read from a log, checked.
func RecordOf(m *message.Message) (events.Record, error) {
	e, err := decodeEntry(m.Payload)
	if err != nil {
		return events.Record{}, err
	}
	return events.DecodeEntry(e)
}

// encodeEntry writes the length of the header as uvarint, the header, 1 for a
// payload that is present or 0, and the payload.
func encodeEntry(e events.Entry) []byte {
	b := make([]byte, 0, binary.MaxVarintLen32+len(e.Header)+1+len(e.Payload))
	b = binary.AppendUvarint(b, uint64(len(e.Header)))
	b = append(b, e.Header...)
	if e.Payload == nil {
		return append(b, 0)
	}
	return append(append(b, 1), e.Payload...)
}

func decodeEntry(b []byte) (events.Entry, error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n >= uint64(len(b)-w) {
		return events.Entry{}, fmt.Errorf("%w: header cut short", ErrBadMessage)
	}
	header, rest := b[w:w+int(n)], b[w+int(n):]
	switch {
	case rest[0] == 1:
		return events.Entry{Header: header, Payload: rest[1:len(rest):len(rest)]}, nil
	case rest[0] == 0 && len(rest) == 1:
		return events.Entry{Header: header}, nil
	}
	return events.Entry{}, fmt.Errorf("%w: payload is neither there nor absent", ErrBadMessage)
}
