package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// conversation is a random session and what each of its channels carried.
type conversation struct {
	tape
	live    map[uint32]int // index by the client's number
	streams []map[Stream][]byte
}

// converse draws a session: channels that open, carry data, are refused and closed, numbers that are used again,
// requests that the gateway refuses between others, in commits and blocks of any size.
func converse(t *rapid.T) *conversation {
	c := &conversation{live: map[uint32]int{}}
	c.outLead = rapid.Bool().Draw(t, "target's packets first")
	c.block = rapid.IntRange(0, 3).Draw(t, "block")
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		c.wait(time.Duration(rapid.IntRange(0, 2000).Draw(t, "µs")) * time.Microsecond)
		c.step(t)
		if rapid.IntRange(0, 3).Draw(t, "commit") == 0 {
			c.commit()
		}
	}
	c.commit()
	return c
}

func (c *conversation) step(t *rapid.T) {
	if len(c.live) == 0 {
		c.openOne(t)
		return
	}
	ids := make([]uint32, 0, len(c.live))
	for id := range c.live {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := rapid.SampledFrom(ids).Draw(t, "channel")
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		c.openOne(t)
	case 1:
		c.commit()
		c.close(id)
		delete(c.live, id)
	case 2:
		c.refusals(t, id)
	default:
		data := rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(t, "data")
		s := rapid.SampledFrom([]Stream{In, Out, Err}).Draw(t, "stream")
		c.streams[c.live[id]][s] = append(c.streams[c.live[id]][s], data...)
		switch s {
		case In:
			c.stdin(id, string(data))
		case Out:
			c.stdout(id, string(data))
		case Err:
			c.stderr(id, string(data))
		}
	}
}

// openOne opens a channel under a number that is free, or has it refused.
func (c *conversation) openOne(t *rapid.T) {
	id := uint32(0)
	for used := true; used; {
		if _, used = c.live[id]; used {
			id++
		}
	}
	c.commit()
	c.streams = append(c.streams, map[Stream][]byte{})
	if rapid.IntRange(0, 3).Draw(t, "refused") == 0 {
		number := c.drop(0, sshwire.ChannelOpen{Type: "direct-tcpip", Sender: id})
		c.make(1, sshwire.ChannelOpenFailure{Recipient: id, Reason: 1, Text: "not allowed"}, number)
		c.commit()
		return
	}
	c.live[id] = len(c.streams) - 1
	c.open(id, "session")
}

// refusals has the gateway refuse one of three requests that are under way together.
func (c *conversation) refusals(t *rapid.T, id uint32) {
	request := func(kind string) message {
		return sshwire.ChannelRequest{Recipient: id + 100, Type: kind, WantReply: true}
	}
	c.pass(0, request("first@test"))
	number := c.drop(0, request("refused@test"))
	c.pass(0, request("last@test"))
	if rapid.Bool().Draw(t, "commit") {
		c.commit()
	}
	c.commit()
	c.pass(1, sshwire.ChannelSuccess{Recipient: id})
	c.make(1, sshwire.ChannelFailure{Recipient: id}, number)
	c.pass(1, sshwire.ChannelSuccess{Recipient: id})
}

// Every byte of every stream comes back, however packets, blocks and commits were cut.
func TestStreamsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := converse(t)
		described, err := Describe(c.source())
		if err != nil {
			t.Fatal(err)
		}
		if len(described.Channels) != len(c.streams) || described.Stray+described.Unknown+described.Malformed != 0 {
			t.Fatalf("%d channels of %d, stray %d", len(described.Channels), len(c.streams), described.Stray)
		}
		for i, streams := range c.streams {
			sums := map[Stream]string{}
			for _, s := range described.Channels[i].Streams {
				sums[s.Stream] = s.SHA256
			}
			for _, s := range []Stream{In, Out, Err} {
				var got bytes.Buffer
				if err := Raw(&got, c.source(), RawOptions{Channel: i, Stream: s}); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), streams[s]) {
					t.Fatalf("channel %d %s: %q, want %q", i, s, got.Bytes(), streams[s])
				}
				sum := sha256.Sum256(streams[s])
				if sums[s] != "" && sums[s] != hex.EncodeToString(sum[:]) {
					t.Fatalf("channel %d %s: wrong sum", i, s)
				}
			}
		}
	})
}

// Every reply reaches its request, also those that the gateway made, and no direction is out of order.
func TestRepliesReachTheirRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := converse(t)
		next := [2]uint64{}
		for e, err := range Events(c.source()) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == KindReply && e.OK != (e.Request != "refused@test") {
				t.Fatalf("reply %v to %q", e.OK, e.Request)
			}
			i, _ := index(e.Direction)
			if !e.Made {
				if e.Number != next[i] {
					t.Fatalf("packet %d (%s), expected %d", e.Number, e.Direction, next[i])
				}
				next[i]++
			}
		}
		if next != [2]uint64{c.sides[0].received, c.sides[1].received} {
			t.Fatalf("%v packets of %d and %d", next, c.sides[0].received, c.sides[1].received)
		}
	})
}

