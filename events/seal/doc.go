// Package seal keeps session bytes and secrets unreadable to whoever holds the
// disk, and makes them erasable without touching the log.
//
// Each session and each credential has a [DataKey] (AES-256-GCM). What it seals
// is hashed, stored and replicated as ciphertext. The data key itself is wrapped
// (HPKE, RFC 9180) to the [PublicKey] of every site that may open it, and the
// wraps live in a [KeyTable]: a file beside the log that, unlike the log, forgets.
//
// A [Sealer] puts these together. Making a key needs public halves only, so a
// site whose private half is absent (sealed) goes on recording; opening needs a
// [Provider], which holds the private half or talks to what holds it.
//
// DESIGN.md has the threat table, the byte diagram of a slot and the crash rules.
package seal
