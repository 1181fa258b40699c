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
// No byte may be slipped into a channel, and replies of SFTP are bytes in a channel: the windows are end to end, and
// the recording would hold what no target said. So a transfer that isn't allowed is refused at one of two places:
//
//   - At the request for the program, with CHANNEL_FAILURE, wherever that is enough: always for scp and rsync, whose
//     command line has the direction, and for SFTP if neither direction is allowed. The client prints "subsystem request
//     failed" or "exec request failed" and exits.
//   - At the first SFTP request that goes the wrong way, by ending the client's half of the channel. The packet with the
//     decisive byte is dropped, so the target never has the whole of the request. In its place goes a CHANNEL_EOF; all
//     data and EOF that the client sends later on this channel are dropped, and everything else passes both ways: window
//     adjustments, the rest of the target's replies, its exit status, EOF and CLOSE, and the client's CLOSE.
//     The server ends for lack of input, as it does when a client leaves. The client reads "Connection closed" at its
//     prompt and exits with 255; other channels of the session, its own later ones too, go on. The reason is in the event.
//
// Both are packets that either side could have sent, numbers and windows stay true, and no request that was refused has
// an effect. To close the channel outright would be no better: the target would drop the replies that it still owes to
// permitted requests, and the exit status; and if the gateway spoke for the client with a CLOSE, the numbers of the channel
// would be free on one side before the other. To change a request so that the target refuses it would alter evidence.
//
// A target that doesn't end at EOF keeps the client waiting; nothing refused passes meanwhile. And libssh2, which curl
// uses, does not notice the end of a channel: a client that has not sent its CLOSE some seconds after the target's is
// best ended with the connection, by a DISCONNECT that gives the reason.
//
// # What a gate can't hold back
//
// A shell, and any command that isn't known as a transfer, moves bytes as it likes, so a gate is a boundary only where
// the grant allows no others. It also believes that the target runs what its name says.
//
// With one direction allowed it needs SFTP version 3: where both sides can speak a later one, the channel is ended.
package transfer
