package store

import (
	"crypto/sha256"
	"fmt"

	"github.com/holdfast-pam/holdfast/events"
)

// Prepared is a draft whose payload is encoded and hashed: the costly part,
// done in the caller's goroutine. It is complete but for its place in a log.
type Prepared struct {
	header  events.Header
	payload []byte
}

// Prepare encodes and hashes drafts. It refuses an event that is not in the
// catalogue and a payload over [events.MaxPayloadSize].
func Prepare(drafts ...events.Draft) ([]Prepared, error) {
	out := make([]Prepared, len(drafts))
	for i, d := range drafts {
		payload, err := events.EncodeEvent(d.Event)
		if err == nil {
			out[i], err = PrepareEncoded(d, payload)
		}
		if err != nil {
			return nil, fmt.Errorf("prepare draft %d: %w", i, err)
		}
	}
	return out, nil
}

// PrepareEncoded is Prepare of one draft whose payload is encoded already, as
// [events.EncodeEvent] would have done it; of its event only the type is
// looked at. The payload is kept and must not be changed.
func PrepareEncoded(d events.Draft, payload []byte) (Prepared, error) {
	typ, err := events.TypeOf(d.Event)
	if err != nil {
		return Prepared{}, err
	}
	if len(d.Command) > maxCommand {
		return Prepared{}, fmt.Errorf("%w: command name of %d bytes", ErrBadAppend, len(d.Command))
	}
	if len(payload) > events.MaxPayloadSize {
		return Prepared{}, fmt.Errorf("%w: %s of %d bytes, the limit is %d", ErrBadAppend, typ.Name, len(payload), events.MaxPayloadSize)
	}
	return Prepared{payload: payload, header: events.Header{
		V: events.HeaderVersion, ID: d.ID, Type: typ.Name, TypeVersion: typ.Version,
		Stream: d.Stream, Actor: d.Actor, Command: d.Command, Parent: d.Parent,
		PayloadHash: sha256.Sum256(payload), PayloadSize: uint64(len(payload)),
	}}, nil
}

// maxCommand bounds the name of a command, in bytes.
const maxCommand = 128

// headerGuess stands for the size of a header that is not encoded yet.
const headerGuess = 400

// Size is about how many bytes the record takes in the log.
func (p *Prepared) Size() int { return headerGuess + len(p.payload) }
