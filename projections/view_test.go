package projections

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
)

// without drops the payload, as pruning does.
func without(r events.Record) events.Record {
	r.Raw.Payload = nil
	return r
}

func statusOf(t *testing.T, p *Projections, name string) Status {
	t.Helper()
	for _, s := range p.Status() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no projection %s", name)
	return Status{}
}

func TestAbsentUnknownAndUnreadablePayloads(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	ada, bob := numbered('u', 1), numbered('u', 2)
	source.append(
		s.ctl(ada, events.UserAdded{Name: "ada"}),
		without(s.ctl(bob, events.UserAdded{Name: "bob"})),
		without(s.ctl(ada, events.UserDisabled{Reason: "left"})),
		s.raw(s.actor(), ada, "user.promoted", 1, []byte{0xa0}),
		s.raw(s.actor(), ada, "user.added", 9, []byte{0xa0}),
		s.raw(s.actor(), ada, "user.added", 1, []byte("not cbor")),
	)
	p := openTest(t, source)
	catchUp(t, p)
	if u, err := p.User(t.Context(), "ada"); err != nil || u.State != "disabled" {
		t.Errorf("a disabling counts by its header alone: %+v, %v", u, err)
	}
	if got := statusOf(t, p, "users"); got.Unknown != 2 || got.Absent != 2 || got.Unreadable != 1 || got.Behind != 0 {
		t.Errorf("users: %+v", got)
	}
	if got := statusOf(t, p, "targets"); got.Unknown != 2 || got.Absent != 0 || got.Unreadable != 0 {
		t.Errorf("targets: %+v", got)
	}
	page, err := p.Audit(t.Context(), AuditFilter{Filter: Filter{Oldest: true}})
	if err != nil || len(page.Items) != 6 {
		t.Fatalf("audit: %d events, %v", len(page.Items), err)
	}
	want := []string{"", "payload is not held", "payload is not held", "type is not known", "type is not known", "does not decode"}
	for i, e := range page.Items {
		if (want[i] == "") != (e.Missing == "") || !strings.Contains(e.Missing, want[i]) || (e.Missing != "") != (string(e.Payload) == "null") {
			t.Errorf("event %d: payload %s, missing %q, want %q", i+1, e.Payload, e.Missing, want[i])
		}
	}
}

// counting is a projection that counts users and fails on one name.
func counting(version int, poison string) *projection {
	return &projection{
		name: "counting", version: version, reads: events.Ctl,
		schema: "CREATE TABLE counting (id INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT;",
		on: []handler{on(func(w *writer, _ *record, e events.UserAdded) error {
			if e.Name == poison {
				return errors.New("cannot take this one")
			}
			return w.exec("INSERT INTO counting (id, n) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET n = n + ?1", version)
		})},
	}
}

