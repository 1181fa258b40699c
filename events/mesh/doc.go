// Package mesh makes the logs of several sites one: each site ends up with a
// verified copy of what every other site wrote, over whatever links happen to
// be up, and nobody waits for anybody in order to write.
//
// [Core] is a pure step function: inputs and a time go in, outputs come out.
// It has no goroutines, no clock, no randomness and does no I/O, so a
// simulation can run it through any order of faults. [Node] is the shell
// around it: sockets, disk and time.
//
// DESIGN.md tells how records travel, what is verified where, and what happens
// in each kind of fault.
package mesh
