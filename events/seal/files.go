package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxKeyFile bounds what is read from site.key and site.pub, in bytes.
const maxKeyFile = 64 << 10

// createFile makes path with the given mode and content, or fails with
// fs.ErrExist and leaves what is there alone. After it returns nil the file is
// complete and survives power loss; after a crash it is complete or absent.
//
// Sequence: write and fsync a temporary file, link it to path (link refuses an
// existing name, rename would replace it), unlink the temporary, fsync the directory.
func createFile(path string, mode fs.FileMode, content []byte) error {
	tmp := path + ".new-" + rand.Text()
	defer os.Remove(tmp)
	if err := writeFile(tmp, mode, content); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Link(tmp, path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Remove(tmp); err != nil {
		return fmt.Errorf("create %s: remove its temporary copy: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func writeFile(path string, mode fs.FileMode, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReplaceFile puts content, of mode 0600, in the place of the file at path:
// after a crash it is the old one or the new one. What the old one held is then
// overwritten, unless the file has another name, such as that of a backup.
func ReplaceFile(path string, content []byte) error {
	tmp := path + ".new-" + rand.Text()
	defer os.Remove(tmp)
	old, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if old != nil {
		defer old.Close()
	}
	if err := writeFile(tmp, 0o600, content); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := syncParent(path); err != nil || old == nil {
		return err
	}
	if err := overwrite(old); err != nil {
		return fmt.Errorf("overwrite what %s held before: %w", path, err)
	}
	return nil
}

// overwrite puts zeros over a file that has no name any more.
func overwrite(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink > 0 {
		return err
	}
	if _, err := f.WriteAt(make([]byte, st.Size), 0); err != nil {
		return err
	}
	return f.Sync()
}

func syncParent(path string) error { return syncDir(filepath.Dir(path)) }

// ReadFile returns the content of a small file that nobody but this process's
// user and root may have written or, where private is set, read.
func ReadFile(path string, private bool) ([]byte, error) {
	if private {
		return readFile(path, 0o077)
	}
	return readFile(path, 0o022)
}

// ReadCredential returns the content of a file that the service manager handed
// over. Others may not read it. A group may: where access is given by a list,
// the group's bits are the list's mask.
func ReadCredential(path string) ([]byte, error) { return readFile(path, 0o037) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile returns the content of a small file whose owner and mode protect it:
// a regular file, no symlink, owned by this process's user (or root), with no
// permission bit of forbidden set. The checks are made on the open file, so
// nothing can be swapped in between.
func readFile(path string, forbidden fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("open %s: it is a symbolic link; name the file itself", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkGuard(f, forbidden); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("read %s: longer than %d bytes, so it is not a key file", path, maxKeyFile)
	}
	return content, nil
}

func checkGuard(f *os.File, forbidden fs.FileMode) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("open %s: not a regular file", f.Name())
	}
	if uid := os.Geteuid(); int(st.Uid) != uid && st.Uid != 0 {
		return fmt.Errorf("open %s: owned by user %d, but this process is user %d; chown it to %d",
			f.Name(), st.Uid, uid, uid)
	}
	if mode := fs.FileMode(st.Mode & 0o7777); mode&forbidden != 0 {
		return fmt.Errorf("open %s: mode %04o lets others in; chmod it to %04o", f.Name(), mode, mode&^forbidden)
	}
	return nil
}
