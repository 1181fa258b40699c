// Package sshwire is holdfast's own SSH below the channels: the transport layer (RFC 4253) and user authentication
// (RFC 4252, RFC 4256) in both roles, and the codec of the connection layer's messages (RFC 4254).
//
// A [Conn] hands whole connection-layer packets up and down, because a session is two numbered sequences of such
// packets; it knows nothing of channels. Every cryptographic primitive, key type, signer and certificate comes from the
// standard library or golang.org/x/crypto. DESIGN.md says what is accepted, what is refused, and why.
package sshwire
