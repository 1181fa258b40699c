package console

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/replay/screen"
	"github.com/holdfast-pam/holdfast/site"
)

func someTop(names ...string) site.MeshTop {
	top := site.MeshTop{Site: names[0], Time: time.Unix(1000, 0), Conflicts: 2, Doubts: 1}
	for i, name := range names {
		trip := 0.0123
		top.Sites = append(top.Sites, site.TopSite{MeshSite: site.MeshSite{
			ID: events.SiteID{UUID: uuid.UUID{byte(i + 1)}}, Site: name, State: "linked", Work: name, RoundTrip: &trip, LastSeen: time.Unix(999, 0),
		}})
	}
	return top
}

// What a terminal of any size shows of the mesh stands where it should, and no
// name steers it.
func TestMeshTopOnTerminals(t *testing.T) {
	const evil = "\x1b[2Jevil\x1b]0;title\x07\x9b31m\u202e"
	var m meter
	v := m.take(someTop("a", evil, "c"), time.Now())
	for _, size := range []Size{{240, 24}, {80, 24}, {20, 4}, {7, 3}, {1, 1}, {0, 0}, {100000, 100000}} {
		var out bytes.Buffer
		b := newBoard(&out, size)
		if err := b.show(v); err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"\x1b[2Jevil", "\x1b]", "\x07", "\x9b", "\u202e"} {
			if strings.Contains(out.String(), bad) {
				t.Errorf("%v: %q got to the terminal: %q", size, bad, out.String())
			}
		}
		terminal := screen.New(screen.Options{Cols: b.size.Columns, Rows: b.size.Rows})
		terminal.Write(out.Bytes())
		lines := strings.Split(strings.TrimRight(terminal.Text(), "\n"), "\n")
		if len(lines) > b.size.Rows || !strings.HasPrefix("mesh as seen by a", lines[0][:min(len(lines[0]), 17)]) {
			t.Errorf("%v shows %q", size, lines)
		}
		switch size {
		case Size{240, 24}:
			if len(lines) != 5 || !strings.Contains(lines[1], "TROUBLE") || !strings.Contains(lines[2], "12.3ms") || !strings.Contains(lines[2], "1s ago") {
				t.Errorf("%v shows %q", size, lines)
			}
		case Size{20, 4}:
			if len(lines) != 4 || lines[3] != "and 2 more members" {
				t.Errorf("%v shows %q", size, lines)
			}
		}
		out.Reset()
		if err := b.show(v); err != nil || out.Len() > 40 {
			t.Errorf("%v: the same again gave %q, %v", size, out.String(), err)
		}
		if err := b.close(); err != nil || !strings.HasSuffix(out.String(), "\x1b[?1049l") {
			t.Errorf("%v ends with %q, %v", size, out.String(), err)
		}
	}
}

// Rates are what came and went since the refresh before, and nothing where a
// counter began anew.
func TestMeshTopRates(t *testing.T) {
	var m meter
	now := time.Now()
	top := someTop("a", "b")
	top.Sites[1].CtlIn, top.Sites[1].RecOut = 1000, 5000
	if v := m.take(top, now); v.Sites[1].Rates != (topRates{}) {
		t.Errorf("rates of nothing before: %+v", v.Sites[1].Rates)
	}
	top.Sites[1].CtlIn, top.Sites[1].RecOut = 3000, 100
	if v := m.take(top, now.Add(2*time.Second)); v.Sites[1].Rates != (topRates{CtlIn: 1000}) {
		t.Errorf("rates %+v", v.Sites[1].Rates)
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1.0k", 9949: "9.9k", 9951: "10k", 999_499: "999k", 999_600: "1.0M", 1 << 63: "9.2E"} {
		if got := amount(n); got != want {
			t.Errorf("%d bytes are shown as %s, want %s", n, got, want)
		}
	}
}

func TestMeshTopArguments(t *testing.T) {
	w := newWorld(t)
	for line, want := range map[string]Exit{
		"mesh top --interval 1ms": Usage, "mesh top --interval 2h": Usage, "mesh top --count -1": Usage,
		"mesh top --interval 100ms": Done, "mesh top --interval 100ms --count 3 --json": Done,
	} {
		r := w.run(w.auditor, line, "")
		if r.exit != want || want == Done && strings.Contains(line, "--json") != (strings.Count(r.out, "\n") == 3) {
			t.Errorf("%s: exit %d\n%s%s", line, r.exit, r.out, r.err)
		}
	}
	if r := w.run(w.operator, "mesh top", ""); r.exit != Denied {
		t.Errorf("an operator sees the mesh: %s", r.out)
	}
	v := w.watch(w.admin, "mesh top --interval 100ms", 60, 5)
	v.sees("mesh as seen by test")
	v.keys <- "q"
	v.ends(Done)
	v = w.watch(w.admin, "mesh top --interval 100ms --count 2", 60, 5)
	v.ends(Done)
}
