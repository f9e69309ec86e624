// Watcher sees what is failing in a cluster and says so on the bus.
package main

import (
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/services/watcher"
)

func main() { daemon.Main(watcher.Service()) }
