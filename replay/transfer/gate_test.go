package transfer

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func asked(gate Gate, kind, command string) *Guard {
	g := NewGuard(gate)
	if r := g.Request(kind, command); r != nil {
		panic(r.Reason)
	}
	return g
}

var onlyDown, onlyUp = Gate{Download: true}, Gate{Upload: true}

// TestGuardOnRequests decides on each SFTP request for each direction.
func TestGuardOnRequests(t *testing.T) {
	const both, up, down, none = "both", "up", "down", "none" // gates that let it pass
	for _, c := range []struct {
		name   string
		packet []byte
		passes string
	}{
		{"open to read", packet(fxpOpen, 1, "f", openRead, nothing), down},
		{"open with no flag", packet(fxpOpen, 1, "f", 0, nothing), down},
		{"open to create", packet(fxpOpen, 1, "f", creating, nothing), up},
		{"open for both", packet(fxpOpen, 1, "f", openRead|openWrite, nothing), up},
		{"open to read, truncating", packet(fxpOpen, 1, "f", openRead|openTruncate, nothing), none},
		{"open to read, creating", packet(fxpOpen, 1, "f", openRead|openCreate, nothing), none},
		{"read", packet(fxpRead, 1, "h", uint64(0), 9), down},
		{"write", packet(fxpWrite, 1, "h", uint64(0), "abc"), up},
		{"close", packet(fxpClose, 1, "h"), both},
		{"stat", packet(fxpStat, 1, "f"), both},
		{"opendir", packet(fxpOpendir, 1, "f"), both},
		{"readdir", packet(fxpReaddir, 1, "h"), both},
		{"realpath", packet(fxpRealpath, 1, "."), both},
		{"remove", packet(fxpRemove, 1, "f"), up},
		{"rename", packet(fxpRename, 1, "f", "g"), up},
		{"mkdir", packet(fxpMkdir, 1, "f", nothing), up},
		{"rmdir", packet(fxpRmdir, 1, "f"), up},
		{"setstat", packet(fxpSetstat, 1, "f", nothing), up},
		{"fsetstat", packet(fxpFsetstat, 1, "h", nothing), up},
		{"symlink", packet(fxpSymlink, 1, "f", "g"), up},
		{"posix-rename", packet(fxpExtended, 1, "posix-rename@openssh.com", "f", "g"), up},
		{"copy-data", packet(fxpExtended, 1, "copy-data", "h", uint64(0), uint64(0), "i", uint64(0)), up},
		{"limits", packet(fxpExtended, 1, "limits@openssh.com"), both},
		{"unknown extension", packet(fxpExtended, 1, "check-file", "h"), none},
		{"unknown packet", packet(99, 1), none},
		{"second init", packet(fxpInit, 2), none},
		{"no length", []byte{0, 0, 0, 0, fxpStat}, none},
		{"name longer than its packet", packet(fxpRemove, 1, 99), none},
		{"endless name", packet(fxpStat, 1, strings.Repeat("x", 9000)), both},
		{"endless name to remove", packet(fxpRemove, 1, strings.Repeat("x", 9000)), none},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, way := range []struct {
				gate   Gate
				passes bool
			}{{onlyUp, c.passes == both || c.passes == up}, {onlyDown, c.passes == both || c.passes == down}} {
				rapid.Check(t, func(r *rapid.T) {
					g := asked(way.gate, "subsystem", "sftp")
					pieces := cutUp(r, []said{{false, packet(fxpInit, 3)}, {true, packet(fxpVersion, 3)}, {false, c.packet}, {false, packet(fxpStat, 2, "f")}})
					if passed := passedBy(r, g, pieces); way.passes != (len(passed) == len(pieces)) {
						r.Fatalf("%+v: passed %d of %d pieces", way.gate, len(passed), len(pieces))
					} else if !way.passes && holds(passed, c.packet) {
						r.Fatalf("%+v: all of it passed before the verdict", way.gate)
					}
				})
			}
		})
	}
}

// passedBy gives the pieces that a guard lets through; its state goes through bytes now and then.
func passedBy(r *rapid.T, g *Guard, pieces []said) (passed []said) {
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
		if check(p.bytes) != nil {
			return passed
		}
		passed = append(passed, p)
	}
	return passed
}

func holds(passed []said, packet []byte) bool {
	var b strings.Builder
	for _, p := range passed {
		if !p.target {
			b.Write(p.bytes)
		}
	}
	return strings.Contains(b.String(), string(packet))
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
			if r == nil && c.unknownAfterwards && g.FromClient([]byte("anything")) != nil {
				t.Errorf("%s %q, %+v: data is refused", c.kind, c.command, gate)
			}
		}
	}
}

// TestGuardOnOrder has what a client may try between the lines.
func TestGuardOnOrder(t *testing.T) {
	g := NewGuard(onlyDown)
	if r := g.FromClient([]byte("x")); r == nil || r.Told {
		t.Error("data passes before a program was asked for: some targets would keep it")
	}
	g = asked(onlyDown, "exec", "nonsense")
	if g.Request("subsystem", "sftp") == nil {
		t.Error("a second program is asked for before the first is answered")
	}
	g.Answered(false)
	if r := g.FromClient([]byte("x")); r == nil || !r.Told {
		t.Errorf("data sent for a program that was refused: %+v", r)
	}
	g = asked(onlyDown, "subsystem", "sftp")
	g.Answered(false)
	if r := g.Request("exec", "scp -f x"); r != nil { // as pscp does
		t.Errorf("a second try is refused: %+v", r)
	}
	g.Answered(true)
	if r := g.FromClient([]byte{0}); r != nil {
		t.Errorf("%+v", r)
	}
	g = asked(onlyDown, "subsystem", "sftp")
	if g.Answered(true); g.FromClient(packet(fxpStat, 1, "f")) == nil {
		t.Error("SFTP without its beginning")
	}
	if r := g.FromClient(packet(fxpInit, 3)); r == nil || !r.Told {
		t.Errorf("after a refusal: %+v", r)
	}
}

func TestGuardOnVersions(t *testing.T) {
	for _, c := range []struct {
		client, target int
		refused        bool
	}{{3, 3, false}, {3, 6, false}, {6, 3, false}, {6, 6, true}, {4, 5, true}} {
		g := asked(onlyDown, "subsystem", "sftp")
		if r := g.FromClient(packet(fxpInit, c.client)); r != nil {
			t.Fatal(r)
		}
		answer := packet(fxpVersion, c.target)
		for i := range len(answer) - 1 {
			if r := g.FromTarget(answer[i : i+1]); r != nil {
				t.Fatal(r)
			}
		}
		if r := g.FromTarget(answer[len(answer)-1:]); (r != nil) != c.refused {
			t.Errorf("%+v: %+v", c, r)
		}
		if r := g.FromClient(packet(fxpStat, 1, "f")); (r != nil) != c.refused {
			t.Errorf("%+v, then: %+v", c, r)
		}
	}
	g := asked(onlyDown, "subsystem", "sftp")
	g.FromClient(packet(fxpInit, 6))
	if g.FromClient(packet(fxpStat, 1, "f")) == nil {
		t.Error("a request passes before its version is known")
	}
}
