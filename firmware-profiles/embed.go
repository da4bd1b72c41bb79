// Package firmwareprofiles holds the built-in device profiles and the catalogue
// of quantities, as files in the program. Package profile reads them.
package firmwareprofiles

import "embed"

// FS has quantities.yaml, VENDOR/MODEL.yaml and VENDOR/MODEL.fixtures.yaml.
//
//go:embed quantities.yaml */*.yaml
var FS embed.FS
