package events

import (
	"errors"
	"testing"
	"time"
)

func TestTickerGrowsWhateverTheWallClockDoes(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	k := Ticker{Now: func() time.Time { return now }}
	var last HLC
	next := func(what string) {
		t.Helper()
		h := k.Next()
		if h <= last {
			t.Errorf("%s: %d is not after %d", what, h, last)
		}
		last = h
	}
	next("first")
	next("clock stands still")
	now = now.Add(-time.Hour)
	next("clock jumped back an hour")
	for range 1 << 17 {
		next("more in one millisecond than the counter holds")
	}
	now = now.Add(2 * time.Hour)
	next("clock went on")
	if last.Millis() != now.UnixMilli() {
		t.Errorf("after the clock caught up the HLC shows %d, want %d", last.Millis(), now.UnixMilli())
	}
}

func TestTickerObserve(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	k := Ticker{Now: func() time.Time { return now }}
	ahead := HLC(uint64(now.Add(time.Hour).UnixMilli()) << 16)
	if err := k.Observe(ahead); err != nil {
		t.Fatal(err)
	}
	if h := k.Next(); h <= ahead {
		t.Errorf("after observing %d the next is %d", ahead, h)
	}
	far := HLC(uint64(now.Add(25*time.Hour).UnixMilli()) << 16)
	if err := k.Observe(far); !errors.Is(err, ErrClockAhead) {
		t.Errorf("Observe(25 h ahead) = %v, want ErrClockAhead", err)
	}
	if h := k.Next(); h >= far {
		t.Error("a refused clock was taken over")
	}
}

func TestTickerResumesItsOwnLogWhateverTheClockSays(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	k := Ticker{Now: func() time.Time { return now }}
	far := HLC(uint64(now.Add(48*time.Hour).UnixMilli()) << 16)
	k.Resume(far)
	if h := k.Next(); h <= far {
		t.Errorf("after resuming at %d the next is %d", far, h)
	}
}
