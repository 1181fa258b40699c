package mesh_test

import (
	"math/rand/v2"
	"os"
	"runtime"
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
		return 200_000
	}
	return 10_000
}

func faultsOf(seed uint64) []fault {
	return drawFaults(rand.New(rand.NewPCG(seed, 2)), newSim(seed, "").first, faultTime)
}

// TestSimulation runs whole meshes through faults, one history a seed, and
// holds each against the invariants. HOLDFAST_SIM_SEED runs one seed again,
// with its story.
func TestSimulation(t *testing.T) {
	if n, err := strconv.ParseUint(os.Getenv("HOLDFAST_SIM_SEED"), 10, 64); err == nil {
		report(t, n, "", run(n, "", faultsOf(n), true))
		return
	}
	began := time.Now()
	var events, forks atomic.Int64
	var simulated atomic.Int64
	bad := search(simSeeds(), func(seed uint64) bool {
		out := run(seed, "", faultsOf(seed), false)
		events.Add(int64(out.events))
		simulated.Add(int64(out.now))
		forks.Add(int64(out.forks))
		return out.err != nil
	})
	if bad != nil {
		report(t, *bad, "", run(*bad, "", faultsOf(*bad), false))
		return
	}
	t.Logf("%d histories, %d events, %d forks, %s simulated in %s", simSeeds(), events.Load(), forks.Load(),
		time.Duration(simulated.Load()).Round(time.Minute), time.Since(began).Round(time.Millisecond))
}

// TestEachRuleIsNeeded switches one rule off at a time: the histories must show
// it. Where none does within the limit, the rule or its check is not tested.
func TestEachRuleIsNeeded(t *testing.T) {
	for _, rule := range []string{
		"ack when durable", // an acknowledgement means that it survives a crash
		"any site forwards",
		"ask again", // who was not given what it asked for asks anew
		"causes first",
		"pairs wait",
		"signed heads",
		"vouched keys",
		"R14", // a fork is found, proven, spread and masked
		"R15", // a disk in doubt begins a new epoch
	} {
		t.Run(rule, func(t *testing.T) {
			limit := uint64(10_000)
			bad := search(limit, func(seed uint64) bool {
				return run(seed, rule, faultsOf(seed), false).err != nil
			})
			if bad == nil {
				t.Fatalf("nothing goes wrong in %d histories without the rule", limit)
			}
			t.Logf("seed %d: %v", *bad, run(*bad, rule, faultsOf(*bad), false).err)
		})
	}
}

// Without faults a record crosses no link that it need not cross (I14).
func TestNothingIsSentTwice(t *testing.T) {
	sent, needed := 0, 0
	for seed := range uint64(50) {
		out := run(seed+1, "", nil, false)
		if out.err != nil {
			t.Fatalf("seed %d: %v", seed+1, out.err)
		}
		sent, needed = sent+out.sent, needed+out.needed
	}
	if ratio := float64(sent) / float64(needed); ratio > 1.05 {
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

func report(t *testing.T, seed uint64, off string, out outcome) {
	t.Helper()
	if out.err == nil {
		t.Logf("seed %d is good", seed)
		return
	}
	small := shrink(seed, off, out)
	t.Errorf("seed %d: %v", seed, small.err)
	for _, f := range small.faults {
		t.Logf("fault: %s", f)
	}
	if n := len(small.trace); n > 200 {
		small.trace = small.trace[n-200:]
	}
	t.Log(strings.Join(small.trace, "\n"))
}
