package daemon

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the linker: -X github.com/selfheal/selfheal/pkg/daemon.version=v0.1.0
var version, commit string

// Version is the version and the commit this binary was built from, from the
// linker or else from what the go command recorded.
func Version() (release, revision string) {
	release, revision = version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if release == "" && info.Main.Version != "(devel)" {
			release = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && revision == "" {
				revision = s.Value
			}
		}
	}
	if release == "" {
		release = "v0.0.0-dev"
	}
	if revision == "" {
		revision = "unknown"
	}
	return release, revision
}

// versionLine is the answer to --version.
func versionLine(name string) string {
	release, revision := Version()
	return fmt.Sprintf("%s %s (%s, %s)", name, release, revision[:min(12, len(revision))], runtime.Version())
}
