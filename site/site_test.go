package site

import (
	"log/slog"
	"testing"
)

func testConfig(t *testing.T) Config {
	t.Helper()
	c := Defaults()
	c.Site.Data, c.Site.Name = t.TempDir(), "test"
	c.Log.SegmentSize, c.Log.Headroom = 8<<20, 1<<20
	return c
}

func open(t *testing.T, c Config) *Site {
	t.Helper()
	s, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenTwice(t *testing.T) {
	c := testConfig(t)
	s := open(t, c)
	id := s.ID()
	if err := s.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a data directory was opened twice at once")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, c)
	if s.ID() != id || s.Name() != "test" {
		t.Errorf("after a restart the site is %s %q, it was %s", s.ID(), s.Name(), id)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
