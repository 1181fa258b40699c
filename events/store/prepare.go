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
		typ, err := events.TypeOf(d.Event)
		if err != nil {
			return nil, fmt.Errorf("prepare draft %d: %w", i, err)
		}
		payload, err := events.EncodeEvent(d.Event)
		if err != nil {
			return nil, fmt.Errorf("prepare draft %d: %w", i, err)
		}
		if len(d.Command) > maxCommand {
			return nil, fmt.Errorf("prepare draft %d: %w: command name of %d bytes", i, ErrBadAppend, len(d.Command))
		}
		if len(payload) > events.MaxPayloadSize {
			return nil, fmt.Errorf("prepare draft %d: %w: %s of %d bytes, the limit is %d",
				i, ErrBadAppend, typ.Name, len(payload), events.MaxPayloadSize)
		}
		out[i] = Prepared{payload: payload, header: events.Header{
			V: events.HeaderVersion, ID: d.ID, Type: typ.Name, TypeVersion: typ.Version,
			Stream: d.Stream, Actor: d.Actor, Command: d.Command, Parent: d.Parent,
			PayloadHash: sha256.Sum256(payload), PayloadSize: uint64(len(payload)),
		}}
	}
	return out, nil
}

// maxCommand bounds the name of a command, in bytes.
const maxCommand = 128

// headerGuess stands for the size of a header that is not encoded yet.
const headerGuess = 400

// Size is about how many bytes the record takes in the log.
func (p *Prepared) Size() int { return headerGuess + len(p.payload) }
