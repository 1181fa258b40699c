package seal

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// overwriteFreed is the setting by which the runtime overwrites what the garbage
// collector frees. It is read when a program starts, and at no other time.
const overwriteFreed = "clobberfree=1"

// OverwriteFreed has freed memory overwritten: secrets leave copies behind in
// the buffers of libraries, which nobody can wipe. For that it starts this program
// anew, as the same process with the same arguments, unless it runs so already.
// main calls it before it does anything else. docs/adr/0013-freed-memory.md has the
// reasons and what it costs.
func OverwriteFreed() error {
	env, again := withOverwriteFreed(os.Environ())
	if !again {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start again with freed memory overwritten: %w", err)
	}
	if err := unix.Exec(program, os.Args, env); err != nil {
		return fmt.Errorf("start %s again with freed memory overwritten: %w", program, err)
	}
	return nil
}

// withOverwriteFreed adds the setting to an environment; again is false where it is there.
func withOverwriteFreed(env []string) (with []string, again bool) {
	const name = "GODEBUG="
	at := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name) })
	if at < 0 {
		return append(slices.Clone(env), name+overwriteFreed), true
	}
	settings := strings.Split(strings.TrimPrefix(env[at], name), ",")
	if slices.ContainsFunc(settings, func(s string) bool { return strings.HasPrefix(s, "clobberfree=") }) {
		return env, false // an administrator has said so, or otherwise
	}
	with = slices.Clone(env)
	with[at] = strings.TrimSuffix(env[at], ",") + "," + overwriteFreed
	if env[at] == name {
		with[at] = name + overwriteFreed
	}
	return with, true
}
