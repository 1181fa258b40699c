package transfer

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
)

func asked(gate Gate, kind, command string) *Guard {
	g := NewGuard(gate)
	if r := g.Request(kind, command); r != nil {
		panic(r.Reason)
	}
	return g
}

var onlyDown, onlyUp = Gate{Download: true}, Gate{Upload: true}

// TestGuardOnRequests decides on each SFTP request for each direction, however the bytes are cut.
func TestGuardOnRequests(t *testing.T) {
	const both, up, down, none = "both", "up", "down", "none" // gates that let it pass
	for _, c := range []struct {
		name   string
		packet []byte
		passes string
		ends   bool // refused, it ends the client's half
	}{
		{"open to read", packet(fxpOpen, 1, "f", openRead, nothing), down, false},
		{"open with no flag", packet(fxpOpen, 1, "f", 0, nothing), down, false},
		{"open to create", packet(fxpOpen, 1, "f", creating, nothing), up, false},
		{"open for both", packet(fxpOpen, 1, "f", openRead|openWrite, nothing), up, false},
		{"open to read, truncating", packet(fxpOpen, 1, "f", openRead|openTruncate, nothing), none, false},
		{"open to read, creating", packet(fxpOpen, 1, "f", openRead|openCreate, nothing), none, false},
		{"open to append", packet(fxpOpen, 1, "f", openWrite|openAppend, nothing), up, false},
		{"read", packet(fxpRead, 1, "h", uint64(0), 9), down, false},
		{"write", packet(fxpWrite, 1, "h", uint64(0), "abc"), up, false},
		{"write to a handle that names an extension", packet(fxpWrite, 1, "posix-rename@openssh.com", "f", "g"), up, false},
		{"close", packet(fxpClose, 1, "h"), both, false},
		{"stat", packet(fxpStat, 1, "f"), both, false},
		{"opendir", packet(fxpOpendir, 1, "f"), both, false},
		{"readdir", packet(fxpReaddir, 1, "h"), both, false},
		{"realpath", packet(fxpRealpath, 1, "."), both, false},
		{"remove", packet(fxpRemove, 1, "f"), up, false},
		{"remove what names an extension", packet(fxpRemove, 1, "copy-data"), up, false},
		{"rename", packet(fxpRename, 1, "f", "g"), up, false},
		{"mkdir", packet(fxpMkdir, 1, "f", nothing), up, false},
		{"rmdir", packet(fxpRmdir, 1, "f"), up, false},
		{"setstat", packet(fxpSetstat, 1, "f", nothing), up, false},
		{"fsetstat that truncates", packet(fxpFsetstat, 1, "h", 1, uint64(0)), up, false},
		{"symlink", packet(fxpSymlink, 1, "f", "g"), up, false},
		{"posix-rename", packet(fxpExtended, 1, "posix-rename@openssh.com", "f", "g"), up, false},
		{"hardlink", packet(fxpExtended, 1, "hardlink@openssh.com", "f", "g"), up, false},
		{"lsetstat", packet(fxpExtended, 1, "lsetstat@openssh.com", "f", nothing), up, false},
		{"copy-data", packet(fxpExtended, 1, "copy-data", "h", uint64(0), uint64(0), "i", uint64(0)), up, false},
		{"limits", packet(fxpExtended, 1, "limits@openssh.com"), both, false},
		{"unknown extension", packet(fxpExtended, 1, "check-file", "h"), none, false},
		{"unknown packet", packet(99, 1, "x"), none, true},
		{"second init", packet(fxpInit, 2, 2), none, true},
		{"no length", []byte{0, 0, 0, 0, fxpStat}, none, true},
		{"name longer than its packet", packet(fxpRemove, 1, 99), none, true},
		{"endless name", packet(fxpStat, 1, strings.Repeat("x", 9000)), both, false},
		{"endless name to remove", packet(fxpRemove, 1, strings.Repeat("x", 9000)), none, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, way := range []struct {
				gate   Gate
				passes bool
			}{{onlyUp, c.passes == both || c.passes == up}, {onlyDown, c.passes == both || c.passes == down}} {
				rapid.Check(t, func(r *rapid.T) {
					g := asked(way.gate, "subsystem", "sftp")
					hello := []said{{false, packet(fxpInit, 3)}, {true, packet(fxpVersion, 3)}}
					ask := []said{{false, packet(fxpStat, 7, "e")}, {false, c.packet}, {false, packet(fxpStat, 2, "f")}}
					passed, refused, ended := passedBy(r, g, cutUp(r, slices.Concat(hello, ask)))
					sent := string(bytesOf(passed, false))
					whole := string(bytesOf(ask, false))
					switch {
					case way.passes && (ended || len(refused) > 0 || !strings.HasSuffix(sent, whole)):
						r.Fatalf("%+v: it is allowed: ended %v, refused %+v", way.gate, ended, refused)
					case way.passes:
					case len(refused) != 1 || strings.Contains(sent, string(c.packet)):
						r.Fatalf("%+v: it is not allowed: refused %+v, passed %q", way.gate, refused, sent)
					case c.ends && !ended:
						r.Fatalf("%+v: it goes on", way.gate)
					case !ended:
						checkSpoiled(r, c.packet, sent[len(sent)-len(whole):])
					case !c.ends && c.packet[4] != fxpOpen:
						r.Fatalf("%+v: it ends", way.gate)
					}
				})
			}
		})
	}
}

