package seal

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var (
	oldID = uuid.MustParse("018f0000-0000-7000-8000-00000000000a")
	newID = uuid.MustParse("018f1111-2222-7333-8444-55555555555b")
)

// interrupted runs act on a table that holds oldID, and stops it at its n-th
// sync: what it wrote since the sync before is left in the returned disk.
func interrupted(t *testing.T, n int, act func(*KeyTable) error) *disk {
	t.Helper()
	table, d := mustOpen(t, emptyTable())
	must(t, table.Create(oldID, testWrap(oldID, 1)))
	d.beforeSync = func() error {
		if n--; n == 0 {
			return errDisk
		}
		return nil
	}
	wantErr(t, act(table), errDisk)
	d.beforeSync = nil
	return d
}

// tears are the ways in which a 256-byte write may be cut: before or after each byte.
func tears(visit func(keep func(write, i int) bool)) {
	for cut := range slotSize + 1 {
		visit(func(_, i int) bool { return i < cut })
		visit(func(_, i int) bool { return i >= cut })
	}
}

func TestTornPutIsWholeOrGone(t *testing.T) {
	d := interrupted(t, 1, func(table *KeyTable) error { return table.Create(newID, testWrap(newID, 1)) })
	whole, gone := 0, 0
	tears(func(keep func(int, int) bool) {
		table, after := mustOpen(t, d.crash(keep))
		wantWraps(t, table, oldID, testWrap(oldID, 1))
		if table.Has(newID) {
			whole++
			wantWraps(t, table, newID, testWrap(newID, 1))
			return
		}
		gone++
		if bytes.Contains(after.durable, newID[:4]) {
			t.Fatal("part of a put that was removed is still in the file")
		}
		must(t, table.Create(newID, testWrap(newID, 1)))
	})
	if whole < 2 || gone < slotSize {
		t.Errorf("%d cuts left the put whole, %d removed it: the test does not cut", whole, gone)
	}
}

func TestTornEraseIsNeverDamage(t *testing.T) {
	for step := 1; step <= 2; step++ {
		d := interrupted(t, step, func(table *KeyTable) error { return table.Erase(oldID) })
		tears(func(keep func(int, int) bool) {
			table, after := mustOpen(t, d.crash(keep))
			if table.Has(oldID) {
				if step == 2 {
					t.Fatal("a key came back after its erasure mark was durable")
				}
				wantWraps(t, table, oldID, testWrap(oldID, 1))
				must(t, table.Erase(oldID))
			}
			if bytes.Contains(after.durable, oldID[:4]) {
				t.Fatal("part of an erased key is still in the file")
			}
		})
	}
}

// TestEveryFlippedBit: a flipped bit in an acknowledged slot is reported with its
// place or does no harm; in the last put before a crash the slot may vanish.
// No flip ever yields another wrap.
func TestEveryFlippedBit(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	must(t, table.Create(oldID, testWrap(oldID, 1)))
	must(t, table.Create(newID, testWrap(newID, 1))) // confirms oldID; itself not yet confirmed
	pending := bytes.Clone(d.durable)
	must(t, table.Close())
	live := bytes.Clone(d.durable)
	for name, image := range map[string][]byte{"acknowledged": live, "last put": pending} {
		reported, harmless, vanished := 0, 0, 0
		for bit := range slotSize * 8 {
			flipped := bytes.Clone(image)
			flipped[2*slotSize+bit/8] ^= 1 << (bit % 8)
			table, _, err := openImage(t, flipped, TableOptions{})
			var damage *DamageError
			switch {
			case errors.As(err, &damage):
				reported++
				if damage.Slot != 2 || damage.Offset != 2*slotSize || damage.Path != "keys" {
					t.Fatalf("bit %d: reported at another place: %v", bit, err)
				}
				continue
			case err != nil:
				t.Fatal(err)
			case table.Has(newID):
				harmless++
				wantWraps(t, table, newID, testWrap(newID, 1))
			default:
				vanished++
				if table.Recovered().TornPuts != 1 {
					t.Fatalf("bit %d: the slot vanished uncounted", bit)
				}
			}
			wantWraps(t, table, oldID, testWrap(oldID, 1))
			if n := len(slices.Collect(table.Keys())); n > 2 {
				t.Fatalf("bit %d: %d keys", bit, n)
			}
		}
		const words, body = 8 * 8, (slotSize - 8) * 8
		t.Logf("%s: %d reported, %d harmless, %d vanished", name, reported, harmless, vanished)
		if name == "acknowledged" && (vanished != 0 || reported != body || harmless != words) {
			t.Errorf("acknowledged slot: %d reported, %d harmless, %d vanished", reported, harmless, vanished)
		}
		if name == "last put" && (reported != 0 || vanished != body || harmless != words) {
			t.Errorf("last put: %d reported, %d harmless, %d vanished", reported, harmless, vanished)
		}
	}
}

