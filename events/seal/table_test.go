package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// testWrap is a wrap of the usual size whose bytes follow from id and site.
func testWrap(id uuid.UUID, site byte) Wrap {
	sealed := bytes.Repeat(id[:], 6)[:85]
	sealed[84] = site
	return Wrap{To: Recipient{Site: uuid.UUID{15: site}, Key: uint32(site)}, Sealed: sealed}
}

func openImage(t testing.TB, image []byte, opts TableOptions) (*KeyTable, *disk, error) {
	t.Helper()
	d := newDisk(image)
	table, err := openTable("keys", d, opts)
	return table, d, err
}

func mustOpen(t testing.TB, image []byte) (*KeyTable, *disk) {
	t.Helper()
	table, d, err := openImage(t, image, TableOptions{})
	must(t, err)
	return table, d
}

func wantWraps(t testing.TB, table *KeyTable, id uuid.UUID, want ...Wrap) {
	t.Helper()
	got, err := table.Get(id)
	if len(want) == 0 {
		wantErr(t, err, ErrNotFound)
		return
	}
	must(t, err)
	less := func(a, b Wrap) int { return int(a.To.Key) - int(b.To.Key) }
	slices.SortFunc(got, less)
	if !slices.EqualFunc(got, want, func(a, b Wrap) bool { return a.To == b.To && bytes.Equal(a.Sealed, b.Sealed) }) {
		t.Fatalf("data key %s: got %v, want %v", id, got, want)
	}
}

func TestTableKeepsWraps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	must(t, CreateKeyTable(path))
	table, err := OpenKeyTable(path, TableOptions{})
	must(t, err)
	var ids []uuid.UUID
	for range 700 { // several chunks
		id := uuid.New()
		ids = append(ids, id)
		must(t, table.Create(id, testWrap(id, 1)))
	}
	must(t, table.Put(ids[0], testWrap(ids[0], 2)))
	must(t, table.Put(ids[0], testWrap(ids[0], 2))) // the same again is fine
	slices.SortFunc(ids[1:], func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	check := func() {
		t.Helper()
		wantWraps(t, table, ids[0], testWrap(ids[0], 1), testWrap(ids[0], 2))
		for _, id := range ids[1:] {
			wantWraps(t, table, id, testWrap(id, 1))
		}
		if got := slices.Collect(table.Keys()); len(got) != len(ids) || !slices.IsSortedFunc(got, func(a, b uuid.UUID) int {
			return bytes.Compare(a[:], b[:])
		}) {
			t.Fatalf("Keys: %d ids, want %d in order", len(got), len(ids))
		}
	}
	check()
	must(t, table.Close())
	_, err = table.Get(ids[0])
	wantErr(t, err, ErrClosed)
	wantErr(t, table.Create(uuid.New(), testWrap(ids[0], 1)), ErrClosed)
	must(t, table.Close())

	table, err = OpenKeyTable(path, TableOptions{})
	must(t, err)
	defer table.Close()
	check()
	if table.Recovered() != (Recovery{}) || len(table.Damage()) != 0 {
		t.Errorf("a clean close left work: %+v, %v", table.Recovered(), table.Damage())
	}
}

