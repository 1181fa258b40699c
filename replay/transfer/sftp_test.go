package transfer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestRequestsBecomeOperations has one request of each kind that changes something.
func TestRequestsBecomeOperations(t *testing.T) {
	for _, c := range []struct {
		name string
		talk func(*talk) *talk
		want Operation
	}{
		{"remove", func(k *talk) *talk { return k.do(0, fxpRemove, "/a") }, Operation{Kind: KindRemove, Path: "/a", OK: true}},
		{"refused", func(k *talk) *talk { return k.do(3, fxpRemove, "/a") },
			Operation{Kind: KindRemove, Path: "/a", Code: 3, Status: "Words of the server"}},
		{"rename", func(k *talk) *talk { return k.do(0, fxpRename, "/a", "/b") },
			Operation{Kind: KindRename, Path: "/a", Target: "/b", OK: true}},
		{"posix-rename", func(k *talk) *talk { return k.do(0, fxpExtended, "posix-rename@openssh.com", "/a", "/b") },
			Operation{Kind: KindRename, Path: "/a", Target: "/b", OK: true}},
		{"hardlink", func(k *talk) *talk { return k.do(0, fxpExtended, "hardlink@openssh.com", "/a", "/b") },
			Operation{Kind: KindHardlink, Path: "/a", Target: "/b", OK: true}},
		{"symlink", func(k *talk) *talk { return k.do(0, fxpSymlink, "/points/to", "/link") },
			Operation{Kind: KindSymlink, Path: "/link", Target: "/points/to", OK: true}},
		{"mkdir", func(k *talk) *talk { return k.do(0, fxpMkdir, "/d", 4, 0o40755) },
			Operation{Kind: KindMkdir, Path: "/d", Detail: "mode=0755", OK: true}},
		{"rmdir", func(k *talk) *talk { return k.do(4, fxpRmdir, "/d") },
			Operation{Kind: KindRmdir, Path: "/d", Code: 4, Status: "Words of the server"}},
		{"setstat", func(k *talk) *talk { return k.do(0, fxpSetstat, "/f", 1|2|8, uint64(9), 5, 6, 7, 8) },
			Operation{Kind: KindSetStat, Path: "/f", Detail: "size=9,owner=5:6,modified=8", OK: true}},
		{"lsetstat", func(k *talk) *talk { return k.do(0, fxpExtended, "lsetstat@openssh.com", "/f", 4, 0o600) },
			Operation{Kind: KindSetStat, Path: "/f", Detail: "mode=0600", OK: true}},
		{"unknown extension", func(k *talk) *talk { return k.do(8, fxpExtended, "burn@example.com") },
			Operation{Kind: KindExtension, Detail: "burn@example.com", Code: 8, Status: "Words of the server"}},
		{"no reply", func(k *talk) *talk { k.ask(fxpRemove, "/a"); return k },
			Operation{Kind: KindRemove, Path: "/a", Note: "no reply"}},
		{"bytes that are no text", func(k *talk) *talk { return k.do(0, fxpRemove, "/\x1b[2J\xff\n\u202e") },
			Operation{Kind: KindRemove, Path: `/\x1b[2J\xff\n\u202e`, PathRaw: []byte("/\x1b[2J\xff\n\u202e"), OK: true}},
		{"a name with an escape in it is another", func(k *talk) *talk { return k.do(0, fxpRemove, `/\x1b`) },
			Operation{Kind: KindRemove, Path: `/\\x1b`, PathRaw: []byte(`/\x1b`), OK: true}},
		{"long", func(k *talk) *talk { return k.do(0, fxpRemove, strings.Repeat("x", 9000)) },
			Operation{Kind: KindRemove, Path: strings.Repeat("x", 4096), Note: "a name is cut at 4096 bytes", OK: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Channel = 7
			if c.want.Direction = Upload; c.want.Kind == KindExtension {
				c.want.Direction = ""
			}
			ops := c.talk(hello()).operations()
			if len(ops) != 1 || !reflect.DeepEqual(untimed(ops)[0], c.want) {
				t.Errorf("got  %+v\nwant %+v", ops, c.want)
			}
			if len(ops) == 1 && ops[0].Started != 0 && ops[0].Ended < ops[0].Started {
				t.Errorf("from %v to %v", ops[0].Started, ops[0].Ended)
			}
		})
	}
}