// A recording may end after any record: what there is decodes, and is a beginning of the whole.
func TestCutRecording(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := converse(t)
		c.records = c.records[:rapid.IntRange(0, len(c.records)).Draw(t, "records")]
		described, err := Describe(c.source())
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range described.Channels {
			for _, s := range []Stream{In, Out, Err} {
				var got bytes.Buffer
				if err := Raw(&got, c.source(), RawOptions{Channel: info.Index, Stream: s}); err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(c.streams[info.Index][s], got.Bytes()) {
					t.Fatalf("channel %d %s: %q isn't a beginning of %q", info.Index, s, got.Bytes(), c.streams[info.Index][s])
				}
			}
		}
	})
}

// A lost record is told, and the rest is still there.
func TestGap(t *testing.T) {
	p := &tape{}
	p.open(0, "session").ask(0, "shell", nil)
	p.stdout(0, "before ")
	p.commit()
	kept := len(p.records)
	p.stdout(0, "lost")
	p.stdout(0, "lost")
	p.commit()
	p.records = p.records[:kept]
	p.stdout(0, "after")
	p.exit(0, 0)

	var raw bytes.Buffer
	err := Raw(&raw, p.source(), RawOptions{Channel: FirstSession})
	var incomplete *IncompleteError
	if !errors.As(err, &incomplete) || incomplete.Missing != 2 || incomplete.Number != 3 || incomplete.Direction != events.Out {
		t.Errorf("error %v", err)
	}
	if raw.String() != "before after" {
		t.Errorf("raw %q", raw.String())
	}
	var text, film bytes.Buffer
	if Transcript(&text, p.source(), TranscriptOptions{Channel: FirstSession}); text.String() != "before \n[the recording lacks 2 packets]\nafter" {
		t.Errorf("transcript %q", text.String())
	}
	if Cast(&film, p.source(), CastOptions{Channel: FirstSession}); readCast(t, film.Bytes()).joined("m") != "the recording lacks 2 packets" {
		t.Errorf("cast %s", film.String())
	}
	described, err := Describe(p.source())
	if err != nil || described.Complete || described.Out.Missing != 2 {
		t.Errorf("described %+v, %v", described, err)
	}
}

func TestRecordOrderIsChecked(t *testing.T) {
	packets := func(first uint64) Record {
		return packetsRecord(events.In, []events.Packet{{Number: first, Bytes: []byte{192}}})
	}
	broken := packets(0)
	broken.Block = broken.Block[:len(broken.Block)-1]
	for name, records := range map[string][]Record{
		"a drop after its packet": {packets(0), {Dropped: &events.SessionPacketDropped{Direction: events.In}}},
		"a packet twice":          {packets(0), packets(0)},
		"an empty record":         {{}},
		"an unknown direction":    {{Made: &events.SessionPacketMade{Direction: "up"}}},
		"a block that is cut":     {broken},
	} {
		var err error
		for _, e := range Items(recordsOf(records)) {
			err = e
		}
		if !errors.Is(err, ErrRecordOrder) && !errors.Is(err, events.ErrBadBlock) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// What waits for a cause that never comes is given out in the end, and doesn't pile up before.
func TestMadeWithoutCause(t *testing.T) {
	m := sshwire.ChannelFailure{Recipient: 1}.Append(nil)
	records := []Record{{Made: &events.SessionPacketMade{Direction: events.Out, Refuses: 1 << 60, Packet: m}}}
	big := make([]byte, 1<<20)
	const blocks = 20
	for i := range uint64(blocks) {
		records = append(records, packetsRecord(events.Out, []events.Packet{{Number: i, Bytes: big}}))
	}
	read, ahead := 0, 0
	given := 0
	seq := func(yield func(Record, error) bool) {
		for _, r := range records {
			read++
			if !yield(r, nil) {
				return
			}
		}
	}
	for item, err := range Items(seq) {
		if err != nil {
			t.Fatal(err)
		}
		given++
		if ahead = max(ahead, read-given); item.Made && given > 10 {
			t.Errorf("the made packet came as item %d", given)
		}
	}
	if given != blocks+1 || ahead > 12 {
		t.Errorf("%d items, %d blocks held at most", given, ahead)
	}
}

// fault fails after some records.
func TestSourceErrorsComeThrough(t *testing.T) {
	broken := errors.New("disk on fire")
	p := shell()
	src := Items(func(yield func(Record, error) bool) {
		for _, r := range p.records[:len(p.records)-2] {
			if !yield(r, nil) {
				return
			}
		}
		yield(Record{}, broken)
	})
	for name, export := range map[string]func(*bytes.Buffer) error{
		"raw":        func(b *bytes.Buffer) error { return Raw(b, src, RawOptions{}) },
		"cast":       func(b *bytes.Buffer) error { return Cast(b, src, CastOptions{}) },
		"transcript": func(b *bytes.Buffer) error { return Transcript(b, src, TranscriptOptions{}) },
		"describe": func(b *bytes.Buffer) error {
			r, err := Describe(src)
			if len(r.Channels) != 1 || r.Complete {
				t.Errorf("described %+v", r)
			}
			fmt.Fprint(b, "$ ")
			return err
		},
		"summarize": func(b *bytes.Buffer) error {
			s, err := Summarize(src)
			fmt.Fprint(b, "$ ", s)
			return err
		},
	} {
		var b bytes.Buffer
		if err := export(&b); !errors.Is(err, broken) {
			t.Errorf("%s: error %v", name, err)
		}
		if !bytes.Contains(b.Bytes(), []byte("$ ")) {
			t.Errorf("%s: what came before the error is lost: %q", name, b.String())
		}
	}
}

func TestChannelThatIsNotThere(t *testing.T) {
	p := (&tape{}).open(0, "direct-tcpip")
	for _, channel := range []int{FirstSession, 1} {
		if err := Raw(&bytes.Buffer{}, p.source(), RawOptions{Channel: channel}); !errors.Is(err, ErrNoChannel) {
			t.Errorf("channel %d: %v", channel, err)
		}
	}
	if err := Raw(&bytes.Buffer{}, p.source(), RawOptions{Stream: "up"}); err == nil {
		t.Error("an unknown stream is taken")
	}
	if err := Cast(&bytes.Buffer{}, p.source(), CastOptions{Version: 1}); err == nil {
		t.Error("asciicast version 1 is taken")
	}
}

// Random bytes on a channel are exact in raw, and a valid cast, transcript and JSON.
func TestRandomBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &tape{block: rapid.IntRange(0, 2).Draw(t, "block")}
		p.open(0, "session")
		if rapid.Bool().Draw(t, "terminal") {
			p.ask(0, "pty-req", sshwire.PtyRequest{
				Term: string(rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "term")), Columns: rapid.Uint32().Draw(t, "columns"),
			}.Append(nil))
		}
		var want []byte
		for _, chunk := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 40), 0, 10).Draw(t, "chunks") {
			want = append(want, chunk...)
			p.stdout(0, string(chunk))
		}
		p.exit(0, 0)
		var raw, film, text bytes.Buffer
		if err := errors.Join(
			Raw(&raw, p.source(), RawOptions{Channel: FirstSession}),
			Cast(&film, p.source(), CastOptions{Channel: FirstSession}),
			Transcript(&text, p.source(), TranscriptOptions{Channel: FirstSession}),
		); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw.Bytes(), want) {
			t.Fatalf("raw %q, want %q", raw.Bytes(), want)
		}
		if got := readCast(t, film.Bytes()).joined("o"); got != string([]rune(string(want))) {
			t.Fatalf("cast %q of %q", got, want)
		}
		harmless(t, text.Bytes())
		described, err := Describe(p.source())
		if err != nil {
			t.Fatal(err)
		}
		if b, err := json.Marshal(described); err != nil {
			t.Fatal(err)
		} else {
			harmless(t, b)
		}
	})
}

