package mesh

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// rogue is a member with a good key that does not keep to the protocol.
type rogue struct {
	*station
	conns [lanes]*tls.Conn
}

// link opens a link to a station as its node would.
func (r *rogue) link(to *station) {
	r.t.Helper()
	if err := r.tryLink(to); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rogue) tryLink(to *station) error {
	cert, err := certificate(r.identity, r.id)
	if err != nil {
		return err
	}
	hello := make([]byte, preambleSize)
	binary.BigEndian.PutUint64(hello[1:], uint64(time.Now().UnixNano()))
	for lane := range r.conns {
		conn, err := tls.Dial("tcp", to.addr, clientTLS(cert, linkProtocol, to.peer().Identity))
		if err != nil {
			return err
		}
		hello[0] = byte(lane)
		if _, err := conn.Write(hello); err != nil {
			return err
		}
		r.conns[lane] = conn
	}
	return nil
}

func (r *rogue) close() {
	for _, c := range r.conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// say sends messages; that the other side has hung up is no failure here.
func (r *rogue) say(lane Lane, all ...Message) {
	r.t.Helper()
	for _, m := range all {
		b, err := wireEnc.Marshal(m)
		if err != nil {
			r.t.Fatal(err)
		}
		_ = WriteFrame(r.conns[lane], append([]byte{m.kind()}, b...))
	}
}

// hungUp waits until the other side has ended the lane.
func (r *rogue) hungUp(lane Lane) error {
	conn := r.conns[lane]
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	b := make([]byte, 4096)
	for {
		_, err := conn.Read(b)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return errors.New("the link is still there")
		}
		if err != nil {
			return nil
		}
	}
}

// TestHostileMember: what a member with a good key may try on a link ends that
// link, leaves nothing behind, and disturbs no other one.
func TestHostileMember(t *testing.T) {
	a, b := newStation(t, 1), newStation(t, 2)
	r := &rogue{station: newStation(t, 3)}
	la, lb := a.listen(), b.listen()
	all := []Peer{a.peer(), b.peer(), r.peer()}
	a.start(la, all...)
	b.start(lb, all...)
	a.write(a.ctl, 3, 10)
	b.has(a)

	hello := Hello{Level: Level, Site: r.id, Windows: [lanes]uint64{1 << 20, 1 << 20}, Mesh: a.id}
	good, dir := r.madeUpLog()
	forged, _ := r.madeUpLog()
	forged.Origin.Site = b.id
	of := b.ctl.Log().Origin()
	stolen := Batch{Origin: of, First: 1, Records: dir.Records, Head: dir.Head}
	badHead := dir
	badHead.Head = bytes.Clone(dir.Head)
	badHead.Head[len(badHead.Head)-5] ^= 1
	gap := dir
	gap.First = 3
	changed := dir
	changed.Records = append([]WireRecord(nil), dir.Records...)
	changed.Records[0].Payload = append(bytes.Clone(changed.Records[0].Payload), 'x')
	haves := make([]Message, messageBurst*2)
	for i := range haves {
		haves[i] = Have{}
	}
	for name, attack := range map[string]func(){
		"another site's name":  func() { h := hello; h.Site = b.id; r.say(CtlLane, h) },
		"another mesh":         func() { h := hello; h.Mesh = r.id; r.say(CtlLane, h) },
		"no hello":             func() { r.say(CtlLane, Ping{}) },
		"key of another site":  func() { r.say(CtlLane, hello, forged) },
		"log of another site":  func() { r.say(CtlLane, hello, stolen) },
		"head that is changed": func() { r.say(CtlLane, hello, good, badHead) },
		"record that is changed": func() {
			r.say(CtlLane, hello, good, changed)
		},
		"records on the wrong lane": func() { r.say(CtlLane, hello, good); time.Sleep(50 * time.Millisecond); r.say(RecLane, dir) },
		"a frame too long": func() {
			_, _ = r.conns[CtlLane].Write(append(binary.BigEndian.AppendUint32(nil, 1<<30), Batch{}.kind()))
		},
		"no message":   func() { _ = WriteFrame(r.conns[CtlLane], []byte{Have{}.kind(), 0xff, 0xff}) },
		"endless Have": func() { r.say(CtlLane, hello); r.say(CtlLane, haves...) },
		"made-up fork": func() {
			r.say(CtlLane, hello, good, Forked{Fork{Origin: a.ctl.Log().Origin(), Size: 1, A: Branch{Head: dir.Head}, B: Branch{Head: dir.Head}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.link(a)
			defer r.close()
			attack()
			if err := r.hungUp(CtlLane); err != nil {
				t.Error(err)
			}
			a.write(a.ctl, 1, 10)
			b.has(a)
		})
	}
	t.Run("a gap, a repetition", func(t *testing.T) { // happens to honest peers as well
		r.link(a)
		defer r.close()
		r.say(CtlLane, hello, good, gap, dir, dir, gap)
		o := dir.Origin
		a.waitFor("the rogue's own record", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			log := a.copies[o]
			if log == nil {
				return false
			}
			size, _ := log.Size()
			return size == 1
		})
	})
	standing, err := a.node.Status(t.Context())
	if err != nil || standing[0].Site != b.id || standing[0].Links == 0 {
		t.Errorf("the link to b has suffered: %+v, %v", standing, err)
	}
	if size, root := b.ctl.Log().Size(); true {
		log := a.copies[of]
		if have, same := log.Size(); have != size || same != root {
			t.Errorf("a's copy of b's log has %d records, b has %d", have, size)
		}
	}
}

// madeUpLog is a good log of the rogue's own with one record.
func (r *rogue) madeUpLog() (Key, Batch) {
	r.t.Helper()
	log := r.ctl.Log()
	var entries []events.Entry
	for e, err := range log.Read(r.t.Context(), 1) {
		if err != nil {
			r.t.Fatal(err)
		}
		entries = append(entries, e)
	}
	var tree evidence.Tree
	for _, e := range entries {
		tree.Append(evidence.LeafHash(e.Header))
	}
	head, err := r.ctl.Sign(log.Origin(), tree.Size(), tree.Root())
	if err != nil {
		r.t.Fatal(err)
	}
	key := Vouch(r.identity, log.Origin(), r.ctl.Key(log.Origin()))
	return key, Batch{Origin: log.Origin(), First: 1, Records: wireRecords(entries), Head: head.Note}
}

// A member pushes good records of its own faster than a slow disk takes them, and does
// not wait for acknowledgements: what is held in memory for it is bounded, then its link
// ends.
func TestPushesBeyondTheWindow(t *testing.T) {
	s := newSiege(t)
	s.a.mu.Lock()
	s.a.slow = 3 * time.Second
	s.a.mu.Unlock()
	s.r.write(s.r.ctl, 60, 500_000)
	log := s.r.ctl.Log()
	said := []Message{s.hello(), Vouch(s.r.identity, log.Origin(), s.r.ctl.Key(log.Origin()))}
	var tree evidence.Tree
	for e, err := range log.Read(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		tree.Append(evidence.LeafHash(e.Header))
		head, err := s.r.ctl.Sign(log.Origin(), tree.Size(), tree.Root())
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, Batch{Origin: log.Origin(), First: tree.Size(), Records: wireRecords([]events.Entry{e}), Head: head.Note})
	}
	s.during(func() {
		s.r.link(s.a)
		defer s.r.close()
		s.r.say(CtlLane, said...)
		if err := s.r.hungUp(CtlLane); err != nil {
			t.Error(err)
		}
	})
	s.named(s.r.id.String(), "that are not acknowledged")
}
