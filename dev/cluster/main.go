package main

import (
	"os"

	"github.com/selfheal/selfheal/dev/cluster/internal/component"
)

func main() { os.Exit(component.Run(os.Args[1], os.Args[2:])) }