// checkSpoiled wants a target to find a request of the same length and id that it can't know, between two that were not
// touched.
func checkSpoiled(r *rapid.T, packet []byte, sent string) {
	first, last := string(ask(fxpStat, 7, "e")), string(ask(fxpStat, 2, "f"))
	middle := sent[len(first) : len(sent)-len(last)]
	if !strings.HasPrefix(sent, first) || !strings.HasSuffix(sent, last) || len(middle) != len(packet) || middle[:4] != string(packet[:4]) {
		r.Fatalf("the rest was touched: %q", sent)
	}
	f := fields{rest: []byte(middle[5:])}
	if id := f.uint32(); middle[4] != fxpExtended || id != 1 {
		r.Fatalf("it became type %d with id %d", middle[4], id)
	}
	if name := string(f.bytes()); f.bad || !strings.HasSuffix(name, "-") || name == "" {
		r.Fatalf("it became extension %q", name)
	}
	if strings.Trim(string(f.rest), "-") != "" {
		r.Fatalf("its content was passed on: %q", f.rest)
	}
}

func ask(kind byte, values ...any) []byte { return packet(kind, values...) }

// A target that knows no such extension says so; the client is told that permission is denied, in as many bytes.
func TestGuardAnswers(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		g := asked(onlyDown, "subsystem", "sftp")
		words := rapid.SampledFrom([]string{"", "No", "Operation unsupported", strings.Repeat("very unsupported ", 9)}).Draw(r, "words")
		answer := func(code, id int, text string) []byte { return packet(fxpStatus, id, code, text, "") }
		talk := []said{
			{false, packet(fxpInit, 3)}, {true, packet(fxpVersion, 3, "limits@openssh.com", "1")},
			{false, slices.Concat(packet(fxpStat, 1, "f"), packet(fxpRemove, 2, "f"), packet(fxpExtended, 3, "check-file", "h"), packet(fxpMkdir, 4, "d", nothing))},
			{true, slices.Concat(answer(2, 1, "No such file"), answer(8, 2, words), answer(8, 3, words), answer(8, 4, words))},
			{false, packet(fxpStat, 2, "f")}, {true, answer(8, 2, words)},
		}
		passed, refused, ended := passedBy(r, g, cutUp(r, talk))
		shown := func(n int) string { return (denied + strings.Repeat(" ", 200))[:n] }
		want := slices.Concat(talk[1].bytes, answer(2, 1, "No such file"), answer(3, 2, shown(len(words))), answer(8, 3, words),
			answer(3, 4, shown(len(words))), answer(8, 2, words))
		if got := bytesOf(passed, true); ended || len(refused) != 3 || string(got) != string(want) {
			r.Fatalf("refused %+v\n got %q\nwant %q", refused, got, want)
		}
		if refused[0].What != "sftp remove" || refused[0].Detail != "f" {
			r.Fatalf("%+v", refused[0])
		}
	})
}

// Requests that nobody answers, and ids used twice, can't be told apart any more: the client's half ends.
func TestGuardBoundsWhatWaits(t *testing.T) {
	for name, id := range map[string]func(i int) int{"many": func(i int) int { return i }, "one id": func(int) int { return 9 }} {
		g := asked(onlyDown, "subsystem", "sftp")
		g.FromClient(packet(fxpInit, 3))
		n := 0
		for ; n < 2*maxRefused && !g.FromClient(packet(fxpRemove, id(n), "f")).End; n++ {
			continue
		}
		if most := map[string]int{"many": maxRefused, "one id": 1}[name]; n != most {
			t.Errorf("%s: ended after %d", name, n)
		}
		if v := g.FromClient(packet(fxpStat, 1, "f")); !v.End || len(v.Refusals) > 0 {
			t.Errorf("%s: it goes on: %+v", name, v)
		}
	}
}

