// Package traces holds the real measurements that the simulated field replays.
// README.md names their sources and licences.
package traces

import "embed"

// FS holds the CSV files.
//
//go:embed *.csv
var FS embed.FS
