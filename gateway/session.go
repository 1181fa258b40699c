package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

const (
	// inflightSoft is how many bytes of one direction may be received and not delivered; then its reader waits.
	inflightSoft = 2 << 20
	// inflightHard ends the session: a side that sends on during a key exchange that doesn't come to an end.
	inflightHard = 64 << 20
	// drainTime is how long what is left of one direction may take to be delivered after its sender has gone.
	drainTime = 30 * time.Second
	// endTime is how long the two sides may take to hear that somebody ended the session; then they are cut off.
	endTime = 800 * time.Millisecond
	// refusedEvents is how many refusals of one session get an event in the ctl log; the rec log tells of all.
	refusedEvents = 256
)

// session is a running session: two legs, the relay between them, the recorder beside it.
//
// Per direction a reader gathers bursts from one leg; under order the relay steps through a burst and the outcome is
// queued for the legs and handed to the recorder; when it is durable, a deliverer per direction writes it to the other
// leg. A small burst that finds nothing under way is committed and delivered by its reader, which saves the hand-overs.
// A burst's memory is shared by all of them. A deliverer runs while there is something for it to deliver, so an idle
// session is two goroutines, its readers.
type session struct {
	scribe
	legs    [2]*leg // by the direction they are read in: the client's, the target's
	refuse  func(context.Context, events.SessionRefused) error
	note    func(context.Context, []events.Event) error // of channels of forwardings
	started time.Time
	rec     recorder

	order  sync.Mutex // held while the relay steps and what it made is queued; taken before mu
	relay  *relay.Relay
	denied int // refusals that got an event
	ledger ledger
	files  *fileReader // nil: nobody is told of files

	allowance allowance

	mu    sync.Mutex
	lanes [2]lane
	cause *ending       // why it ends
	ended chan struct{} // closed with cause
	cut   chan struct{} // closed when a second cause came: there is nothing left to wait for
	isCut bool
	over  bool // both sides are being disconnected

	delivering sync.WaitGroup // the deliverers that run
	closing    sync.WaitGroup // DISCONNECTs under way
	closer     sync.WaitGroup // close, from the first cause on

	noting     context.Context // ends with the session, for events that its packets make
	stopNoting func()
}

// lane is the way of one direction's packets out of the gateway. Its fields are guarded by session.mu.
type lane struct {
	queue    []delivery
	taken    []delivery // copy of the queue's head that is being written
	busy     bool       // somebody writes; taken is theirs
	buffered bool       // taken is sealed and buffered already, and needs a flush
	attended bool       // a reader is going to look after the head of queue
	running  bool       // the deliverer does
	room     *sync.Cond // inflight fell, or the reader must go on for another reason
	inflight int        // bytes received in this direction of which anything is not delivered, with what they made
	cursors  events.Cursors
	deaf     bool          // the receiver has gone: what is left is thrown away
	read     bool          // the reader has returned
	empty    chan struct{} // closed when the reader has returned and everything is delivered
	isEmpty  bool
}

// laneState is how a lane's deliverer is to treat what it has taken.
type laneState int

const (
	laneOpen     laneState = iota
	laneBuffered           // it only needs a flush
	laneDeaf               // it is thrown away
	laneEmpty              // there is nothing to deliver
)

// delivery is what one batch sends in one direction.
type delivery struct {
	batch   *batch
	packets [][]byte
}

// ending is why a session ends, with a text for the log and one for the people at either end. What a side said itself
// is in detail only: nothing of it may reach the other side before an event holds it.
type ending struct {
	reason events.EndReason
	detail string
	text   string
	side   *relay.Direction // the reader that ended, nil when somebody else wants the end
	code   uint32           // reason of the DISCONNECT
}

func (s *session) init(submit submitFunc, crowded func() bool, pause time.Duration) {
	s.rec = recorder{submit: submit, crowded: crowded, pause: pause, wrote: s.wrote, failed: s.storageFailed}
	s.ended, s.cut = make(chan struct{}), make(chan struct{})
	s.noting, s.stopNoting = context.WithCancel(context.Background())
	for d := range s.lanes {
		l := &s.lanes[d]
		l.room, l.empty = sync.NewCond(&s.mu), make(chan struct{})
		s.legs[d].rekey.attach(func() {
			s.mu.Lock()
			l.room.Broadcast()
			s.mu.Unlock()
		})
	}
}

// run relays until an end comes, and returns when both legs are closed and every goroutine has ended.
func (s *session) run() events.SessionEnded {
	var beside sync.WaitGroup
	beside.Go(func() { s.read(relay.Out) })
	if s.allowance.most > 0 || s.allowance.idle > 0 {
		beside.Go(s.limitTime)
	}
	s.read(relay.In)
	beside.Wait()
	s.closer.Wait()
	s.rec.stop()
	s.delivering.Wait() // nothing is committed any more, so none begins
	return s.report()
}

