// Package relay is the core of a session: a state machine that is given every connection-layer packet (RFC 4254,
// message numbers 80 to 127) of both directions in the order of their receipt, and says what becomes of each.
//
// A packet is passed on unchanged unless policy refuses it, so channel numbers and windows stay end to end. Replies to
// requests carry no id, so a refusal of the gateway's own waits its turn behind the replies that the other side still
// owes; that queue is the heart of the state.
//
// The relay has no goroutines, clock or randomness: the same packets give the same outputs. Its state can be written
// out at any packet and read back elsewhere. DESIGN.md of the gateway has the table of what it refuses.
package relay
