// Package events holds the words of holdfast: what can happen, how a fact is
// written down, and how facts of several sites are ordered.
//
// Start here:
//
//   - an event is a fact in the past ([SessionStarted]); each aggregate has a
//     file with its event types, declared with a literal stored name and
//     version, listed by [Catalogue];
//   - a [Record] is an event as stored: a [Header] and a payload, two byte
//     strings that are checked apart, so that a payload may be absent while
//     the header still proves it;
//   - a log is the append-only sequence of records that one site writes, named
//     by its [Origin]; a position is a place in one log, from 1, without gaps;
//   - a stream is all events of one aggregate, named by its UUID. A human name
//     is only ever a field of an event;
//   - a [Clock] is a vector clock: for each origin the position up to which a
//     site had applied that log; an [HLC] only sorts.
//
// Stored bytes are deterministic CBOR (RFC 8949 section 4.2.1); the same
// struct tags give the JSON that people see. Bytes are hashed, stored and
// verified as written and never decoded and encoded again.
//
// Rules for event types: fields are only added, optional, never renamed or
// given another type; no maps, floats or interfaces; a changed meaning is a
// new version with an upcaster beside it. catalogue.golden and the frozen
// samples in testdata/records fail the build on a breaking change.
package events
