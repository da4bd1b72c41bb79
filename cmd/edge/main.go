// Command langbiang-edge is the agent on a gateway: see package edge.
package main

import (
	"context"
	"os"

	"github.com/langbiang/langbiang/pkg/edge"
)

// version is set by the build (make build); go install leaves it empty.
var version string

func main() { os.Exit(edge.Main(context.Background(), version, os.Args[1:], os.Stdout, os.Stderr)) }