func counted(t *testing.T, p *Projections) (n int) {
	t.Helper()
	err := p.read(t.Context(), func(q *query) error {
		return q.tx.QueryRowContext(q.ctx, "SELECT COALESCE(max(n), 0) FROM counting").Scan(&n)
	}, "counting")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func addUsers(s *writerSite, source *fakeSource, names ...string) {
	for _, name := range names {
		source.append(s.ctl(numbered('u', s.next), events.UserAdded{Name: name}))
	}
}

func TestAProjectionThatFailsStopsAlone(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	addUsers(s, source, "a", "b")
	dir := t.TempDir()
	p := openIn(t, dir, source, append(registered(), counting(1, "poison"))...)
	catchUp(t, p)
	addUsers(s, source, "c", "poison", "d")
	catchUp(t, p)

	if users, err := p.Users(t.Context(), Filter{}); err != nil || len(users) != 5 {
		t.Errorf("the others go on: %d users, %v", len(users), err)
	}
	var failed *FailedError
	if err := p.view.failures(); !errors.As(err, &failed) || failed.Projection != "counting" || failed.Position != 4 || failed.Type != "user.added" {
		t.Errorf("failure = %v, want counting at position 4", err)
	}
	if err := p.read(t.Context(), func(*query) error { return nil }, "counting"); !errors.As(err, &failed) {
		t.Errorf("reading it = %v, want its failure", err)
	}
	if got := statusOf(t, p, "counting"); got.Behind != 3 || got.Failed == "" {
		t.Errorf("status: %+v", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	// A version that can take the record finds the state of its checkpoint.
	p = openIn(t, dir, source, append(registered(), counting(1, ""))...)
	defer p.Close()
	catchUp(t, p)
	if n := counted(t, p); n != 5 {
		t.Errorf("after the repair: %d, want 5", n)
	}
}

func TestANewVersionIsRebuiltAlone(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	addUsers(s, source, "a", "b", "c")
	dir := t.TempDir()
	reopen := func(defs ...*projection) *Projections {
		p := openIn(t, dir, source, append(registered(), defs...)...)
		t.Cleanup(func() { p.Close() })
		return p
	}
	p := reopen(counting(1, ""))
	catchUp(t, p)
	if n := counted(t, p); n != 3 {
		t.Fatalf("version 1 counts %d", n)
	}
	p.Close()

	p = reopen(counting(2, ""))
	if got := statusOf(t, p, "counting"); got.Behind != 3 {
		t.Errorf("a bumped version starts anew: %+v", got)
	}
	if got := statusOf(t, p, "users"); got.Behind != 0 {
		t.Errorf("the others stay: %+v", got)
	}
	addUsers(s, source, "d")
	catchUp(t, p)
	if n := counted(t, p); n != 8 {
		t.Errorf("version 2 counts %d, want 8", n)
	}
	p.Close()

	p = reopen()
	var tables int
	err := p.read(t.Context(), func(q *query) error {
		return q.tx.QueryRowContext(q.ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'counting'").Scan(&tables)
	})
	if err != nil || tables != 0 {
		t.Errorf("tables of a projection that is gone: %d, %v", tables, err)
	}
}

func TestFingerprintFollowsWhatIsUnderstood(t *testing.T) {
	base := counting(1, "")
	other := counting(1, "")
	other.on = append(other.on, on(func(*writer, *record, events.UserDisabled) error { return nil }))
	if base.fingerprint() == other.fingerprint() || base.fingerprint() == counting(2, "").fingerprint() {
		t.Error("another set of event types or another version must be built again")
	}
	if base.fingerprint() != counting(1, "x").fingerprint() {
		t.Error("the fingerprint is not stable")
	}
}

func TestDamageIsFoundAtOpenAndBuiltAgain(t *testing.T) {
	c, all := play(newSite(t, 1))
	tests := map[string]func(t *testing.T, path string){
		"no database": func(t *testing.T, path string) { write(t, path, slices.Repeat([]byte("text "), 4096)) },
		"header only": func(t *testing.T, path string) { cut(t, path, 100) },
		"cut short":   func(t *testing.T, path string) { cut(t, path, 8192); crash(t, path) },
		"emptied":     func(t *testing.T, path string) { cut(t, path, 0) },
		"garbage inside, after a crash": func(t *testing.T, path string) {
			b := read(t, path)
			for i := 4096; i < len(b); i += 4096 {
				copy(b[i:], slices.Repeat([]byte{0xee}, 64))
			}
			write(t, path, b)
			crash(t, path)
		},
		"other application": func(t *testing.T, path string) {
			b := read(t, path)
			copy(b[68:], "abcd") // application id: SQLite file format section 1.3
			write(t, path, b)
		},
		"other layout": func(t *testing.T, path string) {
			b := read(t, path)
			b[63]++ // user version
			write(t, path, b)
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			source, dir := newSource(), t.TempDir()
			source.append(all...)
			p := openIn(t, dir, source)
			catchUp(t, p)
			want := digestOf(t, p)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(dir, "views-00000001.db"))

			p = openIn(t, dir, source)
			defer p.Close()
			if (p.Discarded() == "") != (name == "emptied") {
				t.Errorf("Discarded = %q", p.Discarded())
			}
			if got := statusOf(t, p, "users"); got.Behind == 0 {
				t.Error("it did not start anew")
			}
			catchUp(t, p)
			if got := digestOf(t, p); got != want {
				t.Errorf("built again: digest %s, want %s", got, want)
			}
			if _, err := p.Session(t.Context(), c.shell); err != nil {
				t.Error(err)
			}
			if names := files(t, dir); len(names) > 3 {
				t.Errorf("left over: %v", names)
			}
		})
	}
}

func TestViewsAheadOfTheLogsAreBuiltAgain(t *testing.T) {
	_, all := play(newSite(t, 1))
	source, dir := newSource(), t.TempDir()
	source.append(all...)
	p := openIn(t, dir, source)
	catchUp(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	restored := newSource()
	restored.append(all[:5]...)
	p = openIn(t, dir, restored)
	defer p.Close()
	if !strings.Contains(p.Discarded(), "ahead of the logs") {
		t.Errorf("Discarded = %q", p.Discarded())
	}
	catchUp(t, p)
	if users, err := p.Users(t.Context(), Filter{}); err != nil || len(users) != 2 {
		t.Errorf("users: %v, %v", users, err)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	source := newSource()
	_, all := play(newSite(t, 1))
	source.append(all...)
	dir := filepath.Join(t.TempDir(), "a dir?with#odd%20name")
	p := openIn(t, dir, source)
	defer p.Close()
	catchUp(t, p)
	names := files(t, dir)
	if !slices.Equal(names, []string{"views-00000001.db", "views-00000001.db-shm", "views-00000001.db-wal"}) {
		t.Errorf("files: %v", names)
	}
	for _, name := range append(names, ".") {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// Nothing of a sealed secret or of session bytes gets into the database.
func TestSealedBytesStayOut(t *testing.T) {
	p, _, _ := opened(t)
	if err := p.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, p.files.dir) {
		if strings.Contains(string(read(t, filepath.Join(p.files.dir, name))), "ciphertext-of") {
			t.Errorf("%s holds a sealed field", name)
		}
	}
}

func TestASourceThatSkipsIsRefused(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	records := []events.Record{}
	for i := range 3 {
		records = append(records, s.ctl(numbered('u', 1), events.UserAdded{Name: fmt.Sprint(i)}))
	}
	source.append(records[0], records[2])
	p := openTest(t, source)
	catchUp(t, p)
	for _, name := range []string{"users", "audit"} {
		if got := statusOf(t, p, name); got.Behind != 2 || !strings.Contains(got.Failed, "position 3 where 2") {
			t.Errorf("%s: %+v, want the gap named", name, got)
		}
	}
}

func TestTablesAreNamedAfterTheirProjection(t *testing.T) {
	for _, def := range registered() {
		names := tablesOf(def)
		if len(names) == 0 || len(names) != strings.Count(def.schema, "STRICT") {
			t.Errorf("projection %s: tables %v are not all STRICT", def.name, names)
		}
		for _, name := range names {
			if name != def.name && !strings.HasPrefix(name, def.name+"_") {
				t.Errorf("projection %s has a table %s", def.name, name)
			}
		}
	}
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func cut(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// crash leaves the sign of one: a WAL file.
func crash(t *testing.T, path string) { write(t, path+"-wal", nil) }
