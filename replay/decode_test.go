package replay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// kinds tells the events of a tape in short.
func kinds(t *testing.T, p *tape) string {
	t.Helper()
	var b strings.Builder
	for _, e := range collect(t, Events(p.commit().source())) {
		fmt.Fprintf(&b, "%s %s", e.Direction, e.Kind)
		if e.Channel != nil {
			fmt.Fprintf(&b, " #%d", e.Channel.Index)
		}
		if e.Request != "" {
			fmt.Fprintf(&b, " %s", e.Request)
		}
		if e.Made {
			b.WriteString(" made")
		}
		if e.Dropped {
			b.WriteString(" dropped")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		talk func(p *tape)
		want []string
	}{
		"a number is used again after both sides closed": {
			func(p *tape) {
				p.open(7, "session").close(7).open(7, "session").stdout(7, "x")
			},
			[]string{"in open #0", "out opened #0", "out eof #0", "out close #0", "in close #0", "in open #1", "out opened #1", "out data #1"},
		},
		"data after a close, before an opening and for nobody is stray": {
			func(p *tape) {
				p.open(7, "session").pass(1, sshwire.ChannelClose{Recipient: 7})
				p.stdout(7, "late")
				p.stdin(7, "still allowed")
				p.commit()
				p.pass(0, sshwire.ChannelOpen{Type: "session", Sender: 8})
				p.commit()
				p.stdout(8, "early")
				p.stdout(99, "nobody")
				p.stdin(8, "nobody")
			},
			[]string{
				"in open #0", "out opened #0", "in data #0", "out close #0", "out stray", "in open #1",
				"in stray", "out stray", "out stray",
			},
		},
		"the target opens a channel": {
			func(p *tape) {
				p.pass(1, sshwire.ChannelOpen{Type: "forwarded-tcpip", Sender: 3})
				p.commit()
				p.pass(0, sshwire.ChannelOpenConfirmation{Recipient: 3, Sender: 4})
				p.commit()
				p.pass(1, sshwire.ChannelData{Recipient: 4, Data: []byte("x")})
				p.pass(0, sshwire.ChannelData{Recipient: 3, Data: []byte("y")})
			},
			[]string{"out open #0", "in opened #0", "in data #0", "out data #0"},
		},
		"a refused channel, request and global request": {
			func(p *tape) {
				open := p.drop(0, sshwire.ChannelOpen{Type: "direct-tcpip", Sender: 5})
				p.make(1, sshwire.ChannelOpenFailure{Recipient: 5, Reason: 1, Text: "no"}, open)
				p.commit()
				p.open(5, "session")
				request := p.drop(0, sshwire.ChannelRequest{Recipient: 105, Type: "x11-req", WantReply: true})
				p.make(1, sshwire.ChannelFailure{Recipient: 5}, request)
				global := p.drop(0, sshwire.GlobalRequest{Type: "tcpip-forward", WantReply: true})
				p.make(1, sshwire.RequestFailure{}, global)
			},
			[]string{
				"in open #0 dropped", "out refused #0 made", "in open #1", "out opened #1",
				"in request #1 x11-req dropped", "in global request tcpip-forward dropped",
				"out reply #1 x11-req made", "out global reply tcpip-forward made",
			},
		},
		"what is not known or not in order stays": {
			func(p *tape) {
				p.raw(0, []byte{192, 1, 2})
				p.raw(0, nil)
				p.raw(0, []byte{sshwire.MsgChannelData, 0, 0})
				p.raw(0, []byte{5})
				p.pass(0, sshwire.RequestFailure{})
				p.pass(0, sshwire.ChannelOpenConfirmation{Recipient: 1})
			},
			[]string{"in unknown", "in malformed", "in malformed", "in unknown", "in global reply", "in stray"},
		},
	} {
		p := &tape{}
		c.talk(p)
		if got := strings.Split(strings.TrimSpace(kinds(t, p)), "\n"); strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s:\n  %s\nwant\n  %s", name, strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
		}
	}
}

