package hub

import (
	"errors"
	"slices"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/derive"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/tsdb"
)

const program = "langbiang-hub"

// newer completes an error that says that a newer program wrote what stands in the
// data folder; other errors stay as they are.
func newer(err error, dir, version string) error {
	known := []error{ledger.ErrVersion, tsdb.ErrVersion, buffer.ErrVersion, derive.ErrVersion, ingest.ErrVersion, rules.ErrVersion}
	if !slices.ContainsFunc(known, func(e error) bool { return errors.Is(err, e) }) {
		return err
	}
	return settings.Newer(err, dir, program, version, "to go back to this version, restore a backup that it made")
}
