package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/holdfast-pam/holdfast/replay/screen"
)

// The mesh is watched: as blocks and as JSON Lines without a terminal, in place on
// one, whatever its size becomes.
func TestMeshTop(t *testing.T) {
	sites := meshOf(t, "a", "b")
	a, b := sites[0], sites[1]
	if out := a.do("mesh top --interval 100ms", ""); strings.Count(out, "mesh as seen by a") != 1 || !strings.Contains(out, "linked") || strings.Contains(out, "\x1b") {
		t.Errorf("without a terminal: %q", out)
	}
	type shown struct {
		Item struct {
			Sites []struct {
				Site, State string
				RoundTrip   float64  `json:"round_trip_seconds"`
				Clock       *float64 `json:"clock_ahead_seconds"`
				CtlIn       uint64   `json:"ctl_in"`
				Rates       struct {
					CtlIn  uint64 `json:"ctl_in"`
					CtlOut uint64 `json:"ctl_out"`
				}
			}
		}
	}
	a.until("mesh top --json --interval 100ms", "round_trip_seconds")
	out := a.do("mesh top --json --interval 3s --count 2", "")
	lines := strings.Split(out, "\n")
	if len(lines) != 2 {
		t.Fatalf("two refreshes gave %q", out)
	}
	var last shown
	if err := json.Unmarshal([]byte(lines[1]), &last); err != nil {
		t.Fatal(err)
	}
	for _, s := range last.Item.Sites {
		if s.Site != "b" {
			continue
		}
		if s.RoundTrip <= 0 || s.RoundTrip > 1 || s.Clock == nil || *s.Clock > 1 || *s.Clock < -1 || s.CtlIn == 0 || s.Rates.CtlIn == 0 || s.Rates.CtlOut == 0 {
			t.Errorf("of b is shown %+v", s)
		}
	}

	term := openTerminal(t, exec.Command("ssh", "-F", a.configured, "-tt", "gw", "mesh top --interval 200ms"))
	term.wait("mesh as seen by a")
	b.crash()
	term.wait("unreachable")
	if err := pty.Setsize(term.screen, &pty.Winsize{Rows: 3, Cols: 17}); err != nil {
		t.Fatal(err)
	}
	term.wait("and 2 more")
	small := term.text()
	small = small[strings.LastIndex(small, "\x1b[2J"):]
	s := screen.New(screen.Options{Cols: 17, Rows: 3})
	s.Write([]byte(small))
	if got := strings.Split(s.Text(), "\n"); got[0] != "mesh as seen by a" || !strings.HasPrefix(got[1], "SITE  STATE") {
		t.Errorf("a small terminal shows %q", got)
	}
	if _, err := term.screen.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	<-term.done
	if err := term.cmd.Wait(); err != nil {
		t.Errorf("after q: %v; screen %q", err, term.text())
	}
	if !strings.Contains(term.text(), "\x1b[?1049l") {
		t.Error("the terminal was not put back as it was")
	}
}
