package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// figures in the order in which they are shown. The goal is the bound on the
// ratio to ProxyJump; 0 for none.
var figures = []struct {
	name string
	goal float64
	less bool // smaller is better
}{
	{"setup ms", 0.6, true},
	{"echo p50 us", 1.5, true},
	{"echo p99 us", 2, true},
	{"beside bulk p50 us", 0, true},
	{"beside bulk p99 us", 0, true},
	{"down MiB/s", 1.3, false},
	{"up MiB/s", 1.3, false},
	{"scp get MiB/s", 1.2, false},
	{"scp put MiB/s", 1.2, false},
}

// report prints medians over the rounds, and the ratios of the gateway to the
// two peers: median and spread of the ratios inside each round.
func report(w io.Writer, n sizes, results map[string][]sample, idle idleFigures) {
	fmt.Fprintf(w, "%d rounds, %d keys, %d connections, %d MiB; every session byte fdatasynced before delivery\n\n",
		n.rounds, n.keys, n.setups, n.bulk>>20)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tdirect\tjump\tgateway\tgateway/direct (min-max)\tgateway/jump (min-max)\tgoal to jump")
	for _, f := range figures {
		goal := fmt.Sprintf(">= %.1f", f.goal)
		switch {
		case f.goal == 0:
			goal = "-"
		case f.less:
			goal = fmt.Sprintf("<= %.1f", f.goal)
		}
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.1f\t%s\t%s\t%s\n", f.name,
			median(column(results["direct"], f.name)), median(column(results["jump"], f.name)), median(column(results["gateway"], f.name)),
			ratios(results, f.name, "direct"), ratios(results, f.name, "jump"), goal)
	}
	t.Flush()
	fmt.Fprintf(w, "\ngateway CPU, s per GiB: down %.2f, up %.2f (goal <= 3.0)\n",
		median(column(results["gateway"], "cpu-s/GiB down")), median(column(results["gateway"], "cpu-s/GiB up")))
	fmt.Fprintf(w, "keystroke beside bulk p99: %.1f ms (goal <= 10)\n", median(column(results["gateway"], "beside bulk p99 us"))/1000)
	fmt.Fprintf(w, "%d idle sessions: %.0f KiB of resident set each (goal <= 60); echo p50 %.0f us beside them, %.0f us without (%.2f, goal: unchanged)\n",
		n.idle, idle.resident, idle.beside, idle.without, idle.beside/idle.without)
	fmt.Fprintf(w, "a bare write and fdatasync here: p50 %.0f us, p99 %.0f us; an echo needs two of them in series\n",
		median(column(results["floor"], "p50")), median(column(results["floor"], "p99")))
}

func column(samples []sample, name string) []float64 {
	var v []float64
	for _, s := range samples {
		v = append(v, s[name])
	}
	return v
}

func ratios(results map[string][]sample, name, peer string) string {
	own, other := column(results["gateway"], name), column(results[peer], name)
	v := make([]float64, len(own))
	for i := range own {
		v[i] = own[i] / other[i]
	}
	slices.Sort(v)
	return fmt.Sprintf("%.2f (%.2f-%.2f)", v[len(v)/2], v[0], v[len(v)-1])
}
