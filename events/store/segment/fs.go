package segment

import (
	"io"
)

// FS is one directory, with the steps that the engine takes in it. It is an
// interface so that tests can fail, lose and tear every one of them.
type FS interface {
	// List gives the names in the directory, sorted.
	List() ([]string, error)
	// Create makes a file for reading and writing; an existing one is emptied.
	Create(name string) (File, error)
	// Open opens a file; write says whether it will be written to.
	Open(name string, write bool) (File, error)
	// Rename gives a file another name, replacing what had it.
	Rename(from, to string) error
	// Remove removes a file.
	Remove(name string) error
	// SyncDir makes the names in the directory durable.
	SyncDir() error
	// Free is the number of bytes that files can still take.
	Free() (uint64, error)
	// Lock takes the directory for this process alone until the closer is
	// closed. It returns store.ErrLocked when another one has it.
	Lock() (io.Closer, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WritePartsAt is WriteAt of the parts put together, without doing so.
	WritePartsAt(parts [][]byte, off int64) error
	// Size is the file's length in bytes.
	Size() (int64, error)
	// Allocate makes the file size bytes long, with storage behind each of
	// them; new ones are zero. Without room it fails with syscall.ENOSPC.
	Allocate(size int64) error
	// Truncate cuts the file.
	Truncate(size int64) error
	// Sync makes content and length durable (fsync).
	Sync() error
	// SyncData makes content durable (fdatasync); enough where the length
	// does not change.
	SyncData() error
}
