// Generate writes the dashboards, and the chart's copies of them and of the
// alerts: go run ./observe/generate DEPLOY
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/selfheal/selfheal/test/observe/dashboard"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the folder deploy, got %q", args)
	}
	files, err := dashboard.Deployed(args[0])
	if err != nil {
		return err
	}
	for path, data := range files {
		path = filepath.Join(args[0], path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
