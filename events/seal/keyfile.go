package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// KeyFile is the provider that keeps the site key in a file of mode 0600.
// It protects against whoever gets the data directory or a backup of it without
// this file, so the file belongs on another volume than the data.
//
// The file is a tink keyset. While a rekey is under way it holds two keys.
type KeyFile struct {
	*PrivateKey
	path string
}

// CreateKeyFile makes a new site key and stores it durably at path, mode 0600.
// It never replaces a file: an existing one is fs.ErrExist.
func CreateKeyFile(path string) (*KeyFile, error) {
	key, err := GeneratePrivateKey()
	if err != nil {
		return nil, err
	}
	content, err := key.MarshalSecret()
	if err != nil {
		return nil, err
	}
	defer content.Wipe()
	if err := createFile(path, 0o600, content.Bytes()); err != nil {
		return nil, errors.Join(fmt.Errorf("store site key: %w", err), key.Close())
	}
	return &KeyFile{PrivateKey: key, path: path}, nil
}

// OpenKeyFile reads the site key at path. It refuses a symlink, another owner
// than this process or root, and a mode that gives group or others anything.
func OpenKeyFile(path string) (*KeyFile, error) {
	b, err := readFile(path, 0o077)
	if err != nil {
		return nil, fmt.Errorf("read site key: %w", err)
	}
	content := NewSecret(b)
	defer content.Wipe()
	key, err := ParsePrivateKey(content)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return &KeyFile{PrivateKey: key, path: path}, nil
}

// Name is "key file" and the path.
func (f *KeyFile) Name() string { return "key file " + f.path }

// AddToKeyFile stores a key durably at path beside those that are there, if they
// are all among known: a file with any other key is somebody else's and is left
// alone (fs.ErrExist).
func AddToKeyFile(path string, key *PrivateKey, known ...uint32) error {
	file, err := OpenKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		content, err := key.MarshalSecret()
		if err != nil {
			return err
		}
		defer content.Wipe()
		return createFile(path, 0o600, content.Bytes())
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if slices.ContainsFunc(file.IDs(), func(id uint32) bool { return !slices.Contains(known, id) }) {
		return fmt.Errorf("key file %s holds a key that is not this site's: %w; move it away first", path, fs.ErrExist)
	}
	if err := file.Add(key); err != nil {
		return err
	}
	return file.replace()
}

// DropFromKeyFile destroys one key in the file at path, and the file with its
// last one. What is not there is dropped already.
func DropFromKeyFile(path string, id uint32) error {
	file, err := OpenKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	ids := file.IDs()
	if !slices.Contains(ids, id) {
		return nil
	}
	left := slices.DeleteFunc(ids, func(other uint32) bool { return other == id })
	if len(left) == 0 {
		return RemoveFile(path)
	}
	key, err := file.Only(left[0])
	if err != nil {
		return err
	}
	rest := &KeyFile{PrivateKey: key, path: path}
	defer rest.Close()
	for _, other := range left[1:] {
		one, err := file.Only(other)
		if err == nil {
			err = errors.Join(rest.Add(one), one.Close())
		}
		if err != nil {
			return err
		}
	}
	return rest.replace()
}

func (f *KeyFile) replace() error {
	content, err := f.MarshalSecret()
	if err != nil {
		return err
	}
	defer content.Wipe()
	return ReplaceFile(f.path, content.Bytes())
}

// RemoveFile overwrites the file at path and removes it, durably.
func RemoveFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(os.Remove(path), overwrite(f), f.Close())
	}
	if err != nil {
		return fmt.Errorf("destroy %s: %w", path, err)
	}
	return syncParent(path)
}
