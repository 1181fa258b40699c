// Package aggregate folds the decisions of all sites (their ctl logs) into the
// state that commands decide on. Folds only: nothing here decides or writes.
//
// Start at [State]: Apply takes one record; the lookups answer by id, by name,
// by key and by right.
//
// Records must come in causal order: each log from position 1 without gaps,
// and no record before those that its clock covers. Under that condition the
// folds do not depend on the order in which concurrent records come (rules R5
// to R9), so a late record of a healed partition costs one Apply and no
// rebuild. What makes them so:
//
//   - aggregates and secret versions are only added;
//   - what takes away is final, as a disabled user, or is taken back by what knew of
//     it alone, as a removed target or account;
//   - a removed grant takes away the right itself: every grant of the same
//     user and account that did not know of the removal falls with it;
//   - a value that can be replaced keeps its heads, the values that no other
//     one knew of; readers get the strictest reading of them;
//   - what a user did without it being known where they were disabled is
//     suspended: it stays, and counts for nothing until somebody settles it.
//
// Names and keys are fields, not identities. The indexes map each to all live
// holders; a name or key with more than one is a conflict that every lookup
// refuses ([ConflictError]), until a person removes all holders but one.
package aggregate
