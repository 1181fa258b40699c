package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// maxSSHConfig bounds a person's ssh_config in bytes.
const maxSSHConfig = 4 << 20

// sshFiles is the directory of the OpenSSH client, and what is ours in it.
type sshFiles struct{ dir string }

func newSSHFiles(dir string) (sshFiles, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return sshFiles{}, fmt.Errorf("find %s: %w", dir, err)
	}
	if strings.ContainsAny(abs, "\"*?[]\\\r\n") {
		return sshFiles{}, &console.Fault{Exit: console.Usage, Message: fmt.Sprintf("the path %q can't be written to ssh's configuration", abs),
			Hint: "name another one with --ssh-dir"}
	}
	return sshFiles{abs}, nil
}

func (f sshFiles) main() string              { return filepath.Join(f.dir, "config") }
func (f sshFiles) ours() string              { return filepath.Join(f.dir, "holdfast") }
func (f sshFiles) config(site string) string { return filepath.Join(f.ours(), site+".config") }
func (f sshFiles) known(site string) string  { return filepath.Join(f.ours(), site+".known_hosts") }

// include is the one line that is ours in the person's own configuration. It
// stands first: what follows a Host line would count for that host alone.
func (f sshFiles) include() string {
	return fmt.Sprintf("Include \"%s\"", filepath.Join(f.ours(), "*.config"))
}

// write puts the files of a site in place, and then the line that leads to them.
func (f sshFiles) write(site, config, known string) error {
	if err := os.MkdirAll(f.ours(), 0o700); err != nil {
		return fmt.Errorf("make the directory for ssh's configuration: %w", err)
	}
	for path, content := range map[string]string{f.known(site): known, f.config(site): config} {
		if err := replaceFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return f.edit(func(old []byte) []byte {
		if rest := withoutLine(old, f.include()); len(rest) != len(old) {
			return old
		}
		return append([]byte(f.include()+"\n"), old...)
	})
}

// remove takes the files of a site away, "*" for all, and the line with the last.
func (f sshFiles) remove(site string) error {
	for _, pattern := range []string{f.config(site), f.known(site)} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("find %s: %w", pattern, err)
		}
		for _, path := range found {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove ssh's configuration: %w", err)
			}
		}
	}
	if left, err := filepath.Glob(f.config("*")); err != nil || len(left) > 0 {
		return err
	}
	if err := f.edit(func(old []byte) []byte { return withoutLine(old, f.include()) }); err != nil {
		return err
	}
	if err := os.Remove(f.ours()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the directory of ssh's configuration: %w", err)
	}
	return nil
}

// edit changes the person's own configuration, as a whole or not at all. Its
// mode stays, and so does a link to it from elsewhere.
func (f sshFiles) edit(change func([]byte) []byte) error {
	path, mode := f.main(), fs.FileMode(0o600)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find ssh's configuration: %w", err)
	}
	old, err := readBounded(path, maxSSHConfig)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read ssh's configuration: %w", err)
	default:
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("read ssh's configuration: %w", err)
		}
		mode = info.Mode().Perm()
	}
	changed := change(bytes.Clone(old))
	if bytes.Equal(changed, old) {
		return nil
	}
	return replaceFile(path, changed, mode)
}

// withoutLine takes every occurrence of a whole line out.
func withoutLine(text []byte, line string) []byte {
	var out []byte
	for l := range bytes.Lines(text) {
		if string(bytes.TrimRight(l, "\r\n")) != line {
			out = append(out, l...)
		}
	}
	return out
}

// replaceFile puts a file in place as a whole: whoever reads it sees the old or
// the new one.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // after the rename there is nothing to remove
	err = tmp.Chmod(mode)
	if err == nil {
		_, err = tmp.Write(content)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
