// Selfheal is the command line of the self-healing pipeline.
package main

import (
	"os"

	"github.com/selfheal/selfheal/cli/internal/command"
)

func main() { os.Exit(command.Main(os.Args[1:])) }
