// Package mux is the server side of the SSH connection layer (RFC 4254) for what ends at the gateway itself: it turns
// the packets of one connection into session channels with standard input, output and error.
//
// Sessions that go on to a target don't come here: their packets are relayed. This mux accepts "session" channels with
// a shell or a command and nothing else, so that nothing at the site can be reached through it but its handler. Every
// number a client may choose is bounded by [Limits].
package mux
