package gateway

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
	"github.com/holdfast-pam/holdfast/gateway/gatewaytest"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// newSealer is an unsealed sealer on a key table of its own.
func newSealer(t testing.TB) *seal.Sealer {
	t.Helper()
	site := uuid.New()
	keyFile, err := seal.CreateKeyFile(filepath.Join(t.TempDir(), "site.key"))
	must(t, err)
	public, err := keyFile.Public(site)
	must(t, err)
	path := filepath.Join(t.TempDir(), "keys")
	must(t, seal.CreateKeyTable(path))
	table, err := seal.OpenKeyTable(path, seal.TableOptions{})
	must(t, err)
	sealer, err := seal.NewSealer(seal.Config{Table: table, Site: public})
	must(t, err)
	must(t, sealer.Unseal(context.Background(), keyFile))
	t.Cleanup(func() { table.Close() })
	return sealer
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeLog is a rec log in memory with a gate: what is submitted becomes durable when the test says so.
type fakeLog struct {
	writer *store.Writer
	log    *memory.Log

	mu      sync.Mutex
	gate    *sync.Cond
	held    bool
	err     error
	durable func([]events.Record) // told of what is; may be nil
}

func newFakeLog(t testing.TB) *fakeLog {
	disk := memory.New(events.Origin{Site: events.SiteID{UUID: uuid.New()}, Epoch: 1, Kind: events.Rec})
	log, err := disk.Open()
	must(t, err)
	writer, err := store.NewWriter(log, store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now})
	must(t, err)
	t.Cleanup(func() { writer.Close() })
	l := &fakeLog{writer: writer, log: log}
	l.gate = sync.NewCond(&l.mu)
	return l
}

func (l *fakeLog) submit(prepared []store.Prepared, m manner, done func(error)) {
	l.mu.Lock()
	plain := !l.held && l.err == nil
	l.mu.Unlock()
	if m == here && plain {
		submitTo(l.writer, l.durable, nil)(prepared, here, done)
		return
	}
	go func() {
		l.mu.Lock()
		for l.held {
			l.gate.Wait()
		}
		err := l.err
		l.mu.Unlock()
		if err != nil {
			done(err)
			return
		}
		submitTo(l.writer, l.durable, nil)(prepared, m, done)
	}()
}

func (l *fakeLog) hold(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	l.gate.Broadcast()
}