// TestAskingMakesNoOperation has the requests that only ask.
func TestAskingMakesNoOperation(t *testing.T) {
	k := hello()
	k.answer(packet(fxpName, k.ask(fxpRealpath, "."), 1, "/root", "", nothing))
	k.answer(packet(fxpAttrs, k.ask(fxpStat, "/a"), 1, uint64(5)))
	k.answer(packet(fxpExtendedReply, k.ask(fxpExtended, "limits@openssh.com"), uint64(1), uint64(2), uint64(3), uint64(4)))
	k.do(2, fxpLstat, "/b").do(8, fxpExtended, "expand-path@openssh.com", "~")
	if ops := k.operations(); len(ops) != 0 {
		t.Errorf("%+v", ops)
	}
}

func TestDirectoriesAreCounted(t *testing.T) {
	k := hello()
	k.answer(packet(fxpHandle, k.ask(fxpOpendir, "/d"), "h"))
	k.answer(packet(fxpName, k.ask(fxpReaddir, "h"), 2, "a", "a", nothing, "b", "b", nothing))
	k.answer(packet(fxpName, k.ask(fxpReaddir, "h"), 1, "c", "c", nothing))
	k.do(statusEOF, fxpReaddir, "h").close("h")
	ops := k.operations()
	if len(ops) != 1 || ops[0].Kind != KindReadDir || ops[0].Path != "/d" || ops[0].Entries != 3 || !ops[0].Complete || !ops[0].OK {
		t.Errorf("%+v", ops)
	}
}

// TestWhyThereIsNoHash moves content in all the ways that leave its hash uncertain, and in those beside them that don't.
func TestWhyThereIsNoHash(t *testing.T) {
	eof := func(k *talk, offset int) *talk { return k.do(statusEOF, fxpRead, "h", uint64(offset), 100) }
	for _, c := range []struct {
		name string
		talk *talk
		why  string // "" for a hash of "abcdef"
	}{
		{"up", hello().open("f", creating, "h").write("h", 0, "abc").write("h", 3, "def").close("h"), ""},
		{"up, backwards", hello().open("f", creating, "h").write("h", 3, "def").write("h", 0, "abc").close("h"), ""},
		{"up, with a gap", hello().open("f", creating, "h").write("h", 0, "abc").write("h", 4, "def").close("h"), whyRandom},
		{"up, twice", hello().open("f", creating, "h").write("h", 0, "abcdef").write("h", 2, "xx").close("h"), whyRandom},
		{"up, resumed", hello().open("f", openWrite, "h").write("h", 3, "def").close("h"), whyResumed},
		{"up, appended", hello().open("f", openWrite|openAppend, "h").write("h", 0, "abcdef").close("h"), whyAppended},
		{"up, over a file", hello().open("f", openWrite|openCreate, "h").write("h", 0, "abcdef").close("h"), whyKept},
		{"up, a new file", hello().open("f", openWrite|openCreate|openExclude, "h").write("h", 0, "abcdef").close("h"), ""},
		{"up, size set after", hello().open("f", openWrite, "h").write("h", 0, "abcdef").do(0, fxpFsetstat, "h", 1, uint64(6)).close("h"), ""},
		{"up, size set before", hello().open("f", creating, "h").do(0, fxpFsetstat, "h", 1, uint64(6)).write("h", 0, "abcdef").close("h"), ""},
		{"up, lengthened", hello().open("f", creating, "h").write("h", 0, "abcdef").do(0, fxpFsetstat, "h", 1, uint64(9)).close("h"), whyCut},
		{"up, cut", hello().open("f", creating, "h").write("h", 0, "abcdef").do(0, fxpFsetstat, "h", 1, uint64(2)).close("h"), whyCut},
		{"up, cut and lengthened", hello().open("f", creating, "h").write("h", 0, "abcdef").
			do(0, fxpFsetstat, "h", 1, uint64(2)).do(0, fxpFsetstat, "h", 1, uint64(6)).close("h"), whyCut},
		{"up, failed", hello().open("f", creating, "h").write("h", 0, "abc").do(4, fxpWrite, "h", uint64(3), "def").close("h"), whyFailed},
		{"up, not closed", hello().open("f", creating, "h").write("h", 0, "abcdef"), whyCutOff + "; " + whyPartial},
		{"up, copied into", hello().open("g", openRead, "r").open("f", creating, "h").write("h", 0, "abcdef").
			do(0, fxpExtended, "copy-data", "r", uint64(0), uint64(0), "h", uint64(6)).close("h"), whyCopied},
		{"down", eof(hello().open("f", openRead, "h").read("h", 0, "abc").read("h", 3, "def"), 6).close("h"), ""},
		{"down, the end first", eof(hello().open("f", openRead, "h"), 6).read("h", 3, "def").read("h", 0, "abc").close("h"), ""},
		{"down, no flag at all", eof(hello().open("f", 0, "h").read("h", 0, "abcdef"), 6).close("h"), ""},
		{"down, not closed", eof(hello().open("f", openRead, "h").read("h", 0, "abcdef"), 6), ""},
		{"down, partial", hello().open("f", openRead, "h").read("h", 0, "abcdef").close("h"), whyPartial},
		{"down, the end is elsewhere", eof(hello().open("f", openRead, "h").read("h", 0, "abcdef"), 9).close("h"), whyPartial},
		{"down, resumed", eof(hello().open("f", openRead, "h").read("h", 3, "def"), 6).close("h"), whyResumed},
		{"down, twice", eof(hello().open("f", openRead, "h").read("h", 0, "abc").read("h", 0, "abcdef"), 6).close("h"), whyRandom},
		{"down, failed", eof(hello().open("f", openRead, "h").read("h", 0, "abcdef").do(4, fxpRead, "h", uint64(0), 6), 6).close("h"), whyPartial},
		{"down, size by handle", func() *talk {
			k := hello().open("f", openRead, "h")
			k.answer(packet(fxpAttrs, k.ask(fxpFstat, "h"), 1, uint64(6)))
			return k.read("h", 0, "abcdef").close("h")
		}(), ""},
		{"down, size by path", func() *talk {
			k := hello()
			k.answer(packet(fxpAttrs, k.ask(fxpStat, "f"), 1, uint64(6)))
			return k.open("f", openRead, "h").read("h", 0, "abcdef").close("h")
		}(), ""},
		{"down, more to come", func() *talk {
			k := hello()
			k.answer(packet(fxpAttrs, k.ask(fxpStat, "f"), 1, uint64(7)))
			return k.open("f", openRead, "h").read("h", 0, "abcdef").close("h")
		}(), whyPartial},
	} {
		t.Run(c.name, func(t *testing.T) {
			var files []Operation
			for _, o := range c.talk.operations() {
				if o.Kind == KindUndecoded {
					t.Errorf("%+v", o)
				}
				if o.Kind == KindFile {
					files = append(files, o)
				}
			}
			if len(files) != 1 {
				t.Fatalf("%+v", files)
			}
			o := files[0]
			if (c.why == "") != o.Complete || o.Complete != (o.SHA256 != "") || c.why != "" && o.Note != c.why {
				t.Errorf("want %q: %+v", c.why, o)
			}
			if o.Complete && (o.SHA256 != sumOf([]byte("abcdef")) || o.Bytes != 6 || !o.OK || o.Extents != nil) {
				t.Errorf("%+v", o)
			}
		})
	}
}

