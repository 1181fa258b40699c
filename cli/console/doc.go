// Package console is the verb tree that runs at a site for a person who has
// proven who they are: the nouns (user, target, account, grant, session,
// audit, log, projection), what each verb may be used by whom, and how answers
// and errors look. The local binary sends its verbs here over SSH, so there is
// one login and one place where the right to a verb is decided.
//
// # What an argument can do
//
// An argument is data. No verb opens a file, runs a program or dials an
// address that an argument names; "-" and the flags ending in "-stdin" read
// the channel's own standard input and are the only way to hand over more than
// the line holds. The one address that is ever dialled is that of a target, by
// "target add --scan" and "target pin --scan", for an administrator, once that is
// an event.
//
// # What comes back
//
// Answers go to standard output: tables for people, with --json one object
// {kind, apiVersion, items|item}, for streams one such object a line. Errors
// go to standard error, with the exit codes of [Exit]. Times are RFC 3339 UTC,
// ids UUIDs, sizes bytes, durations seconds. An answer that may lack what was
// decided last is given with a warning, "stale" in its object and the exit code
// of [Partly]. Nothing that others chose (names,
// client versions, reasons) reaches a terminal with control characters in it.
//
// # Adding a verb
//
// A noun is one file: a package-level noun call with a function that makes its
// cobra command for one [call]. Each verb says who may use it.
package console
