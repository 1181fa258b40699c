package transfer

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// dialogue reads "> text" as what the source says and "< text" as the sink; the source of an upload is the client.
func dialogue(p Program, lines ...string) (all []said) {
	for _, l := range lines {
		fromSource := l[0] == '>'
		all = append(all, said{fromSource == (p.Direction == Download), []byte(l[2:])})
	}
	return all
}

const ack = "< \x00"

func TestSCP(t *testing.T) {
	file := func(path string, content string) Operation {
		return Operation{
			Kind: KindFile, Path: path, Target: "/t", Detail: "mode=0644", Bytes: uint64(len(content)),
			SHA256: sumOf([]byte(content)), Complete: true, OK: true,
		}
	}
	dir := func(path string) Operation {
		return Operation{Kind: KindDirectory, Path: path, Target: "/t", Detail: "mode=0755", OK: true}
	}
	lost := func(o Operation, code uint32, status, note string) Operation {
		o.Complete, o.SHA256, o.OK, o.Code, o.Status, o.Note = false, "", false, code, status, note
		return o
	}
	undecoded := Operation{Kind: KindUndecoded}
	for _, c := range []struct {
		name  string
		lines []string
		want  []Operation
	}{
		{"a file", []string{ack, "> C0644 3 f\n", ack, "> abc\x00", ack}, []Operation{file("f", "abc")}},
		{"an empty file", []string{ack, "> C0644 0 f\n", ack, "> \x00", ack}, []Operation{file("f", "")}},
		{"times", []string{ack, "> T1 0 2 0\n", ack, "> C0644 3 f\n", ack, "> abc\x00", ack}, []Operation{file("f", "abc")}},
		{"directories", []string{ack, "> D0755 0 d\n", ack, "> D0755 0 e\n", ack, "> C0644 1 f\n", ack, "> x\x00", ack, "> E\n", ack,
			"> C0644 1 g\n", ack, "> y\x00", ack, "> E\n", ack, "> C0644 1 h\n", ack, "> z\x00", ack},
			[]Operation{dir("d"), dir("d/e"), file("d/e/f", "x"), file("d/g", "y"), file("h", "z")}},
		{"no waiting for answers", []string{"> C0644 3 f\nabc\x00C0644 1 g\nx\x00", "< \x00\x00\x00\x00\x00"},
			[]Operation{file("f", "abc"), file("g", "x")}},
		{"a refused file is skipped", []string{ack, "> C0644 3 f\n", "< \x01scp: /t: No\n", "> C0644 1 g\n", ack, "> x\x00", ack},
			[]Operation{lost(Operation{Kind: KindFile, Path: "f", Target: "/t", Detail: "mode=0644"}, 1, "scp: /t: No", "refused before it was sent"), file("g", "x")}},
		{"a refused directory is skipped", []string{ack, "> D0755 0 d\n", "< \x01no\n", "> C0644 1 g\n", ack, "> x\x00", ack},
			[]Operation{lost(dir("d"), 1, "no", ""), file("g", "x")}},
		{"a failed write", []string{ack, "> C0644 3 f\n", ack, "> abc\x00", "< \x01disk full\n"},
			[]Operation{lost(file("f", "abc"), 1, "disk full", "it failed")}},
		{"a failed read", []string{ack, "> C0644 3 f\n", ack, "> abc\x01gone\n", ack},
			[]Operation{lost(file("f", "abc"), 1, "gone", "it failed")}},
		{"an error of its own", []string{ack, "> \x01scp: f: No such file\n", "> C0644 1 g\n", ack, "> x\x00", ack},
			[]Operation{{Kind: KindError, Target: "/t", Code: 1, Status: "scp: f: No such file", Note: "the sender reported it"}, file("g", "x")}},
		{"not acknowledged", []string{ack, "> C0644 3 f\n", ack, "> abc"},
			[]Operation{func() Operation { o := file("f", "abc"); o.OK, o.Note = false, noteUnanswered; return o }()}},
		{"partial", []string{ack, "> C0644 9 f\n", ack, "> abc"}, []Operation{lost(file("f", "abc"), 0, "", whyPartial)}},
		{"sent on after a refusal", []string{ack, "> C0644 13 f\nC0644 1 evil\n", "< \x01no\n", "> x\x00"},
			[]Operation{lost(Operation{Kind: KindFile, Path: "f", Target: "/t", Detail: "mode=0644", Bytes: 13}, 1, "no", "refused before it was sent"), undecoded}},
		{"a path in a name", []string{ack, "> C0644 3 ../f\n"}, []Operation{undecoded}},
		{"a name of dots", []string{ack, "> D0755 0 ..\n"}, []Operation{undecoded}},
		{"no size", []string{ack, "> C0644 x f\n"}, []Operation{undecoded}},
		{"a negative size", []string{ack, "> C0644 -1 f\n"}, []Operation{undecoded}},
		{"an end too many", []string{ack, "> E\n"}, []Operation{undecoded}},
		{"an endless line", []string{ack, "> C0644 3 " + strings.Repeat("f", maxLine)}, []Operation{undecoded}},
		{"not scp", []string{"> GET / HTTP/1.0\r\n"}, []Operation{undecoded}},
		{"no answer at all", []string{"< bash: scp: command not found\n"}, []Operation{undecoded}},
	} {
		for _, p := range []Program{
			{Protocol: SCP, Direction: Upload, Paths: "/t", Certain: true}, {Protocol: SCP, Direction: Download, Paths: "/t", Certain: true},
		} {
			t.Run(c.name+"/"+string(p.Direction), func(t *testing.T) {
				check := func(got []Operation) string {
					if len(got) != len(c.want) {
						return "other operations"
					}
					for i, want := range c.want {
						want.Channel = 7
						if want.Kind != KindUndecoded {
							want.Direction = p.Direction
						} else if want.Note = got[i].Note; want.Note == "" {
							return "no note"
						}
						if !reflect.DeepEqual(got[i], want) {
							return "operation differs"
						}
					}
					return ""
				}
				all := dialogue(p, c.lines...)
				if got := untimed(decode(p, all)); check(got) != "" {
					t.Fatalf("%s:\n got %+v\nwant %+v", check(got), got, c.want)
				}
				rapid.Check(t, func(r *rapid.T) {
					if got := untimed(decode(p, cutUp(r, all))); check(got) != "" {
						r.Fatalf("%s, when cut: %+v", check(got), got)
					}
				})
			})
		}
	}
}