// end asks for the session's end; the first one to ask decides on the reason.
func (s *session) end(e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cause == nil:
		s.cause = &e
		close(s.ended)
		s.closer.Go(func() {
			s.close()
			s.stopNoting()
		})
	case !s.isCut:
		s.isCut = true
		close(s.cut)
	}
}

// End ends the session from outside: both sides are told at once, and the client's side why.
func (s *session) End(reason events.EndReason, detail, text string) {
	s.end(ending{reason: reason, detail: detail, text: text, code: sshwire.ReasonByApplication})
}

func (s *session) storageFailed(err error) {
	s.end(ending{
		reason: events.EndedByStorage, detail: err.Error(), code: sshwire.ReasonByApplication,
		text: "this session was ended because it can't be recorded any more; tell the administrator of this gateway",
	})
}

// close tells both sides and closes their connections. When one side ended by itself, the other first gets all that
// was received from it.
func (s *session) close() {
	e := s.cause
	if e.side == nil {
		s.silence()
		s.disconnect(relay.In, e.code, e.text)
		s.disconnect(relay.Out, e.code, "the gateway ended the session")
		late := time.AfterFunc(endTime, func() {
			s.legs[relay.In].Close()
			s.legs[relay.Out].Close()
		})
		defer late.Stop()
	} else {
		s.hush(e.side.Other())
		if e.reason == events.EndedByProtocol {
			s.disconnect(*e.side, e.code, e.text)
		} else {
			s.legs[*e.side].Close()
		}
		s.drain(*e.side)
		s.silence()
		s.disconnect(e.side.Other(), e.code, e.text)
	}
	s.closing.Wait()
}

// drain waits until what was received in d is delivered.
func (s *session) drain(d relay.Direction) {
	select {
	case <-s.lanes[d].empty:
	case <-s.cut:
	case <-time.After(drainTime):
	}
}

// hush throws away what is still to be sent in d: its receiver has gone.
func (s *session) hush(d relay.Direction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes[d].deaf = true
}

// silence lets nothing more out, and frees readers that wait for room.
func (s *session) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for d := range s.lanes {
		s.lanes[d].deaf = true
		s.lanes[d].room.Broadcast()
	}
}

// disconnect tells the side that d is read from. It takes up to four seconds, so it gets a goroutine of its own.
func (s *session) disconnect(d relay.Direction, code uint32, text string) {
	s.closing.Go(func() { _ = s.legs[d].Disconnect(code, text) }) // best effort: the leg is closed either way
}

// report is the event that ends the session.
func (s *session) report() events.SessionEnded {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, out := s.lanes[relay.In].cursors, s.lanes[relay.Out].cursors
	return events.SessionEnded{
		Reason: s.cause.reason, Detail: s.cause.detail, In: in, Out: out,
		Complete: in.Received == in.Committed && out.Received == out.Committed,
		Forwards: s.forwardTotals(),
	}
}

// cursors tells how far both directions are.
func (s *session) cursors() (in, out events.Cursors) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lanes[relay.In].cursors, s.lanes[relay.Out].cursors
}

// sideOf names who is read from in a direction.
func sideOf(d relay.Direction) string {
	if d == relay.Out {
		return "target"
	}
	return "client"
}

// readEnded is the ending that a reader's error makes.
func readEnded(d relay.Direction, err error) ending {
	e := ending{side: &d, code: sshwire.ReasonByApplication}
	var bye *sshwire.DisconnectError
	var breach *sshwire.ProtocolError
	name := sideOf(d)
	e.reason = events.EndedByClient
	if d == relay.Out {
		e.reason = events.EndedByTarget
	}
	e.text = "the " + name + " closed the connection"
	switch {
	case errors.As(err, &bye):
		e.detail = fmt.Sprintf("%s disconnected: %s", name, plain(bye.Text))
	case errors.As(err, &breach), errors.Is(err, relay.ErrProtocol):
		e.reason, e.code, e.detail = events.EndedByProtocol, sshwire.ReasonProtocolError, plain(err.Error())
		e.text = "the " + name + " broke the SSH protocol"
	case errors.Is(err, io.EOF):
		e.detail = name + " closed the connection"
	case errors.Is(err, syscall.ETIMEDOUT):
		e.detail, e.text = name+" is gone: its network acknowledges nothing", "the "+name+" can't be reached any more"
	default:
		e.detail = name + ": " + plain(err.Error())
	}
	return e
}

// plain makes another party's text fit for an event and for a terminal: one line, bounded, printable.
func plain(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == '\ufffd' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
