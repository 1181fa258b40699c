// Package backup is the form of a site's backup: one stream, encrypted with age
// to the people who may restore it, in it a tar of what the site must not lose.
//
//	backup.json                   whose it is and when it was made (About)
//	log/SITE/KIND/EPOCH/FIRST     records of a log from position FIRST on, as they were written
//	file/PATH                     a file of the data directory, by its path in there
//	end.json                      size and root hash of each log (End); without it nothing counts
//
// Age authenticates every byte and the end of the stream, the logs prove
// themselves by their root hashes. Records stay as they are sealed, so whoever
// opens a backup reads no session and no secret without the site's key.
package backup

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// Format is the version of the form that this package writes and reads.
const Format = 1

// About says whose backup it is.
type About struct {
	Format  int           `json:"format"`
	ID      uuid.UUID     `json:"id"` // of this backup
	Site    events.SiteID `json:"site"`
	Name    string        `json:"name"`
	Version string        `json:"version"` // of the software
	Made    time.Time     `json:"made"`
}

// LogSize is how much of a log a backup holds.
type LogSize struct {
	Origin  events.Origin `json:"origin"`
	Records uint64        `json:"records"`
	Root    events.Hash   `json:"root"`
}

// End closes a backup.
type End struct {
	Logs []LogSize `json:"logs"`
}

const (
	aboutName = "backup.json"
	endName   = "end.json"
	logPrefix = "log/"
	filePath  = "file/"

	// maxFile bounds one entry of the tar, in bytes.
	maxFile = 16 << 20
	// maxTable bounds the key table, the one file that grows with the site.
	maxTable = 4 << 30
	// chunkBytes and chunkEntries bound the records of one entry.
	chunkBytes   = 4 << 20
	chunkEntries = 1024
)

// ErrBad says that a stream is no whole backup of this form.
var ErrBad = errors.New("not a usable backup")

// Writer writes a backup. It is not safe for concurrent use.
type Writer struct {
	sealed io.WriteCloser
	tar    *tar.Writer
	end    End
	made   time.Time
}

// NewWriter begins a backup that the recipients can open.
func NewWriter(w io.Writer, about About, recipients ...age.Recipient) (*Writer, error) {
	sealed, err := age.Encrypt(w, recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt backup: %w", err)
	}
	b := &Writer{sealed: sealed, tar: tar.NewWriter(sealed), made: about.Made}
	about.Format = Format
	return b, b.json(aboutName, about)
}

// Log adds the first records of a log. One that holds fewer is an error.
func (b *Writer) Log(o events.Origin, records uint64, entries iter.Seq2[events.Entry, error]) error {
	var tree evidence.Tree
	chunk, inChunk := []byte(nil), 0
	flush := func() error {
		if inChunk == 0 {
			return nil
		}
		first := tree.Size() + 1 - uint64(inChunk)
		err := b.entry(fmt.Sprintf("%s%s/%020d", logPrefix, logName(o), first), chunk)
		chunk, inChunk = chunk[:0], 0
		return err
	}
	for e, err := range entries {
		if tree.Size() == records {
			break
		}
		if err != nil {
			return fmt.Errorf("back up log %s: %w", o, err)
		}
		if len(chunk)+len(e.Header)+len(e.Payload) > chunkBytes || inChunk == chunkEntries {
			if err := flush(); err != nil {
				return err
			}
		}
		chunk = appendEntry(chunk, e)
		inChunk++
		tree.Append(evidence.LeafHash(e.Header))
	}
	if err := flush(); err != nil {
		return err
	}
	if tree.Size() != records {
		return fmt.Errorf("back up log %s: it ended after %d of %d records", o, tree.Size(), records)
	}
	b.end.Logs = append(b.end.Logs, LogSize{o, records, tree.Root()})
	return nil
}

func logName(o events.Origin) string {
	return fmt.Sprintf("%s/%s/%d", o.Site, o.Kind, o.Epoch)
}

func appendEntry(b []byte, e events.Entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.Header)))
	b = append(b, e.Header...)
	if e.Payload == nil {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Payload))+1)
	return append(b, e.Payload...)
}

// File adds a file by its path in the data directory.
func (b *Writer) File(path string, content []byte) error {
	return b.entry(filePath+path, content)
}

// Close ends the backup, which is whole only then. The stream itself stays open.
func (b *Writer) Close() error {
	if err := b.json(endName, b.end); err != nil {
		return err
	}
	return errors.Join(b.tar.Close(), b.sealed.Close())
}

func (b *Writer) json(name string, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.entry(name, content)
}

func (b *Writer) entry(name string, content []byte) error {
	err := b.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: b.made, Format: tar.FormatPAX})
	if err == nil {
		_, err = b.tar.Write(content)
	}
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// Item is one part of a backup: of its four fields one is set.
type Item struct {
	About *About // the first item
	Chunk *Chunk
	File  *File
	End   *End // the last item
}

// Chunk is consecutive records of a log.
type Chunk struct {
	Origin  events.Origin
	First   uint64 // position of the first one
	Entries []events.Entry
}

