// Package projections keeps the views that people and reports read: tables in
// an SQLite database, built from the events of the logs and from nothing else.
//
// A view is disposable. Its file may be deleted at any time and is built again
// from the logs; nothing is migrated. What a view holds is a function of the
// set of events that it has applied, not of the order in which the origins'
// records came in between each other: fields keep the value with the greatest
// (HLC, origin, position), what is taken away stays away unless it is given
// again by an event that knew of the removal. So a log that arrives late costs
// its own length, and an incremental view equals a rebuilt one; [Projections.Digest]
// shows it.
//
// Start here:
//
//   - define.go: what a projection is. Each is one file (users.go, ...) with its
//     tables, its handlers and the queries that read it;
//   - source.go: what is needed of the logs;
//   - view.go: one database and how a batch of records moves state and
//     checkpoint in one transaction;
//   - run.go: the owner of the goroutines, and [Projections.WaitFor];
//   - rebuild.go, generation.go: a rebuild into a fresh file, swapped in whole.
package projections