func TestTableRefusals(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	id := uuid.New()
	must(t, table.Create(id, testWrap(id, 1)))
	other := testWrap(uuid.New(), 1)
	wantErr(t, table.Put(id, other), ErrExists)
	wantErr(t, table.Create(id, testWrap(id, 2)), ErrExists)
	wantErr(t, table.Put(uuid.New(), other, testWrap(id, 1)), ErrExists) // two wraps for one recipient
	for name, err := range map[string]error{
		"nobody":   table.Put(id),
		"no name":  table.Put(uuid.Nil, other),
		"empty":    table.Put(id, Wrap{To: other.To}),
		"too long": table.Put(id, Wrap{To: other.To, Sealed: make([]byte, maxSealed+1)}),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	longest := Wrap{To: Recipient{Site: uuid.New(), Key: 9}, Sealed: bytes.Repeat([]byte{7}, maxSealed)}
	must(t, table.Put(id, longest))
	wantWraps(t, table, id, testWrap(id, 1), longest)
	// Refused puts gave their slots back: nothing of them is in the file.
	if used := len(d.cached)/slotSize - len(table.free) - 1; used != 2 {
		t.Errorf("%d slots in use, want 2", used)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	if path := os.Getenv("SEAL_TEST_TABLE"); path != "" {
		_, err := OpenKeyTable(path, TableOptions{})
		fmt.Printf("child: %v\n", err)
		return
	}
	path := filepath.Join(t.TempDir(), "keys")
	must(t, CreateKeyTable(path))
	table, err := OpenKeyTable(path, TableOptions{})
	must(t, err)
	child := func() string {
		cmd := exec.Command(os.Args[0], "-test.run=^TestOneProcessAtATime$")
		cmd.Env = append(os.Environ(), "SEAL_TEST_TABLE="+path)
		out, err := cmd.CombinedOutput()
		must(t, err)
		return string(out)
	}
	if out := child(); !strings.Contains(out, "another process has it open") {
		t.Errorf("second process while open: %s", out)
	}
	must(t, table.Close())
	if out := child(); !strings.Contains(out, "child: <nil>") {
		t.Errorf("second process after close: %s", out)
	}
}

func TestMissingTableIsNotMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	_, err := OpenKeyTable(path, TableOptions{})
	wantErr(t, err, fs.ErrNotExist)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("opening made a file")
	}
}

func TestEraseLeavesNothingInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	must(t, CreateKeyTable(path))
	table, err := OpenKeyTable(path, TableOptions{})
	must(t, err)
	gone, stays, partly := uuid.New(), uuid.New(), uuid.New()
	for _, id := range []uuid.UUID{gone, stays, partly} {
		must(t, table.Create(id, testWrap(id, 1), testWrap(id, 2)))
	}
	must(t, table.Erase(gone))
	must(t, table.Erase(gone))
	must(t, table.Erase(partly, testWrap(partly, 2).To))
	wantWraps(t, table, gone)
	wantWraps(t, table, partly, testWrap(partly, 1))
	for _, closed := range []bool{false, true} {
		if closed {
			must(t, table.Close())
		}
		content, err := os.ReadFile(path)
		must(t, err)
		for what, b := range map[string][]byte{
			"wrap": testWrap(gone, 1).Sealed[:84], "part of the wrap": gone[:6], "the wrap of one recipient": testWrap(partly, 2).Sealed,
		} {
			if bytes.Contains(content, b) {
				t.Errorf("%s is still in the file (closed: %t)", what, closed)
			}
		}
		if !bytes.Contains(content, testWrap(stays, 2).Sealed) {
			t.Error("another key went with it")
		}
	}
}

func TestErasedSlotsAreReused(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	for range 1000 {
		id := uuid.New()
		must(t, table.Create(id, testWrap(id, 1)))
		must(t, table.Erase(id))
	}
	if len(d.cached) != chunkSize {
		t.Errorf("the file grew to %d bytes for one key at a time", len(d.cached))
	}
}

