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
// 100 would double its memory for nothing. When ten thousand pods fail at once
// that has its price, half as much processor time again for each (0.7 for
// 0.45 ms), and is worth it: with 100, a third more memory would be needed then.
const gcPercent = 25

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	daemon.Main(watcher.Service())
}
