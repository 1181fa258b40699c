package mesh

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// namesIn gives what the first group of a pattern matches in a file.
func namesIn(t *testing.T, path, pattern string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(b, -1) {
		found[string(m[1])] = true
	}
	return found
}

// The table of what is checked by what names every invariant and rule, tests that
// there are, and all mutants.
func TestTheDesignNamesItsTests(t *testing.T) {
	tests := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			maps.Copy(tests, namesIn(t, path, `(?m)^func (Test\w+)\(t `))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mutants := namesIn(t, "../../commands/mutants_test.go", `(?m)^\t\{"([^"]+)",`)
	maps.Copy(mutants, namesIn(t, "simulation_test.go", `(?m)^\t\t"([^"]+)",`))

	want := map[string]bool{}
	for i := range 14 {
		want[fmt.Sprintf("I%d", i+1)] = true
	}
	for i := range 20 {
		want[fmt.Sprintf("R%d", i+1)] = true
	}
	b, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile(`"([^"]+)"`)
	named := regexp.MustCompile("`(Test\\w+)`")
	_, table, _ := strings.Cut(string(b), "## What is checked by what")
	for _, row := range strings.Split(table, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 6 || !regexp.MustCompile(`^ [IR]\d+ $`).MatchString(cells[1]) {
			continue
		}
		id := strings.TrimSpace(cells[1])
		if !want[id] {
			t.Errorf("%s stands twice, or is no rule", id)
		}
		delete(want, id)
		all := named.FindAllStringSubmatch(cells[3], -1)
		for _, m := range all {
			if !tests[m[1]] {
				t.Errorf("%s: there is no %s", id, m[1])
			}
		}
		if len(all) == 0 && !strings.Contains(cells[3], "none: ") {
			t.Errorf("%s: neither a test nor why there is none", id)
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[4], -1) {
			if _, known := mutants[m[1]]; !known {
				t.Errorf("%s: there is no mutant %q", id, m[1])
			}
			mutants[m[1]] = false
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		t.Errorf("%s is missing", id)
	}
	for _, m := range slices.Sorted(maps.Keys(mutants)) {
		if mutants[m] {
			t.Errorf("mutant %q is not in the table", m)
		}
	}
}
