package projections

import (
	"os"
	"path/filepath"
	"testing"
)

// A path means the same file whatever characters it has, and wherever it starts.
func TestDatabasePaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, path := range []string{"a.db", "d/a.db", "../" + filepath.Base(dir) + "/up.db", "a dir/50%41?#.db", filepath.Join(dir, "d/absolute é.db")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := openDatabase(path, false)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if err := d.write.exec("CREATE TABLE t (x)"); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if err := d.close(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if s, err := os.Stat(path); err != nil || s.Size() == 0 {
			t.Errorf("%s: nothing is in that file: %v", path, err)
		}
	}
}
