package mesh

import (
	"math"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Links are measured: how long a round trip takes, by how much the other's clock is
// ahead, and what goes over them.
func TestLinksAreMeasured(t *testing.T) {
	a, b := newStation(t, 1), newStation(t, 2)
	linkedBy(a, b, func(addr string) string { return addr })
	a.write(a.rec, 10, 2000)
	b.has(a)
	var st Standing
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		all, err := b.node.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st = all[0]; st.RoundTrip > 0 && st.Traffic.RecIn > 20000 {
			break
		}
	}
	if st.RoundTrip <= 0 || st.RoundTrip > 5*time.Second || !st.ClockKnown || st.Ahead.Abs() > 5*time.Second {
		t.Errorf("the link is said to take %s, the clock to be ahead by %s (%t)", st.RoundTrip, st.Ahead, st.ClockKnown)
	}
	if tr := st.Traffic; tr.RecIn < 20000 || tr.RecIn > 200000 || tr.RecOut > tr.RecIn || tr.CtlIn == 0 || tr.CtlOut == 0 {
		t.Errorf("over the link went %+v", tr)
	}
}

// A peer that lies about what it echoes changes nothing but what it says of itself.
func TestMadeUpEchoes(t *testing.T) {
	a, b := events.SiteID{UUID: uuid.UUID{1}}, events.SiteID{UUID: uuid.UUID{2}}
	c := New(Config{Self: a, Mesh: a})
	c.Step(Members{Sites: []Member{{Site: a}, {Site: b}}}, 0)
	c.Step(LinkUp{Link: 1, Site: b}, time.Second)
	c.Step(Received{1, CtlLane, Hello{Level: Level, Site: b, Mesh: a}}, time.Second)
	for _, p := range []Ping{{Echo: math.MaxInt64}, {Echo: math.MinInt64}, {Echo: time.Second, Held: math.MinInt64}, {Echo: time.Second, Held: time.Hour}, {Echo: time.Hour}} {
		c.Step(Received{1, CtlLane, p}, 2*time.Second)
		if s := c.Status()[0]; s.RoundTrip != 0 || s.Links != 1 {
			t.Errorf("%+v gave %+v", p, s)
		}
	}
	c.Step(Received{1, CtlLane, Ping{Echo: time.Second, Held: time.Second / 4}}, 2*time.Second)
	if s := c.Status()[0]; s.RoundTrip != 3*time.Second/4 {
		t.Errorf("the round trip is %s", s.RoundTrip)
	}
}
