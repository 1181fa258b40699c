package e2e

import (
	"strings"
	"testing"
	"time"
)

// Sites that listen on all addresses of their machines, as docs/mesh.md has it, are
// reached where the first of them said in its invitation and where the others came
// from. Who has joined lets people in at once. A site that moves says so itself.
func TestWhereSitesAreReached(t *testing.T) {
	m := newMeshNet(t)
	at := map[*netSite]string{}
	for _, s := range m.sites {
		at[s], s.mesh = s.mesh, ":7000"
		s.up()
	}
	a := m.sites[0]
	for _, bad := range []string{"10.9.0.1", "10.9.0.1:0", "10.9.0.1:70000", "no host:7000", "[::1:7000"} {
		if out, err := a.try("mesh invite b --addr '"+bad+"'", ""); err == nil || !strings.Contains(err.Error(), "--addr") {
			t.Errorf("an invitation to %q: %q, %v", bad, out, err)
		}
	}
	for _, s := range m.sites[1:] {
		s.do("mesh join "+a.do("mesh invite "+s.name+" --addr "+at[a], ""), "")
		if out := s.do("mesh status --json", ""); !strings.Contains(out, `"addr":"`+at[a]+`"`) {
			t.Errorf("right after it joined, %s shows %s", s.name, out)
		}
	}
	for _, s := range m.sites {
		m.linked(s)
	}
	shows := func(of *netSite, addr string) {
		t.Helper()
		for _, s := range m.sites {
			eventually(t, 20*time.Second, s.name+" shows that "+of.name+" is at "+addr, func() bool {
				out, err := s.try("mesh status --json", "")
				return err == nil && strings.Contains(out, `"addr":"`+addr+`"`)
			})
			m.linked(s)
		}
	}
	for s, addr := range at {
		shows(s, addr)
	}

	a.crash()
	a.mesh = strings.Replace(at[a], ":7000", ":7001", 1)
	a.up()
	shows(a, a.mesh)
	a.crash()
	a.mesh = ":7001" // says nothing new
	a.up()
	shows(a, strings.Replace(at[a], ":7000", ":7001", 1))
}
