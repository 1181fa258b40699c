package seal

import (
	"slices"
	"testing"
)

func TestOverwriteFreedKeepsTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		env, want []string
		again     bool
	}{
		{[]string{"A=b"}, []string{"A=b", "GODEBUG=clobberfree=1"}, true},
		{[]string{"GODEBUG=", "A=b"}, []string{"GODEBUG=clobberfree=1", "A=b"}, true},
		{[]string{"A=b", "GODEBUG=gctrace=1"}, []string{"A=b", "GODEBUG=gctrace=1,clobberfree=1"}, true},
		{[]string{"GODEBUG=gctrace=1,clobberfree=1"}, []string{"GODEBUG=gctrace=1,clobberfree=1"}, false},
		{[]string{"GODEBUG=clobberfree=0"}, []string{"GODEBUG=clobberfree=0"}, false},
	} {
		before := slices.Clone(c.env)
		got, again := withOverwriteFreed(c.env)
		if !slices.Equal(got, c.want) || again != c.again || !slices.Equal(c.env, before) {
			t.Errorf("%q: got %q, %t", c.env, got, again)
		}
		if again {
			if _, twice := withOverwriteFreed(got); twice {
				t.Errorf("%q: would start for ever", c.env)
			}
		}
	}
}
