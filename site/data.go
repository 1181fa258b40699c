package site

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pam/holdfast/events"
)

// data is the data directory of a site.
type data struct{ dir string }

func (d data) identity() string         { return filepath.Join(d.dir, "site.json") }
func (d data) keys() string             { return filepath.Join(d.dir, "keys") }
func (d data) siteKey() string          { return filepath.Join(d.keys(), "site.key") }
func (d data) hostKey() string          { return filepath.Join(d.keys(), "host.key") }
func (d data) caKey() string            { return filepath.Join(d.keys(), "ca.key") }
func (d data) table() string            { return filepath.Join(d.keys(), "table") }
func (d data) views() string            { return filepath.Join(d.dir, "views") }
func (d data) order() string            { return filepath.Join(d.dir, "log", "order") }
func (d data) others() string           { return filepath.Join(d.dir, "log", "others") }
func (d data) restored() string         { return filepath.Join(d.dir, "restored.json") }
func (d data) runFile() string          { return filepath.Join(d.dir, "run", "site.json") }
func (d data) log(k events.Kind) string { return filepath.Join(d.dir, "log", string(k)) }

// other is the directory of another site's log.
func (d data) other(o events.Origin) string {
	return filepath.Join(d.others(), o.Site.String(), string(o.Kind), strconv.FormatUint(uint64(o.Epoch), 10))
}

// filled is where payloads of a log stand that came later than their headers.
func (d data) filled(o events.Origin) string { return filepath.Join(d.other(o), "filled") }

// ErrInUse says that another process runs the site.
var ErrInUse = errors.New("data directory is in use by another holdfast process")

// open makes the directory where it is missing and takes its lock, which the
// returned function releases.
func (d data) open() (unlock func() error, err error) {
	for _, dir := range []string{d.dir, d.keys(), filepath.Dir(d.runFile()), filepath.Join(d.dir, "log")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make data directory: %w", err)
		}
	}
	f, err := os.OpenFile(filepath.Join(d.dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w; stop that one first", d.dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return f.Close, nil
}

// identity is what a site is called.
type identity struct {
	ID     events.SiteID          `json:"id"`
	Name   string                 `json:"name"`
	Epochs map[events.Kind]uint32 `json:"epochs,omitempty"` // of each log that were begun: a log with less was lost
}

// saveEpochs notes how many epochs of each log exist, so that a log that gets
// lost is not taken for a new one.
func (d data) saveEpochs(who *identity, epochs map[events.Kind]uint32) error {
	if maps.Equal(who.Epochs, epochs) {
		return nil
	}
	who.Epochs = epochs
	b, err := json.Marshal(who)
	if err == nil {
		err = writeDurable(d.identity(), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note the epochs of the logs: %w", err)
	}
	return nil
}

// loadIdentity reads who the site is, or decides it once.
func (d data) loadIdentity(name string) (identity, error) {
	var who identity
	b, err := os.ReadFile(d.identity())
	switch {
	case err == nil:
		if err := json.Unmarshal(b, &who); err != nil {
			return who, fmt.Errorf("read %s: %w; restore it from a backup", d.identity(), err)
		}
		if who.ID.IsZero() {
			return who, fmt.Errorf("read %s: it names no site; restore it from a backup", d.identity())
		}
		if name != "" && name != who.Name {
			return who, fmt.Errorf("this data directory is that of site %q, not %q; name another --data, or leave the name out", who.Name, name)
		}
		return who, nil
	case !errors.Is(err, fs.ErrNotExist):
		return who, fmt.Errorf("read the site's identity: %w", err)
	}
	if left, err := os.ReadDir(d.log(events.Ctl)); err == nil && len(left) > 0 {
		return who, fmt.Errorf("%s is missing, yet there are logs beside it; restore it from a backup", d.identity())
	}
	if who.Name = name; name == "" {
		if who.Name, err = os.Hostname(); err != nil {
			return who, fmt.Errorf("name the site after the host: %w; give it a name with --site-name", err)
		}
	}
	id, err := events.NewID()
	if err != nil {
		return who, err
	}
	who.ID = events.SiteID{UUID: id}
	if b, err = json.Marshal(who); err != nil {
		return who, fmt.Errorf("write the site's identity: %w", err)
	}
	return who, writeDurable(d.identity(), append(b, '\n'), 0o600)
}

// loadHostKey reads the gateway's SSH host key. It makes one for a new site
// only: people have pinned that of an old one.
func (d data) loadHostKey(newSite bool) (ssh.Signer, error) {
	return loadKey("gateway's host key", d.hostKey(), newSite)
}

// loadKey reads a private key of the site's, and may make a missing one.
func loadKey(what, path string, mayMake bool) (ssh.Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && mayMake {
		if b, err = makeKey(); err == nil {
			err = writeDurable(path, b, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s %s is open to others than its owner; chmod it to 0600", what, path)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, path, err)
	}
	return signer, nil
}

func makeKey() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// runInfo is the content of run/site.json.
type runInfo struct {
	SSH     string `json:"ssh"`
	HostKey string `json:"hostKey"`
}

// writeDurable puts a file in place as a whole: after a crash it is the old one
// or the new one.
func writeDurable(path string, content []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
