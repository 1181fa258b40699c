package e2e

import (
	"encoding/json"
	"testing"
)

// Who holds what is shown: all of it at both while they hear each other, and what a
// member lacks while it is away.
func TestWhoHoldsWhat(t *testing.T) {
	sites := meshOf(t, "a", "b")
	a, b := sites[0], sites[1]
	a.do("group add one", "")
	b.until("group ls", "one")
	lag := func() (decisions uint64, state string) {
		var answer struct {
			Items []struct {
				Site, State string
				Decisions   uint64
			}
		}
		if err := json.Unmarshal([]byte(a.do("mesh lag --json", "")), &answer); err != nil {
			t.Fatal(err)
		}
		for _, i := range answer.Items {
			if i.Site == "b" {
				return i.Decisions, i.State
			}
		}
		t.Fatalf("b is not in %v", answer)
		return 0, ""
	}
	a.until("mesh lag --json", `"site":"b"`)
	b.crash()
	a.until("mesh status --json", `"site":"b","state":"unreachable"`)
	before, _ := lag()
	for _, name := range []string{"two", "three", "four"} {
		a.do("group add "+name, "")
	}
	if after, state := lag(); after != before+3 || state != "unreachable" {
		t.Errorf("b lacks %d decisions, it lacked %d, and is %s", after, before, state)
	}
	b.up()
	b.until("group ls", "four")
	a.until("mesh lag --json", `"site":"b"`)
	var matrix struct {
		Items []struct {
			Site string
			Log  struct{ Kind string }
			Held []struct {
				Site    string
				Records uint64
			}
		}
	}
	if err := json.Unmarshal([]byte(b.do("mesh matrix --json", "")), &matrix); err != nil {
		t.Fatal(err)
	}
	if len(matrix.Items) != 4 { // two logs each
		t.Errorf("the matrix has %d logs: %v", len(matrix.Items), matrix)
	}
	for _, l := range matrix.Items {
		if len(l.Held) != 2 || l.Held[0].Site != "b" || l.Site == "a" && l.Log.Kind == "ctl" && l.Held[0].Records == 0 {
			t.Errorf("%+v", l)
		}
	}
}