func TestHeaderDamageIsReported(t *testing.T) {
	for bit := range slotSize * 8 {
		image := emptyTable()
		image[bit/8] ^= 1 << (bit % 8)
		for _, allow := range []bool{false, true} {
			_, _, err := openImage(t, image, TableOptions{AllowDamage: allow})
			if damage := (*DamageError)(nil); !errors.As(err, &damage) || damage.Slot != 0 {
				t.Fatalf("bit %d: %v", bit, err)
			}
		}
	}
}

func TestDamagedSlotIsKeptAside(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	must(t, table.Create(oldID, testWrap(oldID, 1)))
	must(t, table.Create(newID, testWrap(newID, 1)))
	must(t, table.Close())
	image := bytes.Clone(d.durable)
	image[1*slotSize+sealedAt] ^= 1
	table, d, err := openImage(t, image, TableOptions{AllowDamage: true})
	must(t, err)
	if len(table.Damage()) != 1 || table.Damage()[0].Slot != 1 {
		t.Errorf("damage: %v", table.Damage())
	}
	wantWraps(t, table, oldID)
	wantWraps(t, table, newID, testWrap(newID, 1))
	for range 300 {
		id := uuid.New()
		must(t, table.Create(id, testWrap(id, 1)))
	}
	if !bytes.Equal(d.durable[slotSize:2*slotSize], image[slotSize:2*slotSize]) {
		t.Error("the damaged slot was overwritten")
	}
}

// TestDamageUnderOpenTable: a slot that goes bad while the table is open is
// reported at Get and can still be erased.
func TestDamageUnderOpenTable(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	must(t, table.Create(oldID, testWrap(oldID, 1)))
	d.cached[slotSize+sealedAt] ^= 1
	_, err := table.Get(oldID)
	if damage := (*DamageError)(nil); !errors.As(err, &damage) || damage.Slot != 1 {
		t.Fatalf("got %v", err)
	}
	must(t, table.Erase(oldID))
	wantWraps(t, table, oldID)
	if !bytes.Equal(d.durable[slotSize:2*slotSize], zeroSlot) {
		t.Error("the damaged slot was not zeroed")
	}
}

func TestCutFileIsReported(t *testing.T) {
	table, d := mustOpen(t, emptyTable())
	must(t, table.Create(oldID, testWrap(oldID, 1)))
	must(t, table.Create(newID, testWrap(newID, 1)))
	must(t, table.Close())
	image := bytes.Clone(d.durable)
	for size := range 3*slotSize + 10 {
		_, _, err := openImage(t, image[:size], TableOptions{})
		if damage := (*DamageError)(nil); !errors.As(err, &damage) || int(damage.Slot) != size/slotSize {
			t.Fatalf("cut at %d: %v", size, err)
		}
		if size < slotSize {
			continue
		}
		table, after, err := openImage(t, image[:size], TableOptions{AllowDamage: true})
		must(t, err)
		if len(after.durable) != chunkSize || len(table.Damage()) == 0 {
			t.Fatalf("cut at %d: padded to %d bytes, %d damaged", size, len(after.durable), len(table.Damage()))
		}
		if size >= 2*slotSize {
			wantWraps(t, table, oldID, testWrap(oldID, 1))
		}
	}
}

