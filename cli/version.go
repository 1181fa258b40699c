package cli

import (
	"runtime/debug"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// version is set by the linker for a release (-X .../cli.version=v1.2.3).
var version string

// Version tells what this binary was built from.
func Version() console.Version {
	v := console.Version{Version: version, Go: goVersion()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
