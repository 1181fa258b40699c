package site

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/lease"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// leasePeriod is how often leases are looked after.
const leasePeriod = 250 * time.Millisecond

// processStart is when this process began, with a monotonic reading.
var processStart = time.Now()

// moment is now on the clocks by which leases run.
func moment() lease.Moment { return lease.Moment{Awake: time.Since(processStart), All: allTime()} }

// leases is what a site has of leases.
type leases struct {
	came chan leaseWord // what other sites ask and answer; what does not fit is lost, they say it again

	mu     sync.Mutex // guards keeper; held for no longer than it takes to read the state
	keeper *lease.Keeper
}

// leaseWord is what a site asks or answers, and when it came.
type leaseWord struct {
	from events.SiteID
	mesh.Lease
	at lease.Moment
}

func (s *Site) openLeases() error {
	var run [8]byte
	if _, err := rand.Read(run[:]); err != nil {
		return fmt.Errorf("number of this run: %w", err)
	}
	s.leases = leases{came: make(chan leaseWord, 256), keeper: lease.NewKeeper(s.who.ID, binary.BigEndian.Uint64(run[:]), leasePeriod)}
	return nil
}

// onLease takes what another site asks or answers.
func (s *Site) onLease(from events.SiteID, l mesh.Lease) {
	select {
	case s.leases.came <- leaseWord{from, l, moment()}:
	default:
	}
}

// leased lets f read the keeper and the state together.
func (s *Site) leased(f func(k *lease.Keeper, state *aggregate.State)) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	s.commands.View(func(state *aggregate.State) { f(s.leases.keeper, state) })
}

// leaseLeft is how long scheduled work may go on here from now (rule R13).
func (s *Site) leaseLeft() (left time.Duration) {
	s.leased(func(k *lease.Keeper, state *aggregate.State) { left = k.Left(state, moment()) })
	return left
}

// keepLeases asks successors, answers those whose successor this site is, and
// takes their scheduled work over when they are silent for long enough, until ctx
// ends.
func (s *Site) keepLeases(ctx context.Context) {
	tick := time.NewTicker(leasePeriod)
	defer tick.Stop()
	for stopped, refused := false, ""; ; {
		select {
		case <-ctx.Done():
			return
		case w := <-s.leases.came:
			s.takeWord(w)
			continue
		case <-tick.C:
		}
		n := s.node()
		if n == nil {
			continue
		}
		for more := true; more; {
			select {
			case w := <-s.leases.came:
				s.takeWord(w)
			default:
				more = false
			}
		}
		if err := s.lookAfterLeases(ctx, n); err != nil && err.Error() != refused && ctx.Err() == nil {
			refused = err.Error() // once, not four times a second
			s.log.Warn("the scheduled work of a silent site is not taken over", "error", err)
		}
		if left := s.leaseLeft(); (left == 0) != stopped {
			if stopped = left == 0; stopped {
				s.log.Warn("scheduled work stops here: a successor has not answered in time, and may take it over")
			} else {
				s.log.Info("scheduled work goes on here: the successor answers")
			}
		}
	}
}

func (s *Site) takeWord(w leaseWord) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	ask := lease.Ask{Run: w.Run, At: w.At}
	if w.Answer {
		s.leases.keeper.Granted(w.from, lease.Grant{Ask: ask, Log: w.Log, Size: w.Size}, w.at)
	} else {
		s.leases.keeper.Asked(w.from, ask, w.at)
	}
}

// lookAfterLeases decides what is due, and only then answers and asks: an answer
// says how much of this site's log has to be applied for it to count, and what was
// taken over is in there.
func (s *Site) lookAfterLeases(ctx context.Context, n *mesh.Node) error {
	var due []commands.Command
	s.leased(func(k *lease.Keeper, state *aggregate.State) { due = k.Look(state, moment()) })
	var errs []error
	for _, c := range due {
		records, err := s.commands.Do(ctx, s.actor(), c)
		if err != nil {
			errs = append(errs, err)
		}
		for _, r := range records {
			s.log.Warn("a successor's part was decided here", "event", r.Header.Type, "of", r.Header.Stream.String())
		}
	}
	own := s.ctl.Log()
	now := moment()
	size, _ := own.Size()
	var answers map[events.SiteID]lease.Grant
	var to []events.SiteID
	var ask lease.Ask
	note := false
	s.leased(func(k *lease.Keeper, state *aggregate.State) {
		answers = k.Answers(state, own.Origin(), size)
		note = k.ByOthers(state, own.Origin(), size, now)
		to, ask = k.Questions(state, now)
	})
	for site, g := range answers {
		n.SendLease(site, mesh.Lease{Answer: true, Run: g.Run, At: g.At, Log: g.Log, Size: g.Size})
	}
	for _, site := range to {
		n.SendLease(site, mesh.Lease{Run: ask.Run, At: ask.At})
	}
	if note && s.linkedToAny(ctx, n) {
		if _, err := s.commands.Do(ctx, s.actor(), commands.NotePresence{}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// linkedToAny reports whether there is a link to another site: without one nobody
// would hear what this site writes.
func (s *Site) linkedToAny(ctx context.Context, n *mesh.Node) bool {
	standing, err := n.Status(ctx)
	for _, st := range standing {
		if st.Links > 0 {
			return err == nil
		}
	}
	return false
}

// MeshLease is a site's scheduled work: who does it, and by which lease.
type MeshLease struct {
	Site        string        `json:"site"`
	ID          events.SiteID `json:"id"`
	Work        string        `json:"work"` // name of the site that does its scheduled work
	Successor   string        `json:"successor,omitempty"`
	SuccessorID events.SiteID `json:"successor_id,omitzero"`
	Yield       float64       `json:"yield_seconds,omitempty"`  // after which it stops without the successor's answer
	Take        float64       `json:"take_seconds,omitempty"`   // after which the successor takes over without a word of it
	Earlier     []string      `json:"earlier,omitempty"`        // successors of before that have not said that they know
	Left        *float64      `json:"left_seconds,omitempty"`   // of this site's own lease
	Silent      *float64      `json:"silent_seconds,omitempty"` // for how long this site, its successor, has not heard it
	Event       uuid.UUID     `json:"event,omitzero"`           // that named the successor
}

// Leases tells who does the scheduled work of each member, and by which lease.
func (s *Site) Leases() (all []MeshLease) {
	s.leased(func(k *lease.Keeper, state *aggregate.State) {
		now := moment()
		for _, m := range state.MeshSites() {
			l := MeshLease{Site: m.Name, ID: m.Site, Work: worksAt(state, m, true)}
			n, named := state.Successor(m.Site)
			if named {
				l.Successor, l.SuccessorID, l.Event = nameOf(state, n.Successor), n.Successor, n.At.ID
				l.Yield, l.Take = n.Yield.Seconds(), n.Take.Seconds()
			}
			heirs := state.Heirs(m.Site)
			for _, h := range heirs {
				if !named || h.Successor != n.Successor {
					l.Earlier = append(l.Earlier, nameOf(state, h.Successor))
				}
			}
			switch {
			case m.Site == s.who.ID && len(heirs) > 0:
				left := k.Left(state, now).Seconds()
				l.Left = &left
			case named && n.Successor == s.who.ID:
				silent := k.Silent(m.Site, now).Seconds()
				l.Silent = &silent
			}
			all = append(all, l)
		}
	})
	return all
}
