// Package commands decides what may happen. A command is an intent (AddUser); it is
// decided on the state of the aggregates, by a pure function, into events or
// into a [*Refusal]. One file per command.
//
// Start at [Dispatcher]: Do decides a command, makes its events durable, and
// only then applies them to the state; so nothing takes effect that the log
// does not hold. Who may give which command is asked in one place (policy.go)
// before the command is; a refusal that an auditor should know of is an event
// too (access.denied).
//
// Everything that comes from people is checked at this boundary (input.go):
// names, addresses, keys, times and texts are bounded and well-formed in every
// event that a command makes.
package commands