// File is a file of the data directory.
type File struct {
	Path    string // relative, with slashes, clean
	Content []byte
}

// Read yields the parts of a backup and stops after the first error. That a
// stream is whole is known once its End has been followed by no error.
func Read(r io.Reader, identities ...age.Identity) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		opened, err := age.Decrypt(r, identities...)
		if err != nil {
			yield(Item{}, fmt.Errorf("%w: %w", ErrBad, err))
			return
		}
		files := tar.NewReader(opened)
		for first, ended := true, false; ; first = false {
			item, err := next(files, opened, first, ended)
			if errors.Is(err, io.EOF) && ended {
				return
			}
			if err != nil && !errors.Is(err, ErrBad) {
				err = fmt.Errorf("%w: %w", ErrBad, err)
			}
			if !yield(item, err) || err != nil {
				return
			}
			ended = item.End != nil
		}
	}
}

func next(files *tar.Reader, opened io.Reader, first, ended bool) (Item, error) {
	h, err := files.Next()
	if errors.Is(err, io.EOF) {
		if !ended {
			return Item{}, fmt.Errorf("%w: it ends before it is whole", ErrBad)
		}
		if n, err := io.Copy(io.Discard, opened); err != nil || n > 1<<20 { // the rest of the tar's padding, and age's mark of the end
			return Item{}, fmt.Errorf("%w: after its end come %d bytes: %w", ErrBad, n, err)
		}
		return Item{}, io.EOF
	}
	if err != nil {
		return Item{}, err
	}
	if ended {
		return Item{}, fmt.Errorf("%w: %q follows its end", ErrBad, h.Name)
	}
	if h.Typeflag != tar.TypeReg {
		return Item{}, fmt.Errorf("%w: %q is no plain file", ErrBad, h.Name)
	}
	limit := int64(maxFile)
	if h.Name == filePath+"keys/table" {
		limit = maxTable
	}
	if h.Size > limit {
		return Item{}, fmt.Errorf("%w: %q has %d bytes, the limit is %d", ErrBad, h.Name, h.Size, limit)
	}
	content, err := io.ReadAll(files)
	if err != nil {
		return Item{}, err
	}
	if first != (h.Name == aboutName) {
		return Item{}, fmt.Errorf("%w: %s is not its first part", ErrBad, aboutName)
	}
	return parse(h.Name, content)
}

func parse(name string, content []byte) (Item, error) {
	switch {
	case name == aboutName:
		var a About
		if err := json.Unmarshal(content, &a); err != nil {
			return Item{}, err
		}
		if a.Format != Format {
			return Item{}, fmt.Errorf("%w: its form is version %d, this holdfast reads %d", ErrBad, a.Format, Format)
		}
		return Item{About: &a}, nil
	case name == endName:
		var e End
		err := json.Unmarshal(content, &e)
		return Item{End: &e}, err
	case strings.HasPrefix(name, filePath):
		path := strings.TrimPrefix(name, filePath)
		if !plain(path) {
			return Item{}, fmt.Errorf("%w: path %q", ErrBad, path)
		}
		return Item{File: &File{path, content}}, nil
	case strings.HasPrefix(name, logPrefix):
		c, err := parseChunk(strings.TrimPrefix(name, logPrefix), content)
		return Item{Chunk: c}, err
	}
	return Item{}, fmt.Errorf("%w: unknown part %q", ErrBad, name)
}

// plain reports whether a path stays in its directory, on every system.
func plain(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\\:\x00") {
			return false
		}
	}
	return true
}

func parseChunk(name string, content []byte) (*Chunk, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return nil, fmt.Errorf("%w: log %q", ErrBad, name)
	}
	origin, err := evidence.ParseOriginLine("holdfast/" + parts[0] + "/" + parts[2] + "/" + parts[1])
	if err != nil {
		return nil, err
	}
	first, err := strconv.ParseUint(parts[3], 10, 64)
	if err != nil || first == 0 {
		return nil, fmt.Errorf("%w: position %q", ErrBad, parts[3])
	}
	c := &Chunk{Origin: origin, First: first}
	for rest := content; len(rest) > 0; {
		var e events.Entry
		if e.Header, rest, err = cut(rest, 0); err != nil {
			return nil, err
		}
		if e.Payload, rest, err = cut(rest, 1); err != nil {
			return nil, err
		}
		c.Entries = append(c.Entries, e)
	}
	if len(c.Entries) == 0 {
		return nil, fmt.Errorf("%w: no records in %q", ErrBad, name)
	}
	return c, nil
}

// cut takes a length and as many bytes, less bias; with a bias, length 0 stands
// for nil.
func cut(b []byte, bias uint64) (part, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w)+bias {
		return nil, nil, fmt.Errorf("%w: a record is cut off", ErrBad)
	}
	b = b[w:]
	if bias > 0 && n == 0 {
		return nil, b, nil
	}
	n -= bias
	return bytes.Clone(b[:n:n]), b[n:], nil
}
