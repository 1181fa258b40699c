package transfer

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-pam/holdfast/events"
)

// pieces reads fuzz input as a conversation: a byte for the side (its lowest bit) and length, then that many bytes.
func pieces(b []byte) (all []said) {
	for len(b) > 1 {
		n := min(int(b[0]>>1)+1, len(b)-1)
		all = append(all, said{b[0]&1 == 1, b[1 : 1+n]})
		b = b[1+n:]
	}
	return all
}

// input is a conversation as pieces reads it.
func input(all []said) (b []byte) {
	for _, s := range all {
		for rest := s.bytes; len(rest) > 0; {
			n := min(len(rest), 128)
			head := byte(n-1) << 1
			if s.target {
				head |= 1
			}
			b = append(append(b, head), rest[:n]...)
			rest = rest[n:]
		}
	}
	return b
}

func seeds(f *testing.F, add func([]byte)) {
	k := hello().open("f", creating, "h").write("h", 0, "abc").write("h", 6, "def").do(0, fxpFsetstat, "h", 1, uint64(3)).close("h")
	k.open("g", openRead, "i").read("i", 0, "abc").do(statusEOF, fxpRead, "i", uint64(3), 9).close("i")
	k.do(0, fxpExtended, "posix-rename@openssh.com", "a", "b").do(3, fxpMkdir, "d", nothing).do(0, fxpRename, "a", "b")
	k.answer(packet(fxpHandle, k.ask(fxpOpendir, "/d"), "h"))
	k.answer(packet(fxpName, k.ask(fxpReaddir, "h"), 1, "a", "a", nothing))
	k.do(0, fxpExtended, "copy-data", "h", uint64(0), uint64(0), "i", uint64(0))
	add(input(k.all))
	for _, p := range []Program{{Protocol: SCP, Direction: Upload}, {Protocol: SCP, Direction: Download}} {
		add(input(dialogue(p, ack, "> T1 0 1 0\n", ack, "> D0755 0 d\n", ack, "> C0644 3 f\n", ack, "> abc\x00", ack, "> E\n", ack)))
		add(input(dialogue(p, ack, "> C0644 3 f\n", "< \x01no\n", "> \x02over\n")))
	}
}

// FuzzDecoder: nothing panics, the budgets are kept, texts are text, a hash is there exactly for what is complete, and
// the end of decoding is told once, at the end.
func FuzzDecoder(f *testing.F) {
	seeds(f, func(b []byte) {
		for i := range byte(3) {
			f.Add(i, b)
		}
	})
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		p := []Program{overSFTP, {Protocol: SCP, Direction: Upload}, {Protocol: SCP, Direction: Download}}[which%3]
		ops := decode(p, pieces(b))
		for i, o := range ops {
			if !utf8.ValidString(o.Path + o.Target + o.Detail + o.Status + o.Note) {
				t.Errorf("no text: %+v", o)
			}
			if o.Complete != (o.SHA256 != "") && o.Kind == KindFile || len(o.Extents) > maxExtents {
				t.Errorf("%+v", o)
			}
			if o.Kind == KindUndecoded && i != len(ops)-1 {
				t.Errorf("decoding went on: %+v", ops[i+1:])
			}
		}
	})
}

// FuzzGuard: a decoder never sees a whole request of a kind that a guard should have held back.
func FuzzGuard(f *testing.F) {
	seeds(f, func(b []byte) {
		f.Add(true, b)
		f.Add(false, b)
	})
	f.Fuzz(func(t *testing.T, up bool, b []byte) {
		gate, forbidden := onlyDown, Upload
		if up {
			gate, forbidden = onlyUp, Download
		}
		g := asked(gate, "subsystem", "sftp")
		var passed []said
		ended := false
		for _, p := range pieces(b) {
			check := g.FromClient
			if p.target {
				check = g.FromTarget
			}
			v := check(p.bytes)
			if ended = ended || v.End; ended && !p.target {
				continue
			}
			changed, err := events.ApplyEdits(p.bytes, v.Edits)
			if err != nil || len(changed) != len(p.bytes) {
				t.Fatalf("%v: %+v", err, v)
			}
			passed = append(passed, said{p.target, changed})
		}
		for _, o := range decode(overSFTP, passed) {
			mixed := o.Kind == KindFile && o.Direction == Download // what a target sends unasked is not the client's doing
			spoilt := o.Kind == KindExtension && (o.Detail == "" || strings.HasSuffix(o.Detail, "-"))
			if (o.Direction == forbidden || o.Kind == KindExtension) && !mixed && !spoilt {
				t.Errorf("passed a gate %+v: %+v", gate, o)
			}
		}
	})
}

// FuzzProgram: no command line panics, and what is certain has a direction if it needs one.
func FuzzProgram(f *testing.F) {
	for _, line := range []string{"scp -t 'a b'", `scp -f "a\"$x"`, "rsync --server --sender . a", "sudo sftp-server", "a\\"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		p := ProgramOf("exec", line)
		if (p.Protocol == SCP || p.Protocol == Rsync) != (p.Direction != "") || p.Certain && p.Protocol == NoTransfer {
			t.Errorf("%+v", p)
		}
	})
}

// FuzzGuardState: what isn't a state is an error, and what is comes back the same.
func FuzzGuardState(f *testing.F) {
	g := asked(onlyUp, "subsystem", "sftp")
	g.FromClient(packet(fxpInit, 3))
	g.FromClient(packet(fxpStat, 1, "name")[:9])
	state, _ := g.MarshalBinary()
	f.Add(state)
	f.Fuzz(func(t *testing.T, b []byte) {
		g := NewGuard(onlyDown)
		if g.UnmarshalBinary(b) != nil {
			return
		}
		again, _ := g.MarshalBinary()
		other := NewGuard(Gate{})
		if err := other.UnmarshalBinary(again); err != nil {
			t.Fatal(err)
		}
		g.FromClient(make([]byte, 64))
		g.FromTarget(make([]byte, 64))
	})
}
