// Package gateway is the SSH gateway: it lets people in by their own keys, routes them to a target or to the console,
// logs in at the target with a credential that they never see, and relays the session packet by packet while recording
// it. No byte of a session reaches its receiver before the event that holds it is durable.
//
// [Server] accepts and authenticates (server.go, auth.go, route.go) and opens the target (open.go, target.go); session.go
// and its neighbours run one session: readers, the relay, the recorder and deliverers, with three cursors per direction.
// DESIGN.md has the whole picture.
package gateway
