// Command langbiang-hub is the centre that edges report to: see package hub.
package main

import (
	"context"
	"os"

	"github.com/langbiang/langbiang/pkg/hub"
)

// version is set by the build (make build); go install leaves it empty.
var version string

func main() { os.Exit(hub.Main(context.Background(), version, os.Args[1:], os.Stdout, os.Stderr)) }
