package events_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// BenchmarkClockSize is how many bytes the clock of an event takes in a mesh in
// which all sites decide equally often, and each knows what the others decided up
// to a moment ago.
func BenchmarkClockSize(b *testing.B) {
	for _, sites := range []int{3, 50} {
		b.Run(fmt.Sprint(sites), func(b *testing.B) {
			chance := rand.New(rand.NewPCG(1, 2))
			origins := make([]events.Origin, sites)
			for i := range origins {
				origins[i] = events.Origin{Site: events.SiteID{UUID: uuid.UUID{15: byte(i)}}, Epoch: 1, Kind: events.Ctl}
			}
			var coder events.ClockCoder
			clock := events.Clock{}
			written := make([]uint64, sites)
			bytes, n := 0, 0
			for b.Loop() {
				for { // until it is this site's turn
					i := chance.IntN(sites)
					if written[i]++; i == 0 {
						break
					}
					clock = clock.With(origins[i], written[i])
				}
				delta, err := coder.Delta(clock)
				if err != nil {
					b.Fatal(err)
				}
				if n++; n > sites { // the first ones introduce the sites
					bytes += len(delta)
				}
			}
			b.ReportMetric(float64(bytes)/float64(max(1, n-sites)), "bytes/event")
		})
	}
}
