// Package applylog keeps the order in which a site applied events from all
// origins, so that "as of" can mean a state that this site really held. The
// events themselves lie in their logs; what is kept here is only how the logs
// were woven together: runs of (origin, up to position).
//
// # File
//
// One append-only file of 32-byte cells, integers big-endian:
//
//	cell 0:  magic "holdfast apply 1" (16)  zeros (12)  CRC-32C of the 28 bytes
//	others:  site (16)  epoch (4)  position (8)  CRC-32C of the 28 bytes, seeded
//	         with the CRC of the cell before
//
// A cell says that this log was applied up to this position, next after what
// the cells before it say. Cells that follow each other with the same origin
// are one run. The seed ties each cell to its place, so that cells can't be
// exchanged, doubled or left out unseen.
//
// # Crash order
//
// [Log.Append] returns once its cell is durable. A cell is never changed. A crash can
// leave one torn cell or, on some file systems, bytes of any value behind the
// last durable cell: what does not check at the end was never acknowledged and
// is cut off on opening. A cell that does not check with one behind it that
// does is damage, and refused.
package applylog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pam/holdfast/events"
)

const (
	cellSize = 32
	bodySize = cellSize - 4
	magic    = "holdfast apply 1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrFull says that there is no storage for more.
var ErrFull = errors.New("no space left to record what is applied")

// ErrDamaged says that the bytes of an apply log are not what was written.
var ErrDamaged = errors.New("apply log is damaged")

// Run says that the events From to To of one ctl log were applied after each
// other, the first of them as number Seq of all that the site applied.
type Run struct {
	Seq    uint64 // from 1
	Origin events.Origin
	From   uint64 // position of the first event
	To     uint64 // position of the last event
}

// Last is the number of the run's last event.
func (r Run) Last() uint64 { return r.Seq + (r.To - r.From) }

// Log is an open apply log. All methods are safe for concurrent use.
type Log struct {
	mu   sync.Mutex // guards what follows
	file *os.File
	runs []Run
	at   events.Clock
	crc  uint32 // of the last cell
	size int64
	room int64 // up to where storage is known to be behind the file
	err  error // an append failed: what the file holds is not known
}

// headroom is how much storage is kept behind the last cell, in bytes: a disk that
// fills up must not end a site that applies what others decided.
const headroom = 64 << 10

// Open opens the apply log at path and makes it where there is none, readable
// by its owner only. It cuts off an end that was never acknowledged.
func Open(path string) (*Log, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("make apply log %s: %w", path, err)
		}
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open apply log: %w", err)
	}
	l, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("open apply log %s: %w; restore it from a replica or a backup, nothing was changed", path, err)
	}
	l.file, err = os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open apply log: %w", err)
	}
	// What was read may not be on the disk yet: it counts only once it is.
	if err := errors.Join(l.file.Truncate(l.size), l.file.Sync()); err != nil {
		return nil, errors.Join(fmt.Errorf("open apply log %s: %w", path, err), l.file.Close())
	}
	return l, nil
}