func TestSCPIsBounded(t *testing.T) {
	up := Program{Protocol: SCP, Direction: Upload}
	deep := strings.Repeat("D0755 0 "+strings.Repeat("d", 1000)+"\n", 100)
	waits := strings.Repeat("T1 0 1 0\n", maxWaits+1)
	for name, lines := range map[string][]string{"directories": {"> " + deep}, "answers": {"> " + waits}} {
		ops := decode(up, dialogue(up, lines...))
		if len(ops) == 0 || ops[len(ops)-1].Kind != KindUndecoded {
			t.Errorf("%s: no note", name)
		}
	}
}

func TestProgramOf(t *testing.T) {
	for line, want := range map[string]Program{
		"scp -t /tmp/x":                   {SCP, Upload, "/tmp/x", true},
		"scp -f /tmp/x":                   {SCP, Download, "/tmp/x", true},
		"scp -v -r -p -d -t -- -x":        {SCP, Upload, "-x", false},
		"/usr/bin/scp -rpf a 'b c'":       {SCP, Download, "a b c", true},
		`"scp" -t "a\"b" c\ d`:            {SCP, Upload, `a"b c d`, true},
		"scp -t ~/x":                      {SCP, Upload, "~/x", true},
		"scp -f d/*.txt":                  {SCP, Download, "d/*.txt", true},
		"scp -t -f x":                     {SCP, Download, "x", false},
		"scp -tf x":                       {SCP, Download, "x", false},
		"scp -t x -f":                     {SCP, Upload, "x -f", false},
		"scp -t $LC_A x":                  {SCP, Upload, "$LC_A x", false},
		`scp -t "$(id)"`:                  {SCP, Upload, "$(id)", false},
		"scp -t '$(id)'":                  {SCP, Upload, "$(id)", true},
		"scp -t *":                        {SCP, Upload, "*", false},
		`scp -t ""{-f,x}`:                 {SCP, Upload, "{-f,x}", false},
		"scp -t x; cat y":                 {SCP, Upload, "x cat y", false},
		"scp -t x\ncat y":                 {SCP, Upload, "x cat y", false},
		"scp -t x > y":                    {SCP, Upload, "x y", false},
		"scp -S sh -t x":                  {},
		"scp -tSsh x":                     {SCP, Upload, "x", false},
		"scp -t 'x":                       {SCP, Upload, "x", false},
		"scp a b:c":                       {},
		"cat scp":                         {},
		"":                                {},
		"/usr/lib/openssh/sftp-server -R": {SFTP, "", "", true},
		"sudo /usr/lib/sftp-server":       {SFTP, "", "", true},
		"test -x /a && exec /a\nexec sftp-server":                 {SFTP, "", "", true},
		"cat sftp-server.log":                                     {},
		"rsync --server -vlogDtpre.iLsfxCIvu --log-format=X . /d": {Rsync, Upload, "/d", true},
		"rsync --server --sender -vlogDtpr . a b":                 {Rsync, Download, "a b", true},
		"rsync --server $X . a":                                   {Rsync, Upload, "$X . a", false},
		"rsync --server -vlogDtprSe.LsfxCIvu . a":                 {Rsync, Upload, "a", true},
		"rsync --server -B700 --partial-dir . --temp-dir t . a":   {Rsync, Upload, "a", true},
		"rsync --server --compare-dest --sender . a":              {Rsync, Upload, "a", false},
		"rsync --server --partial-dir --sender -e.L . a":          {Rsync, Upload, "a", false},
		"rsync --server -B --sender . a":                          {Rsync, Download, "a", false},
		"rsync --server -vf --sender . a":                         {Rsync, Download, "a", false},
		"rsync --server --suffix --sender . a":                    {Rsync, Download, "a", false},
		"rsync --server . a --sender":                             {Rsync, Upload, "a --sender", false},
		"rsync --server a --sender":                               {Rsync, Upload, "a --sender", false},
		"rsync a b":                                               {},
	} {
		if got := ProgramOf("exec", line); got != want {
			t.Errorf("%q: got %+v, want %+v", line, got, want)
		}
	}
	if got := ProgramOf("subsystem", "sftp"); got.Protocol != SFTP {
		t.Errorf("%+v", got)
	}
	for _, request := range []string{"shell", "subsystem", "env"} {
		if got := ProgramOf(request, "scp -t x"); got != (Program{}) {
			t.Errorf("%s: %+v", request, got)
		}
	}
}
