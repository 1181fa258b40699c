package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdfast-pam/holdfast"

// layers says which packages of the project a package may import. A name
// stands for the package and everything below it, the longest name counts, and
// a package may always import what is below itself.
var layers = map[string][]string{
	"events":             {},
	"events/seal":        {},
	"events/evidence":    {"events"},
	"events/applylog":    {"events"},
	"events/store":       {"events", "events/evidence"},
	"events/bus":         {"events", "events/store"},
	"events/mesh":        {"events", "events/evidence", "events/store"},
	"gateway/sshwire":    {},
	"replay":             {"events", "events/store", "events/seal", "gateway/sshwire"},
	"projections":        {"events", "events/applylog", "events/store", "replay"},
	"commands":           {"events", "events/store", "events/seal", "events/bus"},
	"commands/aggregate": {"events"},
	"gateway":            {"events", "commands", "projections", "replay"},
	"site":               {"events", "commands", "projections", "replay", "gateway"},
	"cli":                {"events", "commands", "projections", "replay", "gateway", "site"},
	"bench":              {"cli/lab", "cli/localsshd"},
	"cmd":                {"events/seal"},
	"e2e":                {},
	"":                   {"cli"},
}

type listed struct {
	ImportPath, Dir, Doc string
	Imports, GoFiles     []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func within(name, layer string) bool {
	return layer == name || layer != "" && strings.HasPrefix(name, layer+"/")
}

func layerOf(name string) (string, bool) {
	best, found := "", false
	for layer := range layers {
		if (within(name, layer) || layer == "" && name == "") && (!found || len(layer) > len(best)) {
			best, found = layer, true
		}
	}
	return best, found
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		layer, ok := layerOf(name)
		if !ok {
			t.Errorf("%s is in no layer; add it to the table above and to docs/architecture.md", name)
			continue
		}
		for _, imp := range p.Imports {
			dep, ours := strings.CutPrefix(imp, module+"/")
			if !ours || within(dep, layer) {
				continue
			}
			if !slices.ContainsFunc(layers[layer], func(l string) bool { return within(dep, l) }) {
				t.Errorf("%s imports %s, which its layer %q may not", name, dep, layer)
			}
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

var testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+|[a-z-]+\\.txtar)`")

// Every test that the threat model names exists.
func TestThreatModelIsTested(t *testing.T) {
	b, err := os.ReadFile("docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		have[d.Name()] = true
		if strings.HasSuffix(path, "_test.go") {
			src, err := os.ReadFile(path)
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(src, -1) {
				have[string(m[1])] = true
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := testName.FindAllSubmatch(b, -1)
	for _, m := range named {
		if !have[string(m[1])] {
			t.Errorf("the threat model names %s, which does not exist", m[1])
		}
	}
	if len(named) < 40 {
		t.Errorf("found %d tests in the threat model, that is not all of it", len(named))
	}
}
