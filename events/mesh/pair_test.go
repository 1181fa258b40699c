package mesh_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// half is one site of a pair, as its core sees it: the other one is played by the
// test, and so is a third site, which is not of the pair.
type half struct {
	*testing.T
	core        *mesh.Core
	now         time.Duration
	log         events.Origin
	peer, third events.SiteID
	told        []string // what the core said of the pair since it was asked last
}

const (
	peerLink  mesh.LinkID = 1
	thirdLink mesh.LinkID = 2
	detect                = 100 * time.Millisecond
)

func newHalf(t *testing.T) *half {
	self := events.SiteID{UUID: aggregatetest.ID("site", 0)}
	h := &half{
		T: t, now: time.Hour, log: events.Origin{Site: self, Epoch: 1, Kind: events.Ctl},
		peer: events.SiteID{UUID: aggregatetest.ID("site", 1)}, third: events.SiteID{UUID: aggregatetest.ID("site", 2)},
	}
	h.core = mesh.New(mesh.Config{
		Self: self, Mesh: self, Sync: []events.SiteID{h.peer}, Detect: detect, Crypto: simKeys{}.crypto(func(o events.Origin, size uint64, root events.Hash) (evidence.Head, error) {
			return simKeys{}.open(simNote("key", o, size, root), "key")
		}),
	})
	h.step(mesh.Members{Sites: []mesh.Member{{Site: self}, {Site: h.peer}, {Site: h.third}}})
	h.step(mesh.Opened{Key: mesh.Key{Origin: h.log, Key: "key"}, Own: true})
	for link, site := range map[mesh.LinkID]events.SiteID{peerLink: h.peer, thirdLink: h.third} {
		h.link(link, site)
	}
	return h
}

func (h *half) link(link mesh.LinkID, site events.SiteID) {
	h.step(mesh.LinkUp{Link: link, Site: site})
	h.step(mesh.Received{Link: link, Message: mesh.Hello{Level: 1, Site: site, Mesh: h.log.Site, Windows: [2]uint64{1 << 20, 1 << 20}}})
	h.step(mesh.Received{Link: link, Message: mesh.Subscribe{Origin: h.log, Payloads: true}})
}

func (h *half) step(in mesh.Input) {
	sizes := func(all []mesh.Holding) (n uint64) {
		for _, l := range all {
			n += l.Size
		}
		return n
	}
	for _, out := range h.core.Step(in, h.now) {
		switch out := out.(type) {
		case mesh.Read:
			h.step(mesh.ReadDone{Link: out.Link, Origin: out.Origin, From: out.From, Entries: make([]events.Entry, out.To-out.From)})
		case mesh.Release:
			h.told = append(h.told, fmt.Sprintf("release %d", out.Size))
		case mesh.Degraded:
			h.told = append(h.told, fmt.Sprintf("degraded at %d", sizes(out.From)))
		case mesh.Restored:
			h.told = append(h.told, fmt.Sprintf("restored %d to %d", sizes(out.From), sizes(out.To)))
		}
	}
}

// pass lets time go by, with a tick whenever the core wants one and none besides.
func (h *half) pass(d time.Duration) {
	for end := h.now + d; ; h.step(mesh.Tick{}) {
		next := h.core.NextTick()
		if next > end {
			h.now = end
			return
		}
		h.now = max(h.now, next)
	}
}

// alive lets time go by as pass does, on links that are alive and say nothing.
func (h *half) alive(d time.Duration) {
	for ; d > 0; d -= time.Second {
		for _, link := range []mesh.LinkID{peerLink, thirdLink} {
			h.step(mesh.Received{Link: link, Message: mesh.Ping{}})
		}
		h.pass(min(d, time.Second))
	}
}

func (h *half) grow(size uint64) {
	h.step(mesh.Grew{Origin: h.log, Size: size, Root: events.Hash{byte(size)}})
}

func (h *half) ack(link mesh.LinkID, size uint64) {
	h.step(mesh.Received{Link: link, Message: mesh.Ack{Origin: h.log, Size: size}})
}

// says holds what the core has said since the last time against what it has to.
func (h *half) says(when string, want ...string) {
	h.Helper()
	if !slices.Equal(h.told, want) {
		h.Errorf("%s: it says %q, want %q", when, strings.Join(h.told, ", "), strings.Join(want, ", "))
	}
	h.told = nil
}

func TestAPairReleasesWhatBothHold(t *testing.T) {
	h := newHalf(t)
	h.grow(3)
	h.says("before the peer has it")
	h.ack(thirdLink, 3)
	h.says("when a site has it that is not of the pair")
	h.ack(peerLink, 2)
	h.says("when the peer has a part of it", "release 2")
	h.ack(peerLink, 2)
	h.says("when it says so again")
	h.ack(peerLink, 3)
	h.says("when the peer has it", "release 3")
	h.alive(time.Hour)
	h.says("with nothing to wait for")
}