// TestGuessedHandles: a client that knows how the target names handles can use them before it is told. What it moves so
// is counted to the file that it moved to.
func TestGuessedHandles(t *testing.T) {
	k := hello().open("first", creating, "h").write("h", 0, "abc")
	c, o := k.ask(fxpClose, "h"), k.ask(fxpOpen, "second", creating, nothing)
	w, d := k.ask(fxpWrite, "h", uint64(0), "hidden"), k.ask(fxpClose, "h")
	k.status(c, 0)
	k.answer(packet(fxpHandle, o, "h"))
	k.status(w, 0)
	k.status(d, 0)
	files := find(k.operations(), KindFile, Upload)
	if len(files) != 2 || files[0].Path != "first" || files[0].SHA256 != sumOf([]byte("abc")) {
		t.Fatalf("%+v", files)
	}
	if o := files[1]; o.Path != "second" || o.Bytes != 6 || o.Complete || o.Note != whyUnseen {
		t.Errorf("%+v", o)
	}
	k = hello()
	k.write("x", 0, "stray").answer(packet(fxpData, k.ask(fxpRead, "x", uint64(0), 9), "strays"))
	ops := k.operations()
	if len(ops) != 2 || ops[0].Bytes != 5 || ops[1].Bytes != 6 || ops[1].Direction != Download || ops[0].Note == "" {
		t.Errorf("%+v", ops)
	}
}

// TestSameIdTwice: ids need not differ while replies are awaited.
func TestSameIdTwice(t *testing.T) {
	k := hello()
	for _, path := range []string{"a", "b", "c"} {
		k.send(packet(fxpRemove, 5, path))
	}
	for _, code := range []int{0, 2, 0} {
		k.status(5, code)
	}
	ops := k.operations()
	if len(ops) != 3 || ops[0].Path != "a" || !ops[0].OK || ops[1].Path != "b" || ops[1].Code != 2 || ops[2].Path != "c" || !ops[2].OK {
		t.Errorf("%+v", ops)
	}
}

