// Notifier tells people what became of each failure.
package main

import (
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/services/notifier"
)

func main() { daemon.Main(notifier.Service()) }