func TestCrashWhileGrowingIsNoDamage(t *testing.T) {
	image := append(emptyTable(), make([]byte, chunkSize/2+17)...)
	table, d := mustOpen(t, image)
	for range chunkSize/slotSize + 5 {
		id := uuid.New()
		must(t, table.Create(id, testWrap(id, 1)))
	}
	if len(d.durable) != 2*chunkSize {
		t.Errorf("file of %d bytes, want two chunks", len(d.durable))
	}
}

// TestCrashesLoseNothingAcknowledged runs random changes, loses power at random
// moments keeping random bytes of what was not synced, and compares with a model.
func TestCrashesLoseNothingAcknowledged(t *testing.T) {
	steps := 60
	if os.Getenv("HOLDFAST_TEST_FULL") == "1" {
		steps = 2000
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &crashModel{t: t, rnd: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), acked: map[uuid.UUID][]Wrap{}}
		m.table, m.disk = mustOpen(t, emptyTable())
		for range steps {
			m.step()
		}
	})
}

// crashModel is what the table must hold: everything acknowledged.
type crashModel struct {
	t     *testing.T
	rnd   *rand.Rand
	table *KeyTable
	disk  *disk
	acked map[uuid.UUID][]Wrap
}

func (m *crashModel) step() {
	failAt := m.rnd.IntN(12) // 1 or 2: that sync fails, then power is lost
	n := 0
	m.disk.beforeSync = func() error {
		if n++; n == failAt {
			return errDisk
		}
		return nil
	}
	id := m.anyKey()
	switch m.rnd.IntN(5) {
	case 0, 1:
		id = uuid.New()
		m.put(id, testWrap(id, 1))
	case 2:
		m.put(id, testWrap(id, byte(1+m.rnd.IntN(3))))
	case 3:
		m.erase(id)
	case 4:
		m.crash(uuid.Nil) // between changes
	}
}

func (m *crashModel) anyKey() uuid.UUID {
	if len(m.acked) == 0 {
		return uuid.New()
	}
	ids := slices.SortedFunc(maps.Keys(m.acked), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return ids[m.rnd.IntN(len(ids))]
}

func (m *crashModel) put(id uuid.UUID, w Wrap) {
	had := slices.ContainsFunc(m.acked[id], func(a Wrap) bool { return a.To == w.To })
	switch err := m.table.Put(id, w); {
	case err == nil && !had:
		m.acked[id] = append(m.acked[id], w)
	case err == nil:
	case errors.Is(err, errDisk):
		m.crash(id)
	default:
		m.t.Fatal(err)
	}
}

func (m *crashModel) erase(id uuid.UUID) {
	switch err := m.table.Erase(id); {
	case err == nil:
		delete(m.acked, id)
		if bytes.Contains(m.disk.durable, testWrap(id, 1).Sealed[:40]) {
			m.t.Fatal("erased bytes are still on the disk")
		}
	case errors.Is(err, errDisk):
		m.crash(id)
	default:
		m.t.Fatal(err)
	}
}

// crash reopens what the disk kept; unsure is the key whose change was under way.
func (m *crashModel) crash(unsure uuid.UUID) {
	torn := m.rnd.IntN(3)
	lost := map[int]bool{}
	for i := range m.disk.dirty {
		lost[i] = m.rnd.IntN(2) == 0
	}
	image := m.disk.crash(func(write, _ int) bool {
		if torn == 0 {
			return !lost[write]
		}
		return m.rnd.IntN(2) == 0
	})
	m.table, m.disk = mustOpen(m.t, image)
	held := 0
	for id := range m.table.Keys() {
		held++
		got, err := m.table.Get(id)
		must(m.t, err)
		if id == unsure {
			for _, w := range got {
				if want := testWrap(id, byte(w.To.Key)); !bytes.Equal(w.Sealed, want.Sealed) {
					m.t.Fatal("a wrong wrap came out of a crash")
				}
			}
			m.acked[id] = got
		}
	}
	if unsure != uuid.Nil && !m.table.Has(unsure) {
		delete(m.acked, unsure)
	}
	if held != len(m.acked) {
		m.t.Fatalf("%d keys after the crash, want %d", held, len(m.acked))
	}
	for id, want := range m.acked {
		slices.SortFunc(want, func(a, b Wrap) int { return int(a.To.Key) - int(b.To.Key) })
		wantWraps(m.t, m.table, id, want...)
	}
}