// TestContentInAnyOrder moves a file with many requests under way, in pieces of any size, short replies, and replies in
// any order; packets are cut anywhere.
func TestContentInAnyOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		content := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 97).Draw(r, "content"), rapid.IntRange(0, 300).Draw(r, "times"))
		window := rapid.IntRange(1, 64).Draw(r, "window")
		block := rapid.IntRange(1+len(content)/200, 4096+len(content)/200).Draw(r, "block")
		up := rapid.Bool().Draw(r, "up")
		k := hello()
		if up {
			k.open("f", creating, "h")
			k.writeAll(r, content, block, window)
		} else {
			k.open("f", openRead, "h")
			k.readAll(r, content, block, window)
		}
		k.close("h")
		d := Download
		if up {
			d = Upload
		}
		files := find(decode(overSFTP, cutUp(r, k.all)), KindFile, d)
		if len(files) != 1 || !files[0].Complete || files[0].SHA256 != sumOf(content) || files[0].Bytes != uint64(len(content)) {
			r.Fatalf("want %s of %d bytes: %+v", sumOf(content), len(content), files)
		}
	})
}

// request under way.
type outstanding struct {
	id       uint32
	from, to int
}

func (k *talk) writeAll(r *rapid.T, content []byte, block, window int) {
	var open []outstanding
	for at := 0; at < len(content) || len(open) > 0; {
		if at < len(content) && len(open) < window && rapid.Bool().Draw(r, "send") {
			to := min(at+block, len(content))
			open = append(open, outstanding{k.ask(fxpWrite, "h", uint64(at), string(content[at:to])), at, to})
			at = to
		} else if len(open) > 0 {
			i := rapid.IntRange(0, len(open)-1).Draw(r, "reply")
			k.status(open[i].id, 0)
			open = append(open[:i], open[i+1:]...)
		}
	}
}

func (k *talk) readAll(r *rapid.T, content []byte, block, window int) {
	var open []outstanding
	ended := false
	for at := 0; !ended || len(open) > 0; {
		if !ended && len(open) < window && rapid.Bool().Draw(r, "send") {
			open = append(open, outstanding{k.ask(fxpRead, "h", uint64(at), block), at, at + block})
			at += block
			ended = at > len(content)
			continue
		}
		if len(open) == 0 {
			continue
		}
		i := rapid.IntRange(0, len(open)-1).Draw(r, "reply")
		o := open[i]
		open = append(open[:i], open[i+1:]...)
		if o.from >= len(content) {
			k.status(o.id, statusEOF)
			continue
		}
		n := min(o.to, len(content)) - o.from
		if short := rapid.IntRange(1, n).Draw(r, "short"); rapid.IntRange(0, 4).Draw(r, "is short") == 0 {
			n = short
		}
		k.answer(packet(fxpData, o.id, string(content[o.from:o.from+n])))
		if rest := o.from + n; rest < o.to {
			open = append(open, outstanding{k.ask(fxpRead, "h", uint64(rest), o.to-rest), rest, o.to})
		}
	}
}

// TestEverySplit feeds one conversation cut in two at every byte, and byte by byte: it is always the same.
func TestEverySplit(t *testing.T) {
	k := hello().open("f", creating, "h").write("h", 0, "abc").write("h", 3, "def").close("h")
	k.open("g", openRead, "i").read("i", 0, "abc").do(statusEOF, fxpRead, "i", uint64(3), 9).close("i")
	k.do(0, fxpExtended, "posix-rename@openssh.com", "a", "b").do(3, fxpMkdir, "d", nothing)
	want := untimed(k.operations())
	if len(want) != 6 {
		t.Fatalf("%+v", want)
	}
	var single []said
	for i, s := range k.all {
		for j := range s.bytes {
			single = append(single, said{s.target, s.bytes[j : j+1]})
			cut := append(append([]said(nil), k.all[:i]...), said{s.target, s.bytes[:j]}, said{s.target, s.bytes[j:]})
			if got := untimed(decode(overSFTP, append(cut, k.all[i+1:]...))); !reflect.DeepEqual(got, want) {
				t.Fatalf("packet %d cut at %d: %+v", i, j, got)
			}
		}
	}
	if got := untimed(decode(overSFTP, single)); !reflect.DeepEqual(got, want) {
		t.Fatalf("byte by byte: %+v", got)
	}
}

