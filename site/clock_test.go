package site

import (
	"testing"
	"time"
)

func TestJumpMeter(t *testing.T) {
	start := time.Now()
	wall := start.Round(0)
	var m jumpMeter
	if by := m.read(wall, start); by != 0 {
		t.Errorf("the first reading tells of a jump by %v", by)
	}
	for _, step := range []struct{ wall, steady, by time.Duration }{
		{time.Second, time.Second, 0},
		{1500 * time.Millisecond, time.Second, 0}, // slewed
		{time.Second, time.Minute, -59 * time.Second},
		{time.Hour, time.Second, time.Hour - time.Second}, // the machine slept, or was set
		{-time.Hour, time.Second, -time.Hour - time.Second},
		{time.Second, time.Second, 0},
	} {
		wall, start = wall.Add(step.wall), start.Add(step.steady)
		if by := m.read(wall, start); by != step.by {
			t.Errorf("wall %v, steady %v: a jump by %v, want %v", step.wall, step.steady, by, step.by)
		}
	}
}
