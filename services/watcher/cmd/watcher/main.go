// Watcher sees what is failing in a cluster and says so on the bus.
package main

import (
	"os"
	"runtime/debug"

	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/services/watcher"
)

// gcPercent is how much garbage may lie beside what is in use. Of a large
// cluster the watcher keeps some 20 MB and makes little garbage, so that Go's
// 100 would double its memory for nothing.
const gcPercent = 25

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	daemon.Main(watcher.Service())
}