// TestDecodingEndsWithANote: what can't be understood is told, with what was known before, and once.
func TestDecodingEndsWithANote(t *testing.T) {
	flood := hello()
	for range 1 << 15 {
		flood.ask(fxpRead, "h", uint64(0), 1)
	}
	same := hello()
	for range 1 << 15 {
		same.send(packet(fxpRead, 7, "h", uint64(0), 1))
	}
	many := hello()
	for i := range 1 << 14 {
		many.open("f", openRead, fmt.Sprint(i))
	}
	six := &talk{}
	six.send(packet(fxpInit, 6))
	six.answer(packet(fxpVersion, 6))
	early := &talk{}
	early.send(packet(fxpInit, 6))
	early.ask(fxpRemove, "a")
	for name, k := range map[string]*talk{
		"flood of requests": flood, "flood with one id": same, "too many handles": many, "version 6": six, "before the version": early,
		"not SFTP":              {all: []said{{false, []byte("GET / HTTP/1.0\r\n")}}},
		"the target first":      {all: []said{{true, packet(fxpVersion, 3)}}},
		"reply to nothing":      {all: append(hello().all, said{true, packet(fxpStatus, 9, 0, "", "")})},
		"length of 0":           {all: append(hello().all, said{false, make([]byte, 9)})},
		"length of 4 GiB":       {all: append(hello().all, said{false, []byte("\xff\xff\xff\xff\x0d\x00\x00\x00\x00")})},
		"write of other length": {all: append(hello().all, said{false, packet(fxpWrite, 1, "h", uint64(0), 99, []byte("abc"))})},
		"cut request":           {all: append(hello().all, said{false, packet(fxpRename, 1, "a")})},
		"long handle":           {all: append(hello().all, said{false, packet(fxpWrite, 1, strings.Repeat("h", 300), uint64(0), "")})},
	} {
		t.Run(name, func(t *testing.T) {
			all := append(k.all, said{false, packet(fxpRemove, 77, "later")}, said{true, packet(fxpStatus, 77, 0, "", "")})
			ops := decode(overSFTP, all)
			if len(ops) == 0 || ops[len(ops)-1].Kind != KindUndecoded || ops[len(ops)-1].Note == "" {
				t.Fatalf("%d operations, no note", len(ops))
			}
			for _, o := range ops[:len(ops)-1] {
				if o.Kind == KindUndecoded || o.Path == "later" {
					t.Errorf("%+v", o)
				}
			}
		})
	}
}

// TestOutOfOrderIsBounded: what comes before its turn is held up to a bound; then the hash is given up.
func TestOutOfOrderIsBounded(t *testing.T) {
	k := hello().open("f", creating, "h")
	piece := strings.Repeat("x", 64<<10)
	for i := 1; i <= maxAhead/len(piece)+1; i++ {
		k.write("h", i*len(piece), piece)
	}
	k.write("h", 0, piece).close("h")
	files := find(k.operations(), KindFile, Upload)
	if len(files) != 1 || files[0].Complete || files[0].Note != whyAhead || len(files[0].Extents) != 1 {
		t.Errorf("%+v", files)
	}
	s := newSFTP(func(Operation) {})
	for _, piece := range k.all[:len(k.all)-2] {
		var err error
		if piece.target {
			err = s.fromTarget(0, piece.bytes)
		} else {
			err = s.fromClient(0, piece.bytes)
		}
		if err != nil || s.ahead < 0 || s.held < 0 {
			t.Fatal(err, s.ahead, s.held)
		}
	}
	if s.end(0); s.ahead != maxAhead {
		t.Errorf("%d bytes of the budget are lost", maxAhead-s.ahead)
	}
}

// TestOperationsAsJSON pins the names that programs read.
func TestOperationsAsJSON(t *testing.T) {
	k := hello().open("f", creating, "h").write("h", 0, "a").write("h", 2, "c").close("h")
	b, err := json.Marshal(find(k.operations(), KindFile, Upload)[0])
	want := `{"channel":7,"kind":"file","path":"f","direction":"upload","bytes":2,"complete":false,` +
		`"extents":[{"offset":0,"length":1},{"offset":2,"length":1}],"ok":true,"code":0,` +
		`"note":"random access: parts are missing, came twice or in no order","started":0.003000,"ended":0.010000}`
	if err != nil || string(b) != want {
		t.Errorf("%v\n%s\n%s", err, b, want)
	}
}
