// Package evidence makes a log provable: the RFC 6962 Merkle tree over its
// headers, the key of a log, and signed heads.
//
// A head is a C2SP checkpoint (c2sp.org/tlog-checkpoint) in a signed note
// (c2sp.org/signed-note): anybody with the log's public key and the tools of
// those formats can check it. Each epoch of a log has a key of its own, so a
// head names one origin and cannot be used for another.
//
// The hashes and signatures are those of golang.org/x/mod/sumdb/tlog and
// golang.org/x/mod/sumdb/note; this package has no cryptography of its own.
package evidence
