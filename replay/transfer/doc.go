// Package transfer tells which files a session moved: it decodes SFTP and scp from the byte streams of a session's
// channels, beside the data path, and says of each file its name, its size, its direction and the SHA-256 of its content.
//
//	[Operations]  from a recording, or from a live source of packets
//	[Follower]    the same, fed with the events of a session
//	[Decoder]     one channel, fed with its bytes
//	[Gate]        whether files may go up, down, both or neither; [Guard] holds one channel to it
//
// # What is decoded
//
// SFTP version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions, and the protocol that scp spoke before it took
// to SFTP. The few fixed packets are read here, since github.com/pkg/sftp decodes them only inside its own client and
// server, which answer what they read: nothing in it listens to both sides of a conversation that others have.
//
// Requests and replies are paired by id, and what an operation says is what the target answered. Content is hashed in the
// order of its offsets, whatever order it was sent in; what comes before its turn waits, up to 4 MiB per channel. A file
// has a hash if all of it moved, once, from the first byte to the last: the target said where it ends, or the client
// truncated it. Else Note says why there is none.
//
// Everything else is not known to be a transfer: a shell, "cat FILE", tar through a pipe. rsync and git are told
// apart from those, with their direction, but their bytes are opaque here. The recording has all the bytes in any case.
//
// Both sides may be hostile. State is bounded, nothing waits, and bytes that make no sense end the decoding of their
// channel with an operation of [KindUndecoded], so that nobody takes silence for idleness. A client can bring that
// about on purpose; it can't do so and pass a Guard.
//
// # How a refusal is delivered
//
// Windows are end to end and the recording must tell what each side got, so no bytes are slipped into a channel and none
// are taken out. What isn't allowed is refused at one of three places:
//
//   - At the request for the program, with CHANNEL_FAILURE, wherever that is enough: always for scp, rsync and git, whose
//     command line has the direction, and for SFTP if neither direction is allowed. The client prints "subsystem request
//     failed" or "exec request failed" and exits. What leaves the direction open is refused as well.
//   - At an SFTP request that goes the wrong way, by changing bytes of it on its way: its type becomes that of an
//     extension, and all behind its id that could be a name or content is overwritten, so that it asks for something that
//     no server knows. The target says so, with the request's own id, and its answer becomes SSH_FX_PERMISSION_DENIED on its
//     way back. Lengths, windows and the order of answers stay true, the refused request has no effect, and the client goes on
//     as with a file system that is read-only.
//   - At a request for which that can't be done, by ending the client's half of the channel with a CHANNEL_EOF in place of
//     the packet. The server ends for lack of input, as it does when a client leaves; the client reads "Connection closed".
//     Those are bytes that are no SFTP 3, types of packets that nobody knows, an OPEN whose flags come in another packet than
//     its type, which real clients all but never send, two refused requests with one id, and more of them than a client waits for.
//
// A target must answer an unknown extension with a status, as section 4 of the draft says; one that doesn't keeps its
// client waiting, and nothing refused passes meanwhile.
//
// # What a gate can't hold back
//
// A shell, and any command that isn't known as a transfer, moves bytes as it likes ("cat >file", tar, base64), so a gate is a
// boundary only where the grant allows no others. It also believes that the target runs what its name says.
//
// With one direction allowed it needs SFTP version 3: where both sides can speak a later one, the channel is ended.
package transfer
