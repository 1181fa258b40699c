package transfer

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// Guard holds one session channel to a gate that is not open. It looks at what both sides send before it is passed on,
// and keeps no content. It has no clock and starts nothing; its state can be written out at any point.
type Guard struct {
	gate    Gate
	state   guardState
	client  scan
	target  scan
	version []byte   // what is known of the target's first packet
	asked   uint32   // SFTP version that the client begins with
	begun   bool     // it has
	failed  bool     // a program was refused, by the gate or the target: clients send on without waiting for the answer
	refused []uint32 // ids of requests that the target's answers are to be changed for
}

// guardState is what the channel runs.
type guardState byte

const (
	guardIdle  guardState = iota // nothing yet
	guardAsked                   // a program was asked for, which is no SFTP, and not answered
	guardOther                   // it runs
	guardAskedSFTP
	guardSFTP
	guardEnded // the client's half has ended
)

// versionLength is how much of the target's first packet matters: length, type and version.
const versionLength = 9

// maxRefused bounds the requests that were refused and not answered yet. Clients wait for answers before that.
const maxRefused = 1024

// Verdict is what becomes of some channel data.
type Verdict struct {
	Edits    []events.Edit // in order: bytes of the data that are changed before it is passed on
	Refusals []Refusal     // what was refused in it
	End      bool          // the client's half of the channel is to end, and none of the client's data to be passed on any more
}

// scan is where a guard is in what one side sends: within an SFTP packet.
type scan struct {
	mode scanMode
	head []byte // of the packet, from its length on, as far as it was needed
	need int    // bytes that head must have before it can be looked at again
	seen uint64 // bytes of the packet
	size uint64 // of it, the four of its length included; once they were seen
}

type scanMode byte

const (
	scanHead  scanMode = iota // gathers the head
	scanPass                  // the rest is passed on
	scanSpoil                 // and the rest is overwritten; so is what comes while the head of a refused packet is gathered
	scanReply                 // the answer to a refused request
)

// The positions in a packet: its type, its id, and what follows. In a name's place stands its length, of a status its code.
const (
	atType = 4
	atRest = 9
	atName = 13
	atText = 17 // of a status
)

// spoiled takes the place of every byte of a refused request that could name something, so that no target finds an
// extension by that name.
const spoiled = '-'

const (
	statusDenied = 3
	denied       = "Permission denied"
)

// FromClient decides on channel data of the client.
func (g *Guard) FromClient(data []byte) (v Verdict) {
	switch g.state {
	case guardIdle:
		g.state = guardEnded
		return Verdict{End: true, Refusals: []Refusal{{What: "data", Reason: "it was sent with no program to take it", Told: g.failed}}}
	case guardEnded:
		return Verdict{End: true}
	case guardAskedSFTP, guardSFTP:
	default:
		return v
	}
	s := &g.client
	for i := 0; i < len(data); {
		if s.mode == scanHead || s.mode == scanSpoil && len(s.head) < s.need {
			n := min(max(s.need, 5)-len(s.head), len(data)-i)
			s.head = append(s.head, data[i:i+n]...)
			s.seen += uint64(n)
			i += n
			if len(s.head) < max(s.need, 5) {
				break
			}
			if r := g.look(&v, s, i); r != nil {
				return g.end(v, *r)
			}
		} else {
			n := int(min(s.size-s.seen, uint64(len(data)-i)))
			s.seen += uint64(n)
			i += n
		}
		if s.mode == scanSpoil {
			s.spoil(&v, i)
		}
		if s.seen == s.size && len(s.head) >= s.need {
			s.reset()
		}
	}
	if s.mode == scanSpoil {
		s.spoil(&v, len(data))
	}
	return v
}

// look decides on as much of a request's head as there is; the data at hand reaches to i. It gives what can't be refused
// without ending the client's half.
func (g *Guard) look(v *Verdict, s *scan, i int) *Refusal {
	s.size = 4 + uint64(binary.BigEndian.Uint32(s.head))
	need, err := guardHead(s.head)
	if err != nil {
		return &Refusal{What: "sftp", Reason: err.Error()}
	}
	if len(s.head) == 5 && g.begun && g.byType(s.head[atType]) != nil {
		s.change(v, i, atType, []byte{fxpExtended})
		s.mode = scanSpoil
	}
	if s.need = need; need > len(s.head) {
		return nil
	}
	r := g.packet(s.head[4:])
	switch {
	case r == nil:
		s.mode = scanPass
		return nil
	case r.fatal:
		return r
	}
	if s.mode != scanSpoil && s.head[atType] != fxpExtended {
		if uint64(i) < s.seen-atType { // its type has been passed on
			return r
		}
		s.change(v, i, atType, []byte{fxpExtended})
	}
	s.mode = scanSpoil
	if !r.mute {
		id := binary.BigEndian.Uint32(s.head[5:])
		if slices.Contains(g.refused, id) || len(g.refused) == maxRefused {
			return &Refusal{What: "sftp", Reason: "too many refused requests wait for an answer, or two have one id"}
		}
		g.refused = append(g.refused, id)
	}
	v.Refusals = append(v.Refusals, *r)
	return nil
}

