// Package rotation changes the secrets of accounts on their targets, without
// ever losing the one that works.
//
// A rotation is a stream of events: planned, the new secret staged, sent to the
// target, what the target answered, verified by a login of its own, ended. Each
// event is durable before what it announces is done (rule R1), so a site that is
// lost at any moment knows at its next start what it may have done: what was
// announced and not answered is unknown, and only the target knows which secret
// is true (rule R3). Then the candidates are tested, the likeliest first, within
// the account's lock-out budget; the first that is accepted settles it. If none
// is, a reset through the account's privileged one where it has one, else the
// alarm: secret.unknown.
//
// Start at [Plan], which tells the next step of a rotation from the state alone,
// so that a step after a restart is the same as before it. [Manager] carries out
// steps; obligations.go says which accounts are due.
package rotation
