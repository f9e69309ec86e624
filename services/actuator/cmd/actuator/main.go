// Actuator carries out the decisions that the analyzer makes, and says how
// they ended. Nothing else changes the cluster.
package main

import (
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/services/actuator"
)

func main() { daemon.Main(actuator.Service()) }
