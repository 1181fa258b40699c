package gateway

import (
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands/destination"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/relay"
)

// policyOf is what the terms of a grant let a session's relay pass. A rule that this version can't read allows nothing.
func policyOf(terms events.Terms) (p relay.Policy) {
	p.Agent = slices.Contains(terms.Allow, events.Agent)
	if len(terms.Services) > 0 {
		without := func(v events.Service) bool { return !slices.Contains(terms.Services, v) }
		p.NoShell, p.NoExec, p.NoSFTP, p.NoSubsystem = without(events.ShellService), without(events.ExecService), without(events.SFTPService), without(events.SubsystemService)
	}
	p.NoUpload, p.NoDownload = slices.Contains(terms.Deny, events.Upload), slices.Contains(terms.Deny, events.Download)
	if slices.Contains(terms.Allow, events.Local) {
		p.To = rules(terms.To)
	}
	if slices.Contains(terms.Allow, events.Remote) {
		p.Listen = rules(terms.Listen)
	}
	return p
}

func rules(texts []string) (list []destination.Rule) {
	for _, text := range texts {
		if r, err := destination.Parse(text); err == nil {
			list = append(list, r)
		}
	}
	return list
}

const (
	// channelEvents is how many channels of forwardings of one session make events at once, and channelEvery how soon
	// one more may; the same, counted apart, for what it does to files. The rec log has them all, and session.ended their sum.
	channelEvents = 256
	channelEvery  = 10 * time.Second
)

// ledger makes the events of a session's forwardings. Its fields are guarded by session.order.
type ledger struct {
	told map[uint64]time.Duration // open channels whose opening made an event, by serial: when it did
	room allotment
}

// allotment bounds how many events of one kind a session makes.
type allotment struct {
	spent float64       // of channelEvents
	at    time.Duration // since the session's start, when spent was right
}

// take says whether there is room for one more event now.
func (a *allotment) take(at time.Duration) bool {
	at = max(at, a.at)
	a.spent = max(0, a.spent-float64(at-a.at)/float64(channelEvery))
	a.at = at
	if a.spent > channelEvents-1 {
		return false
	}
	a.spent++
	return true
}

// opened is the event for a channel, if there is room for one.
func (l *ledger) opened(at time.Duration, number uint64, c *relay.Channel) (events.Event, bool) {
	if !l.room.take(at) {
		return nil, false
	}
	if l.told == nil {
		l.told = map[uint64]time.Duration{}
	}
	l.told[c.Serial] = at
	return events.SessionChannelOpened{
		Channel: c.Serial, Direction: eventDirection(c.Direction), Type: c.Type, To: c.To, Origin: c.Origin,
		Number: number, At: uint64(at.Microseconds()),
	}, true
}

// closed is the event for a channel whose opening had one.
func (l *ledger) closed(at time.Duration, c *relay.Channel) (events.Event, bool) {
	since, ok := l.told[c.Serial]
	delete(l.told, c.Serial)
	return events.SessionChannelClosed{
		Channel: c.Serial, Type: c.Type, To: c.To, In: c.Bytes[relay.In], Out: c.Bytes[relay.Out],
		Duration: uint64((at - since).Microseconds()), Failure: c.Failure,
	}, ok
}

// forwardings are the events for what a batch did to channels of forwardings.
func (s *session) forwardings(b *batch) (changes []events.Event) {
	for _, o := range b.forwards {
		var event events.Event
		var ok bool
		if o.Kind == relay.Opened {
			event, ok = s.ledger.opened(b.at, o.Number, o.Channel)
		} else {
			event, ok = s.ledger.closed(b.at, o.Channel)
		}
		if ok {
			changes = append(changes, event)
		}
	}
	return changes
}

// leftOpen are the events for channels of forwardings that are open when the session has ended.
func (s *session) leftOpen() (changes []events.Event) {
	at := time.Since(s.started)
	open, _, _ := s.relay.Forwards()
	for i := range open {
		if e, ok := s.ledger.closed(at, &open[i]); ok {
			changes = append(changes, e)
		}
	}
	return changes
}

// forwardTotals sums up the session's forwardings.
func (s *session) forwardTotals() events.ForwardTotals {
	_, n, bytes := s.relay.Forwards()
	return events.ForwardTotals{Channels: n, In: bytes[relay.In], Out: bytes[relay.Out]}
}