func (l *fakeLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// events reads the log back.
func (l *fakeLog) events(t testing.TB) (all []events.Event) {
	t.Helper()
	for entry, err := range l.log.Read(context.Background(), 1) {
		must(t, err)
		r, err := events.DecodeEntry(entry)
		must(t, err)
		e, err := r.Event()
		must(t, err)
		all = append(all, e)
	}
	return all
}

// sent rebuilds, from the log alone, the packets that the session sends in a direction.
func (l *fakeLog) sent(t testing.TB, s *session, d events.Direction) [][]byte {
	t.Helper()
	dropped, made, altered := map[uint64]bool{}, map[uint64][]byte{}, map[uint64][]events.Edit{}
	var received [][]byte
	for _, event := range l.events(t) {
		switch e := event.(type) {
		case events.SessionPacketDropped:
			if e.Direction == d {
				dropped[e.Number] = true
			}
		case events.SessionPacketAltered:
			if e.Direction == d {
				altered[e.Number] = e.Edits
			}
		case events.SessionPacketMade:
			if e.Direction == d {
				made[e.Output] = e.Packet
			}
		case events.SessionPackets:
			if e.Direction != d {
				continue
			}
			if e.First != uint64(len(received)) {
				t.Fatalf("%s: record begins with packet %d, want %d", d, e.First, len(received))
			}
			block, err := openBlock(s.key, s.session, &e)
			must(t, err)
			packets, err := e.Packets(block)
			must(t, err)
			if len(block) > recordSize && len(packets) > 1 {
				t.Errorf("%s: %d packets in a record of %d bytes", d, len(packets), len(block))
			}
			for _, p := range packets {
				changed, err := events.ApplyEdits(p.Bytes, altered[p.Number])
				must(t, err)
				received = append(received, changed)
			}
		}
	}
	var out [][]byte
	place := func() {
		for made[uint64(len(out))] != nil {
			out = append(out, made[uint64(len(out))])
		}
	}
	for n, p := range received {
		place()
		if !dropped[uint64(n)] {
			out = append(out, p)
		}
	}
	place()
	return out
}

// openBlock needs an unsealed sealer; the key that sealed the block in this process opens it as well.
func openBlock(key *seal.DataKey, id events.SessionID, e *events.SessionPackets) ([]byte, error) {
	return key.Open(e.Sealed, seal.Binding{Purpose: PacketsPurpose(e.Direction), ID: id.UUID, Number: e.First})
}

// rig is a session between two ends in memory.
type rig struct {
	t              testing.TB
	session        *session
	log            *fakeLog
	client, target *gatewaytest.End
	refused        chan events.SessionRefused
	ended          chan events.SessionEnded
}

func newRig(t testing.TB, limit int, change ...func(*session)) *rig {
	t.Helper()
	sealer := newSealer(t)
	id := events.SessionID{UUID: uuid.New()}
	key, err := sealer.NewKey(context.Background(), id.UUID)
	must(t, err)
	gatewaytest.NoLeaks(t)
	client, a := gatewaytest.Pipe(limit)
	target, b := gatewaytest.Pipe(limit)
	r := &rig{
		t: t, log: newFakeLog(t), client: client, target: target,
		refused: make(chan events.SessionRefused, 1000), ended: make(chan events.SessionEnded, 1),
	}
	r.session = &session{
		scribe: scribe{session: id, actor: events.UnknownActor(), key: key},
		legs:   [2]*leg{{packetConn: a, rekey: &rekeyGate{}}, {packetConn: b, rekey: &rekeyGate{}}},
		refuse: func(_ context.Context, e events.SessionRefused) error { r.refused <- e; return nil },
		relay:  relay.New(relay.Policy{}, relay.Limits{}), started: time.Now(),
	}
	for _, f := range change {
		f(r.session)
	}
	r.session.init(r.log.submit, r.log.writer.Crowded, 300*time.Millisecond)
	go func() { r.ended <- r.session.run() }()
	t.Cleanup(func() { client.Close(); target.Close() })
	return r
}

func (r *rig) wait() events.SessionEnded {
	r.t.Helper()
	select {
	case e := <-r.ended:
		return e
	case <-time.After(10 * time.Second):
		r.t.Fatal("the session does not end")
		return events.SessionEnded{}
	}
}

type message interface{ Append([]byte) []byte }

func send(t testing.TB, end *gatewaytest.End, messages ...message) {
	t.Helper()
	for _, m := range messages {
		must(t, end.WritePacket(m.Append(nil)))
	}
	must(t, end.Flush())
}

func want(t testing.TB, end *gatewaytest.End, messages ...message) {
	t.Helper()
	for _, m := range messages {
		p, err := end.ReadPacket()
		must(t, err)
		if !bytes.Equal(p, m.Append(nil)) {
			t.Fatalf("got %q, want %q", p, m.Append(nil))
		}
	}
}

// wantEnd reads until the connection ends and returns how.
func wantEnd(end *gatewaytest.End) (packets [][]byte, err error) {
	for {
		p, err := end.ReadPacket()
		if err != nil {
			return packets, err
		}
		packets = append(packets, bytes.Clone(p))
	}
}

// open makes channel 1 (client) and 2 (target).
func (r *rig) open() {
	r.t.Helper()
	open := sshwire.ChannelOpen{Type: "session", Sender: 1, Window: 1 << 30, MaxPacket: 1 << 15}
	send(r.t, r.client, open)
	want(r.t, r.target, open)
	confirm := sshwire.ChannelOpenConfirmation{Recipient: 1, Sender: 2, Window: 1 << 30, MaxPacket: 1 << 15}
	send(r.t, r.target, confirm)
	want(r.t, r.client, confirm)
}

func toTarget(format string, args ...any) message {
	return sshwire.ChannelData{Recipient: 2, Data: fmt.Appendf(nil, format, args...)}
}

func toClient(format string, args ...any) message {
	return sshwire.ChannelData{Recipient: 1, Data: fmt.Appendf(nil, format, args...)}
}