// What a side may not say, or the other refused, isn't taken for a fact.
func TestFacts(t *testing.T) {
	p := &tape{}
	p.open(0, "session")
	p.pass(1, sshwire.ChannelRequest{Recipient: 0, Type: "exec", Payload: sshwire.ExecRequest{Command: "from the target"}.Append(nil)})
	p.pass(0, sshwire.ChannelRequest{Recipient: 100, Type: "exit-status", Payload: sshwire.ExitStatus{Code: 9}.Append(nil)})
	p.pass(0, sshwire.ChannelRequest{Recipient: 100, Type: "pty-req", WantReply: true,
		Payload: sshwire.PtyRequest{Term: "xterm", Columns: 80, Rows: 24}.Append(nil)})
	p.commit()
	p.pass(1, sshwire.ChannelFailure{Recipient: 0})
	p.commit()
	p.pass(0, sshwire.ChannelRequest{Recipient: 100, Type: "subsystem", WantReply: true, Payload: sshwire.SubsystemRequest{Name: "sftp"}.Append(nil)})
	p.commit()
	p.pass(1, sshwire.ChannelFailure{Recipient: 0})
	p.commit()
	p.ask(0, "exec", sshwire.ExecRequest{Command: "uptime"}.Append(nil))
	p.ask(0, "shell", nil)
	p.stdin(0, "abc")
	p.stderr(0, "defg")
	p.pass(1, sshwire.ChannelRequest{Recipient: 0, Type: "exit-signal", Payload: sshwire.ExitSignal{Signal: "TERM"}.Append(nil)})
	p.wait(time.Second).close(0)

	described, err := Describe(p.source())
	if err != nil {
		t.Fatal(err)
	}
	c := described.Channels[0]
	if c.Pty != nil || c.Program == nil || c.Program.Command != "uptime" || c.ExitStatus != nil || c.ExitSignal != "TERM" {
		t.Errorf("channel %+v, program %+v", c, c.Program)
	}
	s, err := Summarize(p.source())
	if err != nil || s.BytesIn != 3 || s.BytesOut != 4 || s.Channels != 1 || s.Duration != time.Second ||
		s.Program == nil || s.Program.Kind != "exec" || s.ExitSignal != "TERM" || s.ExitStatus != nil {
		t.Errorf("summary %+v, %v", s, err)
	}
}

func TestSummaryOfAProgramThatEnded(t *testing.T) {
	s, err := Summarize(shell().source())
	if err != nil || s.Program.Kind != "shell" || s.ExitStatus == nil || *s.ExitStatus != 3 {
		t.Errorf("summary %+v, %v", s, err)
	}
}

// Dropped data never reached the other side, so it is in no export.
func TestDroppedDataIsNotExported(t *testing.T) {
	p := (&tape{}).open(0, "session")
	p.stdout(0, "a")
	p.drop(1, sshwire.ChannelData{Recipient: 0, Data: []byte("never delivered")})
	p.stdout(0, "b")
	p.exit(0, 0)
	if got := rawOf(t, p.source(), FirstSession, Out); got != "ab" {
		t.Errorf("raw %q", got)
	}
	if s, _ := Summarize(p.source()); s.BytesOut != 2 {
		t.Errorf("%d bytes out", s.BytesOut)
	}
}

// Times are those of the packets; views are ordered by them, with cause before effect where they are equal.
func TestByTime(t *testing.T) {
	p := (&tape{}).open(0, "session")
	for i := range 6 {
		p.wait(time.Millisecond)
		if i%2 == 0 {
			p.stdin(0, fmt.Sprint(i))
		} else {
			p.stdout(0, fmt.Sprint(i))
		}
	}
	p.commit()
	var got string
	for _, e := range collect(t, ByTime(Events(p.source()))) {
		got += string(e.Data)
	}
	if got != "012345" {
		t.Errorf("order %s", got)
	}
}

// A hostile recording doesn't make the decoder remember more and more.
func TestDecoderIsBounded(t *testing.T) {
	d := decoder{byID: [2]map[uint32]*Channel{{}, {}}}
	for i := range uint32(10 * maxChannels) {
		d.decode(0, Item{Direction: events.In, Packet: events.Packet{Bytes: sshwire.ChannelOpen{Type: "session", Sender: i}.Append(nil)}})
		d.decode(1, Item{Direction: events.Out, Packet: events.Packet{Bytes: sshwire.ChannelOpen{Type: "session", Sender: i}.Append(nil)}})
	}
	if n := len(d.byID[0]) + len(d.byID[1]); n > 2*maxChannels {
		t.Errorf("%d channels", n)
	}
	request := sshwire.GlobalRequest{Type: "keepalive@openssh.com", WantReply: true}.Append(nil)
	for range 10 * maxPending {
		d.decode(0, Item{Direction: events.In, Packet: events.Packet{Bytes: request}})
	}
	if n := len(d.global[0].types); n > maxPending {
		t.Errorf("%d requests", n)
	}
}

// A channel whose opening was refused is a film without pictures.
func TestRefusedChannelIsAnEmptyCast(t *testing.T) {
	p := &tape{}
	p.drop(0, sshwire.ChannelOpen{Type: "x11", Sender: 1})
	for range 2 {
		var film bytes.Buffer
		if err := Cast(&film, p.commit().source(), CastOptions{}); err != nil || len(readCast(t, film.Bytes()).lines) != 0 {
			t.Errorf("%v: %s", err, film.String())
		}
		p.make(1, sshwire.ChannelOpenFailure{Recipient: 1}, 0)
	}
}

