package mesh_test

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// simSeeds is how many histories TestSimulation goes through.
func simSeeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("HOLDFAST_SIM_SEEDS"), 10, 32); err == nil {
		return n
	}
	if testing.Short() {
		return 100
	}
	if os.Getenv("HOLDFAST_TEST_FULL") == "1" {
		return 100_000
	}
	return 10_000
}

// TestSimulation runs whole meshes through faults, one history a seed, and
// holds each against the invariants. HOLDFAST_SIM_SEED runs one seed again,
// with its story.
func TestSimulation(t *testing.T) { simulate(t, simSeeds(), false) }

// TestSimulationOfACore is about liveness: in the end only some sites are mended, and
// agree whatever the others go on doing.
func TestSimulationOfACore(t *testing.T) { simulate(t, simSeeds()/10, true) }

func simulate(t *testing.T, seeds uint64, core bool) {
	if n, err := strconv.ParseUint(os.Getenv("HOLDFAST_SIM_SEED"), 10, 64); err == nil {
		report(t, drawn(n, "", core).run(true))
		return
	}
	began := time.Now()
	var events, forks atomic.Int64
	var simulated atomic.Int64
	bad := search(seeds, func(seed uint64) bool {
		out := drawn(seed, "", core).run(false)
		events.Add(int64(out.events))
		simulated.Add(int64(out.now))
		forks.Add(int64(out.forks))
		return out.err != nil
	})
	if bad != nil {
		report(t, drawn(*bad, "", core).run(false))
		return
	}
	took := time.Since(began)
	t.Logf("%d histories (%.0f a second), %d events, %d forks, %s simulated in %s", seeds, float64(seeds)/took.Seconds(), events.Load(), forks.Load(),
		time.Duration(simulated.Load()).Round(time.Minute), took.Round(time.Millisecond))
}

// TestEachRuleIsNeeded switches one rule off at a time: the histories must show
// it. Where none does within the limit, the rule or its check is not tested.
func TestEachRuleIsNeeded(t *testing.T) {
	if testing.Short() {
		t.Skip("what is switched off stays so under the race detector")
	}
	for _, rule := range []string{
		"ack when durable", // an acknowledgement means that it survives a crash
		"any site forwards",
		"ask again", // who was not given what it asked for asks anew
		"causes first",
		"clocks are met", // what is written sorts after what was known (R16)
		"pairs go on",
		"pairs wait",
		"signed heads",
		"vouched keys",
		"R14", // a fork is found, proven, spread and masked
		"R15", // a disk in doubt begins a new epoch
	} {
		t.Run(rule, func(t *testing.T) {
			limit := uint64(10_000)
			bad := search(limit, func(seed uint64) bool {
				return drawn(seed, rule, false).run(false).err != nil
			})
			if bad == nil {
				t.Fatalf("nothing goes wrong in %d histories without the rule", limit)
			}
			t.Logf("seed %d: %v", *bad, drawn(*bad, rule, false).run(false).err)
		})
	}
}

// Without faults a record crosses no link that it need not cross (I14).
func TestNothingIsSentTwice(t *testing.T) {
	sent, needed := 0, 0
	for seed := range uint64(20) {
		out := history{seed: seed + 1}.run(false)
		if out.err != nil {
			t.Fatalf("seed %d: %v", seed+1, out.err)
		}
		sent, needed = sent+out.sent, needed+out.needed
	}
	if ratio := float64(sent) / float64(needed); ratio > 1.05 {
		t.Errorf("%d bytes of records were sent for %d that sites lacked: %.2f", sent, needed, ratio)
	}
}

// When a network is mended, what is sent is what was missing (I14), whatever was
// broken before: the network, processes, disks.
func TestAHealSendsWhatIsMissing(t *testing.T) {
	broken := []string{"partition", "one-way cut", "cut", "flapping", "crash", "backup", "restore", "disk loss"}
	sent, needed, worst := 0, 0, 0.0
	seeds := uint64(100)
	if testing.Short() {
		seeds = 25
	}
	for seed := range seeds {
		h := drawn(seed+1, "", false)
		h.much = true
		h.faults = slices.DeleteFunc(h.faults, func(f fault) bool { return !slices.Contains(broken, f.kind) })
		h.faults = append(h.faults, fault{kind: "blackout", at: faultTime / 2})
		out := h.run(false)
		if out.err != nil {
			t.Fatalf("seed %d: %v", seed+1, out.err)
		}
		sent, needed = sent+out.healSent, needed+out.healNeeded
		if out.healNeeded > 10_000 {
			worst = max(worst, float64(out.healSent)/float64(out.healNeeded))
		}
	}
	ratio := float64(sent) / float64(needed)
	t.Logf("%d bytes of records were sent for %d that sites lacked: %.3f, %.3f at most", sent, needed, ratio, worst)
	if ratio > 1.15 {
		t.Errorf("%d bytes of records were sent for %d that sites lacked: %.2f", sent, needed, ratio)
	}
}

// search tries seeds from 1 on until one is bad.
func search(seeds uint64, bad func(seed uint64) bool) *uint64 {
	var next, found atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for found.Load() == 0 {
				seed := next.Add(1)
				if seed > seeds {
					return
				}
				if bad(seed) {
					found.CompareAndSwap(0, seed)
				}
			}
		})
	}
	workers.Wait()
	if seed := found.Load(); seed > 0 {
		return &seed
	}
	return nil
}

func report(t *testing.T, out outcome) {
	t.Helper()
	if out.err == nil {
		t.Logf("seed %d is good", out.seed)
		return
	}
	small := shrink(out)
	t.Errorf("seed %d: %v", out.seed, small.err)
	for _, f := range small.faults {
		t.Logf("fault: %s", f)
	}
	if n := len(small.trace); n > 200 {
		small.trace = small.trace[n-200:]
	}
	t.Log(strings.Join(small.trace, "\n"))
}
