// Package replay turns the recording of a session back into what happened: packets become channels, channels become
// byte streams with times, and those become files, a transcript, or a film in a terminal.
//
// The way through it:
//
//	records of the rec log --Items--> packets as sent --Events--> channel events --> Raw, Cast, Transcript, Describe, Play
//
// Everything streams: memory doesn't grow with the recording. A recording is hostile (both sides of the session could
// write what they liked into it) and may end anywhere, so nothing in here trusts a byte of it and nothing fails because
// of one. The bytes of a channel are the evidence, and [Raw] gives them exactly; casts and transcripts are derived and
// lose what a text file can't hold.
package replay