// FuzzEvents gives the decoder any packets in any direction.
func FuzzEvents(f *testing.F) {
	for _, p := range []*tape{shell(), command()} {
		var seed []byte
		for item := range p.source() {
			i, _ := index(item.Direction)
			seed = append(seed, byte(i))
			seed = binary.BigEndian.AppendUint16(seed, uint16(len(item.Packet.Bytes)))
			seed = append(seed, item.Packet.Bytes...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		src := func(yield func(Item, error) bool) {
			number := [2]uint64{}
			for len(data) >= 3 {
				how, size := data[0], int(binary.BigEndian.Uint16(data[1:]))
				data = data[3:]
				size = min(size, len(data))
				i := how & 1
				item := Item{
					Direction: directions[i], Made: how&2 != 0, Dropped: how&6 == 4, Missing: uint64(how >> 6),
					Packet: events.Packet{Number: number[i] + uint64(how>>6), At: time.Duration(how) << 20, Bytes: data[:size:size]},
				}
				number[i] = item.Packet.Number + 1
				if data = data[size:]; !yield(item, nil) {
					return
				}
			}
		}
		all := data
		described, err := Describe(src)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range described.Channels[:min(len(described.Channels), 3)] {
			for _, s := range c.Streams {
				var raw bytes.Buffer
				data = all
				if err := Raw(&raw, src, RawOptions{Channel: c.Index, Stream: s.Stream}); err != nil && described.Complete {
					t.Fatal(err)
				}
				if uint64(raw.Len()) != s.Bytes {
					t.Fatalf("%d bytes of %d", raw.Len(), s.Bytes)
				}
			}
			var film, text bytes.Buffer
			data = all
			if err := Cast(&film, src, CastOptions{Channel: c.Index}); err == nil {
				readCast(t, film.Bytes())
			}
			data = all
			Transcript(&text, src, TranscriptOptions{Channel: c.Index})
			harmless(t, text.Bytes())
		}
	})
}

// FuzzItems gives the assembler any records.
func FuzzItems(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 2, 0, 2, 1, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		var records []Record
		for ; len(data) >= 3; data = data[3:] {
			d, n := directions[data[0]&1], uint64(data[1])
			switch data[0] >> 1 & 3 {
			case 0:
				records = append(records, packetsRecord(d, []events.Packet{{Number: n, Bytes: data[:1]}}))
			case 1:
				records = append(records, Record{Made: &events.SessionPacketMade{Direction: d, Output: n, Refuses: uint64(data[2])}})
			case 2:
				records = append(records, Record{Dropped: &events.SessionPacketDropped{Direction: d, Number: n}})
			case 3:
				records = append(records, Record{Packets: &events.SessionPackets{Direction: d, First: n, Count: 1}, Block: data})
			}
		}
		given, failed := 0, false
		last := [2]int64{-1, -1}
		for item, err := range Items(recordsOf(records)) {
			if err != nil {
				failed = true
				continue
			}
			given++
			if i, _ := index(item.Direction); !item.Made {
				if n := int64(item.Packet.Number); n-int64(item.Missing) != last[i]+1 {
					t.Fatalf("packet %d after %d, %d missing", n, last[i], item.Missing)
				}
				last[i] = int64(item.Packet.Number)
			}
		}
		want := 0
		for _, r := range records {
			if r.Dropped == nil {
				want++
			}
		}
		if !failed && given != want {
			t.Fatalf("%d items of %d records", given, want)
		}
	})
}

func BenchmarkEvents(b *testing.B) {
	p := (&tape{}).open(0, "session")
	for range 512 {
		p.stdout(0, strings.Repeat("x", 32<<10))
		p.commit()
	}
	b.SetBytes(512 * 32 << 10)
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(512 * 32 << 10)
		for b.Loop() {
			for range Events(p.source()) {
			}
		}
	})
	b.Run("raw", func(b *testing.B) {
		b.SetBytes(512 * 32 << 10)
		for b.Loop() {
			Raw(&discard{}, p.source(), RawOptions{})
		}
	})
	b.Run("cast", func(b *testing.B) {
		b.SetBytes(512 * 32 << 10)
		for b.Loop() {
			Cast(&discard{}, p.source(), CastOptions{})
		}
	})
	b.Run("keystrokes", func(b *testing.B) {
		k := (&tape{}).open(0, "session")
		for range 10000 {
			k.stdin(0, "x")
		}
		k.commit()
		b.SetBytes(10000)
		for b.Loop() {
			for range Events(k.source()) {
			}
		}
	})
}

// discard takes everything.
type discard struct{ n int }

func (d *discard) Write(p []byte) (int, error) {
	d.n += len(p)
	return len(p), nil
}

func TestMicrosecondsDoNotOverflow(t *testing.T) {
	if d := microseconds(math.MaxUint64); d < 0 {
		t.Errorf("%v", d)
	}
}