func TestAPairDegradesAfterDetect(t *testing.T) {
	h := newHalf(t)
	h.grow(1)
	h.ack(peerLink, 1)
	h.says("at first", "release 1")
	h.alive(time.Minute)
	h.grow(4)
	h.pass(detect - time.Millisecond)
	h.says("before the time is over")
	h.pass(time.Millisecond)
	h.says("when it is over", "degraded at 1", "release 4")
	h.grow(5)
	h.says("what is written from then on", "release 5")
	h.alive(time.Minute)
	h.says("as long as the peer is silent")
}

// The silence of a link says nothing of a pair, nor does its end: only that
// something waits.
func TestAPairWithoutALinkDegradesOnceSomethingWaits(t *testing.T) {
	h := newHalf(t)
	h.step(mesh.LinkDown{Link: peerLink})
	h.pass(time.Minute)
	h.says("with nothing to wait for")
	h.grow(1)
	h.pass(detect)
	h.says("with something", "degraded at 0", "release 1")
}

func TestAPeerThatIsBehindAndAcknowledgesIsWaitedFor(t *testing.T) {
	h := newHalf(t)
	h.grow(50)
	for size := uint64(1); size < 30; size++ {
		h.pass(detect - time.Millisecond)
		h.ack(peerLink, size)
		h.says("while it acknowledges", fmt.Sprintf("release %d", size))
		h.grow(50 + size)
	}
	for range 3 { // the same over and over is no progress
		h.pass(detect / 4)
		h.ack(peerLink, 29)
	}
	h.says("while it repeats itself")
	h.pass(detect / 4)
	h.says("when it has repeated itself for too long", "degraded at 29", "release 79")
}

func TestAPairIsRestored(t *testing.T) {
	h := newHalf(t)
	h.grow(2)
	h.ack(peerLink, 2)
	h.grow(10)
	h.pass(detect)
	h.says("at first", "release 2", "degraded at 2", "release 10")

	// It catches up, and takes longer than it may: what it has to have is looked at
	// anew, and until it has that nothing waits.
	h.grow(20)
	h.alive(2 * time.Second)
	h.ack(peerLink, 10)
	h.says("after it took too long", "release 20")
	h.ack(peerLink, 19)
	h.says("with one record missing")
	h.grow(30) // a busy site goes on
	h.pass(detect / 2)
	h.ack(peerLink, 20)
	h.says("when it holds all that there was a moment ago", "release 30", "restored 2 to 30")
	h.grow(31)
	h.says("from then on it is waited for")
	h.ack(peerLink, 31)
	h.says("as before", "release 31")
}

// After a break the first Have tells what the peer holds.
func TestAPairIsRestoredByWhatIsHeldAfterABreak(t *testing.T) {
	h := newHalf(t)
	h.step(mesh.LinkDown{Link: peerLink})
	h.grow(7)
	h.pass(detect)
	h.says("without a link", "degraded at 0", "release 7")
	h.pass(time.Minute)
	h.link(peerLink+2, h.peer)
	have := mesh.Have{Logs: []mesh.Holding{{Origin: h.log, Size: 7, Root: events.Hash{7}}}}
	h.step(mesh.Received{Link: peerLink + 2, Message: have})
	h.says("when the time was over long ago")
	h.step(mesh.Received{Link: peerLink + 2, Message: have})
	h.pass(detect)
	h.says("when it holds what there was", "restored 0 to 7")
}

// A peer that says to hold more than was written, be it wrong or since this disk
// is an old one, or as much and something else, releases nothing of what comes then.
func TestAttackAPairClaimsWhatIsNotWritten(t *testing.T) {
	for name, claim := range map[string]mesh.Message{
		"Ack":                     mesh.Ack{Size: 1 << 40},
		"Have":                    mesh.Have{Logs: []mesh.Holding{{Size: 1 << 40}}},
		"Have of another history": mesh.Have{Logs: []mesh.Holding{{Size: 2, Root: events.Hash{9}}}},
	} {
		h := newHalf(t)
		h.grow(1)
		h.ack(peerLink, 1)
		switch m := claim.(type) {
		case mesh.Ack:
			m.Origin = h.log
			claim = m
		case mesh.Have:
			m.Logs[0].Origin = h.log
		}
		h.step(mesh.Received{Link: peerLink, Message: claim})
		h.told = nil
		h.grow(2)
		h.step(mesh.Received{Link: peerLink, Message: claim})
		h.says(name + ": what is written after the claim")
		h.pass(detect)
		h.says(name+": when it acknowledges nothing", "degraded at 1", "release 2")
	}
}

func TestSitesBecomeAPairAndCeaseToBeOne(t *testing.T) {
	h := newHalf(t)
	h.grow(2)
	h.step(mesh.Pairs{})
	h.says("when it is a pair no more", "release 2")
	h.ack(thirdLink, 2)
	h.grow(3)
	h.says("alone", "release 3")
	h.step(mesh.Pairs{Sites: []events.SiteID{h.third}})
	h.grow(4)
	h.says("with another one")
	h.ack(peerLink, 4)
	h.says("when the old one has it")
	h.ack(thirdLink, 4)
	h.says("when the new one has it", "release 4")
}
