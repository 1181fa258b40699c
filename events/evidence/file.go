package evidence

import (
	"errors"
	"os"
	"path/filepath"
)

// writeNew makes a file of mode 0600 that did not exist, durable and whole: it
// is linked into place after its bytes are on disk.
func writeNew(path string, b []byte) error {
	return place(path, b, func(tmp string) error {
		return errors.Join(os.Link(tmp, path), os.Remove(tmp))
	})
}

// replace makes b the content of a file, durable and whole: it is renamed into
// place after its bytes are on disk.
func replace(path string, b []byte) error {
	return place(path, b, func(tmp string) error { return os.Rename(tmp, path) })
}

func place(path string, b []byte, put func(tmp string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync())
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := put(f.Name()); err != nil {
		_ = os.Remove(f.Name()) // it may be gone already; the error that counts is put's
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