func (g *Guard) end(v Verdict, r Refusal) Verdict {
	g.state, g.client, g.target, g.refused = guardEnded, scan{}, scan{}, nil
	return Verdict{End: true, Refusals: append(v.Refusals, r)}
}

// change notes that bytes of the packet from position at on are others; the data at hand reaches to i, where s.seen bytes of the
// packet have been seen. What was passed on before is left out.
func (s *scan) change(v *Verdict, i, at int, with []byte) {
	start := i - int(s.seen) + at // in the data
	if cut := min(max(0, -start), len(with)); cut > 0 {
		with, start = with[cut:], start+cut
	}
	if over := min(max(0, start+len(with)-i), len(with)); over > 0 {
		with = with[:len(with)-over]
	}
	if len(with) > 0 {
		v.Edits = append(v.Edits, events.Edit{At: uint64(start), Bytes: slices.Clone(with)})
	}
}

// spoil overwrites what the packet has behind its id and the length of its name, as far as it is in the data, which
// reaches to i.
func (s *scan) spoil(v *Verdict, i int) {
	start := max(0, i-int(s.seen)+atName)
	if n := len(v.Edits); n > 0 {
		if last := &v.Edits[n-1]; last.Repeat > 0 && uint64(start) < last.At+last.Repeat {
			if end := uint64(i); end > last.At+last.Repeat {
				last.Repeat = end - last.At
			}
			return
		}
	}
	if start < i {
		v.Edits = append(v.Edits, events.Edit{At: uint64(start), Bytes: []byte{spoiled}, Repeat: uint64(i - start)})
	}
}

func (s *scan) reset() {
	keep := s.head[:0]
	if cap(keep) > maxKeptHead {
		keep = nil
	}
	*s = scan{head: keep}
}

// FromTarget decides on channel data of the target. End says that the client's half is to end; the target's data passes in
// any case.
func (g *Guard) FromTarget(data []byte) (v Verdict) {
	if g.state != guardAskedSFTP && g.state != guardSFTP {
		return v
	}
	if r := g.settle(data); r != nil {
		return g.end(v, *r)
	}
	s := &g.target
	for i := 0; i < len(data); {
		if want := max(s.need, atRest); len(s.head) < want {
			n := min(want-len(s.head), len(data)-i)
			s.head = append(s.head, data[i:i+n]...)
			s.seen += uint64(n)
			i += n
			if s.mode == scanReply {
				s.answer(&v, i, n)
			}
			if len(s.head) == atRest {
				s.size = 4 + uint64(binary.BigEndian.Uint32(s.head))
				g.answered(s)
			}
			if len(s.head) < want {
				break
			}
		} else {
			n := int(min(s.size-min(s.seen, s.size), uint64(len(data)-i)))
			s.seen += uint64(n)
			i += n
			if s.mode == scanReply {
				s.answer(&v, i, n)
			}
		}
		if s.seen >= s.size && len(s.head) >= max(s.need, atRest) {
			s.reset()
		}
	}
	return v
}

// settle learns the target's version.
func (g *Guard) settle(data []byte) *Refusal {
	if len(g.version) == versionLength {
		return nil
	}
	g.version = append(g.version, data[:min(len(data), versionLength-len(g.version))]...)
	if len(g.version) < versionLength || g.asked <= sftpVersion {
		return nil
	}
	v, _ := versionOf(g.version[4:])
	if g.version[4] == fxpVersion && v <= sftpVersion {
		return nil
	}
	return &Refusal{What: "sftp version", Reason: fmt.Sprintf("only version %d can be held to one direction", sftpVersion)}
}

// answered sees the beginning of an answer.
func (g *Guard) answered(s *scan) {
	s.mode = scanPass
	i := slices.Index(g.refused, binary.BigEndian.Uint32(s.head[5:]))
	if i < 0 || s.head[atType] == fxpVersion {
		return
	}
	g.refused = slices.Delete(g.refused, i, i+1)
	if s.head[atType] == fxpStatus && s.size >= atName {
		s.mode, s.need = scanReply, int(min(s.size, atText))
	}
}

// answer makes the n bytes of a status that the data ends with at i one that says that permission is denied. Its text
// keeps its length, so that no window and no packet changes.
func (s *scan) answer(v *Verdict, i, n int) {
	from := int(s.seen) - n
	code := binary.BigEndian.AppendUint32(nil, statusDenied)
	if lo, hi := max(from, atRest), min(int(s.seen), atName); lo < hi {
		s.change(v, i, lo, code[lo-atRest:hi-atRest])
	}
	if len(s.head) < atText {
		return
	}
	end := atText + min(int(binary.BigEndian.Uint32(s.head[atName:])), int(s.size)-atText)
	for lo, hi := max(from, atText), min(int(s.seen), end); lo < hi; {
		text := []byte{' '}
		if k := lo - atText; k < len(denied) {
			text = []byte(denied[k:min(len(denied), hi-atText)])
			s.change(v, i, lo, text)
			lo += len(text)
			continue
		}
		v.Edits = append(v.Edits, events.Edit{At: uint64(i - int(s.seen) + lo), Bytes: text, Repeat: uint64(hi - lo)})
		return
	}
}
