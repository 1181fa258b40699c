package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// What stands in an epoch's directory beside the engine's files.
func keyPath(dir string) string  { return filepath.Join(dir, "key") }
func headPath(dir string) string { return filepath.Join(dir, "head") }

func epochDir(dir string, n uint32) string {
	return filepath.Join(dir, strconv.FormatUint(uint64(n), 10))
}

const unfinished = ".tmp"

// epochDirs makes dir if it is missing, removes what a crash left half made,
// and lists the epochs in it.
func epochDirs(dir string) ([]uint32, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if err := syncDirs(dir, filepath.Dir(dir)); err != nil {
		return nil, err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list log directory: %w", err)
	}
	for _, e := range names {
		if strings.HasSuffix(e.Name(), unfinished) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("remove unfinished epoch: %w", err)
			}
		}
	}
	return Epochs(dir)
}

// Epochs lists the epochs that stand in dir, in ascending order, and changes
// nothing. Which of them follow each other, the logs say themselves.
func Epochs(dir string) ([]uint32, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list log directory: %w", err)
	}
	var all []uint32
	for _, e := range names {
		n, err := strconv.ParseUint(e.Name(), 10, 32)
		if err == nil && n > 0 && e.IsDir() && strconv.FormatUint(n, 10) == e.Name() {
			all = append(all, uint32(n))
		}
	}
	slices.Sort(all)
	return all, nil
}

// makeEpochDir makes the directory of an epoch with its key, as a whole.
func makeEpochDir(dir string, origin events.Origin, rand io.Reader) error {
	path := epochDir(dir, origin.Epoch)
	tmp := path + unfinished
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return fmt.Errorf("make log %s: %w", origin, err)
	}
	if _, err := evidence.CreateKey(keyPath(tmp), origin, rand); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("make log %s: %w", origin, err)
	}
	return syncDirs(dir)
}

// syncDirs makes the names in directories durable.
func syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return fmt.Errorf("make names in %s durable: %w", dir, err)
		}
	}
	return nil
}

// loadHead reads the head that stands beside a log; its size is 0 when there
// is none.
func loadHead(dir, public string) (evidence.Head, error) {
	head, err := evidence.LoadHead(headPath(dir), public)
	if errors.Is(err, os.ErrNotExist) {
		return evidence.Head{}, nil
	}
	return head, err
}