func TestConcurrentChangesAreDurable(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	const workers, each = 16, 40
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			for i := range each {
				id := uuid.New()
				err := table.Create(id, testWrap(id, 1), testWrap(id, 2))
				if err == nil && i%3 == 0 {
					err = table.Erase(id)
				} else if err == nil {
					_, err = table.Get(id)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	image := d.crash(func(int, int) bool { return false })
	again, _ := mustOpen(t, image)
	want := workers * (each - (each+2)/3)
	if got := len(slices.Collect(again.Keys())); got != want {
		t.Errorf("%d keys after a crash, want %d", got, want)
	}
}

// TestGroupCommit: puts that queue during one sync share the next.
func TestGroupCommit(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	syncing, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.beforeSync = func() error {
		once.Do(func() { close(syncing); <-proceed })
		return nil
	}
	var wg sync.WaitGroup
	put := func() {
		wg.Go(func() {
			id := uuid.New()
			if err := table.Create(id, testWrap(id, 1)); err != nil {
				t.Error(err)
			}
		})
	}
	put()
	select {
	case <-syncing:
	case <-time.After(10 * time.Second):
		t.Fatal("a put did not sync")
	}
	for range 20 {
		put()
	}
	for queued := 0; queued < 20; {
		table.mu.Lock()
		queued = len(table.queue)
		table.mu.Unlock()
	}
	close(proceed)
	wg.Wait()
	if d.syncs != 2 {
		t.Errorf("21 puts took %d syncs, want 2", d.syncs)
	}
}

func TestFailedSyncClosesTheTable(t *testing.T) {
	for name, act := range map[string]func(*KeyTable, uuid.UUID) error{
		"put":   func(table *KeyTable, id uuid.UUID) error { n := uuid.New(); return table.Put(n, testWrap(n, 1)) },
		"erase": func(table *KeyTable, id uuid.UUID) error { return table.Erase(id) },
	} {
		for failAt := 1; failAt <= 2; failAt++ {
			t.Run(fmt.Sprintf("%s/%d", name, failAt), func(t *testing.T) {
				table, d := mustOpen(t, emptyTable())
				id := uuid.New()
				must(t, table.Create(id, testWrap(id, 1)))
				n := 0
				d.beforeSync = func() error {
					if n++; n == failAt {
						return errDisk
					}
					return nil
				}
				err := act(table, id)
				if name == "put" && failAt == 2 { // a put syncs once
					must(t, err)
					return
				}
				wantErr(t, err, errDisk)
				wantErr(t, err, ErrClosed)
				for _, err := range []error{act(table, id), table.Put(id, testWrap(id, 5))} {
					wantErr(t, err, ErrClosed)
				}
				_, err = table.Get(id)
				wantErr(t, err, ErrClosed)
				if n != failAt {
					t.Errorf("the sync was tried again: %d calls", n)
				}
				must(t, table.Close())
			})
		}
	}
}

func TestFullDiskRefusesPutsOnly(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	var ids []uuid.UUID
	for range chunkSize/slotSize - 1 {
		id := uuid.New()
		must(t, table.Create(id, testWrap(id, 1)))
		ids = append(ids, id)
	}
	d.beforeWrite = func(off int64, n int) error {
		if off+int64(n) > chunkSize {
			return errDisk
		}
		return nil
	}
	id := uuid.New()
	wantErr(t, table.Create(id, testWrap(id, 1)), errDisk)
	wantWraps(t, table, ids[7], testWrap(ids[7], 1))
	must(t, table.Erase(ids[7]))
	must(t, table.Create(id, testWrap(id, 1)))
	d.beforeWrite = nil
	must(t, table.Create(ids[7], testWrap(ids[7], 1)))
	if len(d.cached) != 2*chunkSize {
		t.Errorf("file of %d bytes", len(d.cached))
	}
}

func TestFailedWriteOrGrowthSyncCloses(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	d.beforeWrite = func(int64, int) error { return errDisk }
	id := uuid.New()
	wantErr(t, table.Create(id, testWrap(id, 1)), ErrClosed)

	table, d = mustOpen(t, emptyTable())
	for range chunkSize/slotSize - 1 {
		id := uuid.New()
		must(t, table.Create(id, testWrap(id, 1)))
	}
	d.beforeSync = func() error { return errDisk }
	wantErr(t, table.Create(id, testWrap(id, 1)), ErrClosed)
	wantErr(t, table.Create(id, testWrap(id, 1)), ErrClosed)
}

// TestGetDuringReuse reads keys while slots change hands under it.
func TestGetDuringReuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	must(t, CreateKeyTable(path))
	disk, err := OpenKeyTable(path, TableOptions{})
	must(t, err)
	defer disk.Close()
	ids := make([]uuid.UUID, 8)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 60 {
				id := ids[(i*2+w)%len(ids)]
				if err := errors.Join(disk.Put(id, testWrap(id, 1)), disk.Erase(id)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			id := ids[rand.IntN(len(ids))]
			if wraps, err := disk.Get(id); err == nil {
				if !bytes.Equal(wraps[0].Sealed, testWrap(id, 1).Sealed) {
					t.Error("got another key's wrap")
				}
			} else if !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	close(done)
	reader.Wait()
}
