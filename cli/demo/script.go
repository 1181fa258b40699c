package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// script goes through the main job and checks each step.
func (d *demo) script(o Options) error {
	account := d.target.account + "+web1"
	d.step("bob works on the target; the gateway logs in with a secret that bob never sees")
	if err := d.must("ssh "+account+"@gw 'echo hello from $(id -un); seq 1000 | tail -1'", "", "hello from "+d.target.account); err != nil {
		return err
	}
	d.step("bob may go nowhere else, and is told so; ada sees it")
	if got, err := d.run("ssh root+db9@gw true", ""); err == nil || !strings.Contains(got, "no grant") {
		return errors.New("a login without a grant was not refused with a reason")
	}
	if err := d.must("ssh gw-ada audit tail -n 3", "", "access.denied"); err != nil {
		return err
	}
	d.step("ada lists and replays the session, and exports it byte by byte")
	for _, l := range []struct{ line, wanted string }{
		{"ssh gw-ada session ls", "bob"},
		{"ssh gw-ada session play last", "hello from " + d.target.account},
		{"ssh gw-ada session export last --format raw | cksum", ""},
	} {
		if err := d.must(l.line, "", l.wanted); err != nil {
			return err
		}
	}
	d.step("The log is verified: every record, hash, commit and signed head")
	if err := d.must("ssh gw-ada log verify", "", "ok"); err != nil {
		return err
	}
	if o.Sites == 2 {
		if err := d.split(); err != nil {
			return err
		}
	}
	return d.tamper()
}

// tamper stops the site, flips one byte in a copy of its data and lets the
// verifier find it.
func (d *demo) tamper() error {
	d.step("One byte is flipped in a copy of the data, and the verifier names the record")
	if err := d.sites[0].Stop(); err != nil {
		return err
	}
	if err := os.CopyFS(d.path("copy"), os.DirFS(d.path("north"))); err != nil {
		return fmt.Errorf("copy the data: %w", err)
	}
	if err := d.must("holdfast verify copy", "", "ok"); err != nil {
		return err
	}
	file, offset, err := flip(d.path("copy/log/rec"))
	if err != nil {
		return err
	}
	name, err := filepath.Rel(d.dir, file)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "   # byte %d of %s: one bit flipped\n", offset, name)
	got, err := d.run("holdfast verify copy", "")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(got, "damaged at position") {
		return fmt.Errorf("the verifier did not name the record (exit %v)", err)
	}
	fmt.Fprintf(d.out, "\ndone: recorded before delivered, replayed exactly, merged without loss, proven offline\n")
	return nil
}

// flip changes one bit at three quarters of what the first log file below dir holds.
func flip(dir string) (file string, offset int, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || file != "" || filepath.Ext(path) != ".seg" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, offset = path, len(bytes.TrimRight(b, "\x00"))*3/4
		b[offset] ^= 1
		return os.WriteFile(path, b, 0o600)
	})
	if err == nil && file == "" {
		err = fmt.Errorf("no log file below %s", dir)
	}
	return file, offset, err
}
