// Package tokentest gives tests a real PKCS#11 token: SoftHSM in a temporary
// directory, and the helper program that speaks to it.
package tokentest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-pam/holdfast/events/seal/token"
)

// PIN is that of every token made here.
const PIN = "4711-canary-pin"

// New makes a token labelled "holdfast" and builds the helper. It sets the
// variable SOFTHSM2_CONF for the test. A test is skipped where SoftHSM or a C
// compiler is missing, and fails there if they have to be there.
func New(t *testing.T) token.Config {
	t.Helper()
	module, err := find()
	if err != nil {
		if os.Getenv("HOLDFAST_REQUIRE_CLIENTS") != "" {
			t.Fatal(err)
		}
		t.Skip("needs SoftHSM and a C compiler: ", err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	run(t, exec.Command("softhsm2-util", "--init-token", "--free", "--label", "holdfast", "--pin", PIN, "--so-pin", "12345678"))
	return token.Config{Helper: Helper(t, dir), Module: module, Label: "holdfast"}
}

// Helper builds the helper program into a directory.
func Helper(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(dir, "holdfast-pkcs11")
	build := exec.Command("go", "build", "-trimpath", "-o", out, "github.com/holdfast-pam/holdfast/cmd/holdfast-pkcs11")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	run(t, build)
	return out
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

// find gives SoftHSM's library.
func find() (string, error) {
	for _, program := range []string{"softhsm2-util", "gcc"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", err
		}
	}
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 { // the patterns are well formed
			return found[0], nil
		}
	}
	return "", fmt.Errorf("libsofthsm2.so is in none of the usual places")
}
