package evidence

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-pam/holdfast/events"
)

// ErrBadHead says that a head does not verify: its form, its signature, or the
// log that it names.
var ErrBadHead = errors.New("not a valid head")

// ErrInconsistent says that a head and a log contradict each other: one of
// them is not what it was.
var ErrInconsistent = errors.New("head and log contradict each other")

// maxHeadSize bounds a head read from a file: a checkpoint with room for
// cosignatures.
const maxHeadSize = 64 << 10

// Head is a signed statement of a log's size and root hash.
type Head struct {
	Origin events.Origin
	Size   uint64
	Root   events.Hash
	Note   []byte // the signed note as it is stored and exchanged
}

// Sign makes the head of the key's log at a size.
func (k *Key) Sign(size uint64, root events.Hash) (Head, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", OriginLine(k.origin), size, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, k.signer)
	if err != nil {
		return Head{}, fmt.Errorf("sign head of log %s at %d: %w", k.origin, size, err)
	}
	return Head{Origin: k.origin, Size: size, Root: root, Note: signed}, nil
}

// OpenHead checks a signed note against a log's verifier key and reads the
// head in it. Signatures by other keys are allowed beside the log's own. The
// key must come from elsewhere than the note.
func OpenHead(signed []byte, public string) (Head, error) {
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return Head{}, fmt.Errorf("%w: verifier key: %w", ErrBadHead, err)
	}
	if len(signed) > maxHeadSize {
		return Head{}, fmt.Errorf("%w: %d bytes are over the limit of %d", ErrBadHead, len(signed), maxHeadSize)
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrBadHead, err)
	}
	h, err := parseCheckpoint(n.Text)
	if err != nil {
		return Head{}, err
	}
	if OriginLine(h.Origin) != verifier.Name() {
		return Head{}, fmt.Errorf("%w: it names log %s, its key is for %s", ErrBadHead, h.Origin, verifier.Name())
	}
	h.Note = append([]byte(nil), signed...)
	return h, nil
}

// parseCheckpoint reads the three lines of a checkpoint. Holdfast writes no
// extension lines, and accepts none in the heads of its logs.
func parseCheckpoint(text string) (Head, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Head{}, fmt.Errorf("%w: a checkpoint has three lines", ErrBadHead)
	}
	origin, err := ParseOriginLine(lines[0])
	if err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrBadHead, err)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return Head{}, fmt.Errorf("%w: size %q", ErrBadHead, lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(events.Hash{}) {
		return Head{}, fmt.Errorf("%w: root hash %q", ErrBadHead, lines[2])
	}
	return Head{Origin: origin, Size: size, Root: events.Hash(root)}, nil
}

// Check compares the head with a tree that was grown to the head's size. It
// returns [ErrInconsistent] when the roots differ.
func (h Head) Check(t *Tree) error {
	if h.Size != t.Size() {
		return fmt.Errorf("check head of log %s at %d against %d records: the tree must have the head's size", h.Origin, h.Size, t.Size())
	}
	if root := t.Root(); root != h.Root {
		return fmt.Errorf("%w: log %s at %d has root %s, its signed head says %s", ErrInconsistent, h.Origin, h.Size, root, h.Root)
	}
	return nil
}

// Save makes the head the content of a file, durably and as a whole: after a
// crash the file holds either the head before or this one.
func (h Head) Save(path string) error {
	if err := replace(path, h.Note); err != nil {
		return fmt.Errorf("store head of log %s at %d: %w", h.Origin, h.Size, err)
	}
	return nil
}

// LoadHead reads and checks a head that [Head.Save] stored. The error wraps
// os.ErrNotExist when there is none.
func LoadHead(path, public string) (Head, error) {
	b, err := ReadHeadFile(path)
	if err != nil {
		return Head{}, err
	}
	if b == nil {
		return Head{}, fmt.Errorf("head in %s: %w", path, os.ErrNotExist)
	}
	h, err := OpenHead(b, public)
	if err != nil {
		return Head{}, fmt.Errorf("head in %s: %w", path, err)
	}
	return h, nil
}

// ReadHeadFile reads a stored note without checking it, for those who learn
// its key later. It gives nil when there is none.
func ReadHeadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read head: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxHeadSize+1))
	if err != nil {
		return nil, fmt.Errorf("read head: %w", err)
	}
	return b, nil
}
