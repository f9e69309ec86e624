// Analyzer turns each failure that the watcher announces into one decision,
// and says why.
package main

import (
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/services/analyzer"
)

func main() {
	daemon.Main(analyzer.Service())
}