// Nothing grows with the recording: 18 MiB of output (288 with HOLDFAST_TEST_FULL=1), with as many requests as data
// packets, pass through every export, which may keep 8 MiB.
func TestMemoryDoesNotGrow(t *testing.T) {
	p := (&tape{}).open(0, "session").ask(0, "pty-req", sshwire.PtyRequest{Columns: 80, Rows: 24}.Append(nil))
	head := p.records
	text := bytes.Repeat([]byte("some output of a program that talks a lot\r\n"), 700)
	data := sshwire.ChannelData{Recipient: 0, Data: text}.Append(nil)
	request := sshwire.ChannelRequest{Recipient: 0, Type: "keepalive@openssh.com", WantReply: true}.Append(nil)
	var most uint64
	blocks := uint64(600)
	if os.Getenv("HOLDFAST_TEST_FULL") == "1" {
		blocks *= 16
	}
	records := func(yield func(Record, error) bool) {
		for _, r := range head {
			if !yield(r, nil) {
				return
			}
		}
		for i := range blocks {
			if i%(blocks/4) == blocks/4-1 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
			n := p.sides[1].received + 2*i
			if !yield(packetsRecord(events.Out, []events.Packet{{Number: n, Bytes: data}, {Number: n + 1, Bytes: request}}), nil) {
				return
			}
		}
	}
	for name, export := range map[string]func(Source) error{
		"raw":        func(s Source) error { return Raw(io.Discard, s, RawOptions{Channel: FirstSession}) },
		"cast":       func(s Source) error { return Cast(io.Discard, s, CastOptions{Channel: FirstSession}) },
		"transcript": func(s Source) error { return Transcript(io.Discard, s, TranscriptOptions{Channel: FirstSession}) },
		"play":       func(s Source) error { return Play(t.Context(), io.Discard, s, PlayOptions{Channel: FirstSession}) },
		"describe":   func(s Source) error { _, err := Describe(s); return err },
	} {
		var before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		most = 0
		if err := export(Items(records)); err != nil {
			t.Fatal(err)
		}
		if most > before.HeapAlloc+8<<20 {
			t.Errorf("%s: %d MiB in use, %d before", name, most>>20, before.HeapAlloc>>20)
		}
	}
}
