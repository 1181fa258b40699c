// Package segment keeps a log in segment files: the default engine.
//
// A commit is one frame: one write and one fdatasync. Segment files are
// allocated ahead, named by their first position, and end in a footer with a
// sparse index when they are full. Header and payload of a record each have a
// check of their own, so a payload may be absent.
//
// When a log is opened, only a tail that cannot have been acknowledged is ever
// dropped; then the log is sealed, so that no position is used twice. Anything
// else that is not what was written is a [store.DamageError], and nothing on
// disk is changed. DESIGN.md tells format, assumptions and each crash case.
package segment
