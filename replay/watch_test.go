package replay

import (
	"bytes"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay/screen"
)

// viewer is the terminal of somebody who watches a tape.
type viewer struct {
	*testing.T
	terminal *screen.Screen
	written  bytes.Buffer
	picture  *Picture
}

func newViewer(t *testing.T, cols, rows int) *viewer {
	v := &viewer{T: t, terminal: screen.New(screen.Options{Cols: cols, Rows: rows})}
	v.picture = NewPicture(v, cols, rows)
	return v
}

func (v *viewer) Write(p []byte) (int, error) {
	v.written.Write(p)
	return v.terminal.Write(p)
}

func (v *viewer) watch(p *tape, channel int) {
	v.Helper()
	for e, err := range Watched(p.commit().source(), channel) {
		if err != nil {
			v.Fatal(err)
		}
		v.picture.Take(&e)
	}
}

// shows compares the top lines of the terminal.
func (v *viewer) shows(want ...string) {
	v.Helper()
	if err := v.picture.Show(); err != nil {
		v.Fatal(err)
	}
	got := strings.Split(v.terminal.Text(), "\n")
	for i, line := range want {
		if got[i] != line {
			v.Fatalf("line %d is %q, want %q; the terminal shows\n%s", i, got[i], line, v.terminal.Text())
		}
	}
}

func pty(cols, rows uint32) []byte {
	return sshwire.PtyRequest{Term: "xterm", Columns: cols, Rows: rows}.Append(nil)
}

func TestPictureIsTheScreenAsItIs(t *testing.T) {
	p := (&tape{}).open(0, "session")
	p.ask(0, "pty-req", pty(20, 4))
	p.stdout(0, strings.Repeat("scrolled away\r\n", 100)+"\x1b[2J\x1b[H$ vi\r\n\x1b]52;c;ZXZpbA==\x07\x1b[31mred\x1b[6n")
	p.stdin(0, "not shown")
	v := newViewer(t, 30, 10)
	v.watch(p, FirstSession)
	if v.written.Len() != 0 {
		t.Errorf("before it is asked to, it draws %q", v.written.String())
	}
	v.shows("$ vi", "red", "", "")
	if s := v.written.String(); strings.Contains(s, "scrolled") || strings.Contains(s, "52;c") || strings.Contains(s, "6n") {
		t.Errorf("it draws %q", s)
	}
	if err := v.picture.Resize(4, 2); err != nil {
		t.Fatal(err)
	}
	v.terminal.Resize(4, 2)
	v.terminal.Write(v.written.Bytes())
	v.shows("$ vi", "red")
	if err := v.picture.Close(); err != nil || v.terminal.Alternate() {
		t.Errorf("close: %v", err)
	}
}

// A program without a terminal is shown in the watcher's; who asked for one and got none too.
func TestPictureWithoutPty(t *testing.T) {
	p := (&tape{}).open(0, "session")
	p.stdout(0, "one\ntwo\n")
	p.stderr(0, "three\n")
	v := newViewer(t, 20, 5)
	v.watch(p, FirstSession)
	v.shows("one", "two", "three")

	p = (&tape{}).open(0, "session")
	p.pass(0, sshwire.ChannelRequest{Recipient: 100, Type: "pty-req", WantReply: true, Payload: pty(2, 2)})
	p.commit().pass(1, sshwire.ChannelFailure{Recipient: 0})
	p.commit().stdout(0, "wide lines\n")
	p.commit().pass(1, sshwire.ChannelRequest{Recipient: 0, Type: "pty-req", Payload: pty(1, 1)}) // not the target's to ask
	p.stdout(0, "more")
	v = newViewer(t, 20, 5)
	v.watch(p, FirstSession)
	v.shows("wide lines", "more")
}

// A watcher stays with a channel while it is open, and goes to the next one that opens.
func TestWatchedChannel(t *testing.T) {
	p := (&tape{}).open(0, "direct-tcpip").open(1, "session")
	p.stdout(1, "first")
	p.commit().open(2, "session")
	p.stdout(2, "beside it")
	p.stdout(1, " still")
	v := newViewer(t, 20, 5)
	v.watch(p, FirstSession)
	v.shows("first still")
	p.exit(1, 0).open(1, "session")
	p.stdout(2, "beside it again")
	p.stdout(1, "third")
	v = newViewer(t, 20, 5)
	v.watch(p, FirstSession)
	v.shows("third")
	v = newViewer(t, 20, 5)
	v.watch(p, 2)
	v.shows("beside itbeside it a", "gain")
	v = newViewer(t, 20, 5)
	v.watch(p, 9) // not open yet
	v.shows("")
}

func TestWatchedGivesErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	src := iter.Seq2[Item, error](func(yield func(Item, error) bool) { yield(Item{}, broken) })
	for _, err := range Watched(src, FirstSession) {
		if !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		return
	}
	t.Error("no error")
}
