// Package mux is the server side of the SSH connection layer (RFC 4254) for what ends at the gateway itself: it turns
// the packets of one connection into session channels with standard input, output and error, and direct-tcpip channels
// into streams.
//
// Sessions that go on to a target don't come here: their packets are relayed. This mux accepts "session" channels with
// a shell or a command and "direct-tcpip" channels, and nothing else. Neither leads anywhere but to its [Handlers]: no
// address that a client names is looked up or dialled. Every number a client may choose is bounded by [Limits].
package mux