// create makes an empty apply log: whole and durable, or not there.
func create(path string) error {
	unfinished := path + ".tmp"
	if err := os.WriteFile(unfinished, firstCell(), 0o600); err != nil {
		return err
	}
	if err := syncPath(unfinished); err != nil {
		return err
	}
	if err := os.Rename(unfinished, path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func firstCell() []byte {
	body := make([]byte, bodySize, cellSize)
	copy(body, magic)
	return binary.BigEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
}

func encodeCell(o events.Origin, to uint64, seed uint32) []byte {
	b := make([]byte, 0, cellSize)
	b = append(b, o.Site.UUID[:]...)
	b = binary.BigEndian.AppendUint32(b, o.Epoch)
	b = binary.BigEndian.AppendUint64(b, to)
	return binary.BigEndian.AppendUint32(b, crc32.Update(seed, castagnoli, b))
}

func decodeCell(cell []byte) (o events.Origin, to uint64) {
	return events.Origin{Site: events.SiteID{UUID: uuid.UUID(cell[:16])}, Epoch: binary.BigEndian.Uint32(cell[16:20]), Kind: events.Ctl},
		binary.BigEndian.Uint64(cell[20:bodySize])
}

// decode reads all cells that check. l.size is where they end.
func decode(data []byte) (*Log, error) {
	first := firstCell()
	if len(data) < cellSize || !bytes.Equal(data[:cellSize], first) {
		return nil, fmt.Errorf("%w: it does not begin with the name of this format", ErrDamaged)
	}
	l := &Log{crc: cellCRC(first), size: cellSize}
	for rest := data[cellSize:]; len(rest) >= cellSize; rest = rest[cellSize:] {
		cell := rest[:cellSize]
		if !checks(cell, l.crc) {
			return l, l.tail(rest)
		}
		if err := l.take(cell); err != nil {
			return nil, fmt.Errorf("%w: byte %d: %w", ErrDamaged, l.size, err)
		}
	}
	return l, nil
}

func cellCRC(cell []byte) uint32 { return binary.BigEndian.Uint32(cell[bodySize:]) }

func checks(cell []byte, seed uint32) bool {
	return crc32.Update(seed, castagnoli, cell[:bodySize]) == cellCRC(cell)
}

// tail decides whether cells from the first bad one on may be cut off: not
// when one of them checks against the one before it, by that one's CRC as it
// is stored or, where the CRC is what was damaged, as it should be.
func (l *Log) tail(rest []byte) error {
	should := l.crc
	for i := cellSize; i+cellSize <= len(rest); i += cellSize {
		before, cell := rest[i-cellSize:i], rest[i:i+cellSize]
		should = crc32.Update(should, castagnoli, before[:bodySize])
		if checks(cell, cellCRC(before)) || checks(cell, should) {
			return fmt.Errorf("%w: byte %d does not check, byte %d does", ErrDamaged, l.size, l.size+int64(i))
		}
	}
	return nil
}

func (l *Log) take(cell []byte) error {
	if err := l.extend(decodeCell(cell)); err != nil {
		return err
	}
	l.crc, l.size = cellCRC(cell), l.size+cellSize
	return nil
}

// extend adds to the runs that o was applied up to a position.
func (l *Log) extend(o events.Origin, to uint64) error {
	from := l.at.At(o) + 1
	switch {
	case o.Kind != events.Ctl || o.Epoch == 0:
		return fmt.Errorf("%s is not a ctl log", o)
	case to < from:
		return fmt.Errorf("%s is applied up to position %d already, not %d", o, from-1, to)
	}
	last := uint64(0)
	if n := len(l.runs); n > 0 {
		last = l.runs[n-1].Last()
	}
	if to-from >= math.MaxUint64-last {
		return fmt.Errorf("%s position %d is more than can be counted", o, to)
	}
	if n := len(l.runs); n > 0 && l.runs[n-1].Origin == o {
		l.runs[n-1].To = to
	} else {
		l.runs = append(l.runs, Run{Seq: last + 1, Origin: o, From: from, To: to})
	}
	l.at = l.at.With(o, to)
	return nil
}

// Prefix cuts the content of an apply log's file before the first cell that says
// more of a log than holds, for a copy of the site that holds no more, or names one
// of none, of which it holds nothing. Logs that are in neither are not looked at.
func Prefix(content []byte, holds events.Clock, none ...events.Origin) ([]byte, error) {
	l, err := decode(content)
	if err != nil {
		return nil, err
	}
	end := int64(cellSize)
	for ; end < l.size; end += cellSize {
		o, to := decodeCell(content[end : end+cellSize])
		if most := holds.At(o); most > 0 && to > most || slices.Contains(none, o) {
			break
		}
	}
	return content[:end], nil
}

// Append records that the site has applied a ctl log up to a position, next
// after everything recorded before. It returns once that is durable; call it
// before the state is shown to anybody. One call is enough where a site turns
// from one log to another, and one for each batch of another site's events,
// since a log's own order is known. After an error of the file the log must be
// opened again.
func (l *Log) Append(o events.Origin, to uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if err := l.extend(o, to); err != nil {
		return fmt.Errorf("append to apply log: %w", err)
	}
	cell := encodeCell(o, to, l.crc)
	_, err := l.file.WriteAt(cell, l.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.err = fmt.Errorf("append to apply log %s: %w; it takes nothing more until it is opened again", l.file.Name(), err)
		return l.err
	}
	l.crc, l.size = cellCRC(cell), l.size+cellSize
	return nil
}

// Room says whether some more appends have storage, before anything is applied that
// they are to record: an append that fails closes the log. ErrFull: there is none.
func (l *Log) Room() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room-l.size >= headroom/2 {
		return nil
	}
	err := unix.Fallocate(int(l.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, l.size, headroom)
	switch {
	case err == nil, errors.Is(err, unix.EOPNOTSUPP): // then the free space has to do
		l.room = l.size + headroom
	case l.room-l.size < 16*cellSize:
		return fmt.Errorf("%w: apply log %s: %w", ErrFull, l.file.Name(), err)
	}
	return nil // the room that was prepared before holds some more
}

// Clock is what the site has applied by now.
func (l *Log) Clock() events.Clock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

// Runs are all runs in order.
func (l *Log) Runs() []Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Run(nil), l.runs...)
}

// After are the runs that a site which had applied c went on with, when c is a
// state that this log went through; all runs otherwise. It costs the runs that
// it returns.
func (l *Log) After(c events.Clock) []Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	back, ahead := len(l.runs), 0 // ahead counts the origins of which the runs before back hold more than c
	at := map[events.Origin]uint64{}
	for _, e := range l.at.Entries() {
		at[e.Origin] = e.Position
		if e.Position > c.At(e.Origin) {
			ahead++
		}
	}
	for back > 0 && ahead > 0 {
		back--
		r := l.runs[back]
		was := at[r.Origin] > c.At(r.Origin)
		at[r.Origin] = r.From - 1
		if was && at[r.Origin] <= c.At(r.Origin) {
			ahead--
		}
	}
	return slices.Clone(l.runs[back:])
}

// ClockAt is the state that the site held when it had applied n events. A site
// that has applied fewer gives what it has.
func (l *Log) ClockAt(n uint64) events.Clock {
	l.mu.Lock()
	defer l.mu.Unlock()
	var at events.Clock
	for _, r := range l.runs {
		if r.Seq > n {
			break
		}
		at = at.With(r.Origin, r.From+min(r.Last(), n)-r.Seq)
	}
	return at
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("apply log %s is closed", l.file.Name())
	}
	return l.file.Close()
}