// passedBy gives what a guard lets through, as it lets it; its state goes through bytes now and then.
func passedBy(r *rapid.T, g *Guard, pieces []said) (passed []said, refused []Refusal, ended bool) {
	for _, p := range pieces {
		if rapid.IntRange(0, 4).Draw(r, "restart") == 0 {
			b, _ := g.MarshalBinary()
			again := NewGuard(Gate{})
			if err := again.UnmarshalBinary(b); err != nil {
				r.Fatal(err)
			}
			if b2, _ := again.MarshalBinary(); !reflect.DeepEqual(b, b2) {
				r.Fatalf("%x became %x", b, b2)
			}
			g = again
		}
		check := g.FromClient
		if p.target {
			check = g.FromTarget
		}
		v := check(p.bytes)
		refused = append(refused, v.Refusals...)
		if ended = ended || v.End; ended && !p.target {
			continue
		}
		changed, err := events.ApplyEdits(p.bytes, v.Edits)
		if err != nil {
			r.Fatalf("%v: %+v of %d bytes", err, v.Edits, len(p.bytes))
		}
		passed = append(passed, said{p.target, changed})
	}
	return passed, refused, ended
}

func bytesOf(all []said, target bool) (b []byte) {
	for _, p := range all {
		if p.target == target {
			b = append(b, p.bytes...)
		}
	}
	return b
}

func TestGuardOnPrograms(t *testing.T) {
	for _, c := range []struct {
		kind, command     string
		none, up, down    bool // refused with that gate
		unknownAfterwards bool
	}{
		{"subsystem", "sftp", true, false, false, false},
		{"exec", "scp -t x", true, false, true, true},
		{"exec", "scp -f x", true, true, false, true},
		{"exec", "scp -t $X", true, true, true, true},
		{"exec", "rsync --server . x", true, false, true, true},
		{"exec", "cat x", false, false, false, true},
		{"shell", "", false, false, false, true},
		{"subsystem", "netconf", false, false, false, true},
		{"env", "", false, false, false, false},
	} {
		for gate, want := range map[Gate]bool{{}: c.none, onlyUp: c.up, onlyDown: c.down} {
			g := NewGuard(gate)
			r := g.Request(c.kind, c.command)
			if (r != nil) != want {
				t.Errorf("%s %q, %+v: %+v", c.kind, c.command, gate, r)
			}
			if r == nil && c.unknownAfterwards && g.FromClient([]byte("anything")).End {
				t.Errorf("%s %q, %+v: data is refused", c.kind, c.command, gate)
			}
		}
	}
}

// TestGuardOnOrder has what a client may try between the lines.
func TestGuardOnOrder(t *testing.T) {
	g := NewGuard(onlyDown)
	if v := g.FromClient([]byte("x")); !v.End || len(v.Refusals) != 1 || v.Refusals[0].Told {
		t.Error("data passes before a program was asked for: some targets would keep it")
	}
	g = asked(onlyDown, "exec", "nonsense")
	if g.Request("subsystem", "sftp") == nil {
		t.Error("a second program is asked for before the first is answered")
	}
	g.Answered(false)
	if v := g.FromClient([]byte("x")); !v.End || len(v.Refusals) != 1 || !v.Refusals[0].Told {
		t.Errorf("data sent for a program that was refused: %+v", v)
	}
	g = asked(onlyDown, "subsystem", "sftp")
	g.Answered(false)
	if r := g.Request("exec", "scp -f x"); r != nil { // as pscp does
		t.Errorf("a second try is refused: %+v", r)
	}
	g.Answered(true)
	if v := g.FromClient([]byte{0}); v.End {
		t.Errorf("%+v", v)
	}
	g = asked(onlyDown, "subsystem", "sftp")
	if g.Answered(true); !g.FromClient(packet(fxpStat, 1, "f")).End {
		t.Error("SFTP without its beginning")
	}
	if v := g.FromClient(packet(fxpInit, 3)); !v.End || len(v.Refusals) > 0 {
		t.Errorf("after the end: %+v", v)
	}
}

func TestGuardOnVersions(t *testing.T) {
	for _, c := range []struct {
		client, target int
		refused        bool
	}{{3, 3, false}, {3, 6, false}, {6, 3, false}, {6, 6, true}, {4, 5, true}} {
		g := asked(onlyDown, "subsystem", "sftp")
		if v := g.FromClient(packet(fxpInit, c.client)); v.End {
			t.Fatal(v)
		}
		answer := packet(fxpVersion, c.target)
		for i := range len(answer) - 1 {
			if v := g.FromTarget(answer[i : i+1]); v.End {
				t.Fatal(v)
			}
		}
		if v := g.FromTarget(answer[len(answer)-1:]); v.End != c.refused {
			t.Errorf("%+v: %+v", c, v)
		}
		if v := g.FromClient(packet(fxpStat, 1, "f")); v.End != c.refused {
			t.Errorf("%+v, then: %+v", c, v)
		}
	}
	g := asked(onlyDown, "subsystem", "sftp")
	g.FromClient(packet(fxpInit, 6))
	if !g.FromClient(packet(fxpStat, 1, "f")).End {
		t.Error("a request passes before its version is known")
	}
}
