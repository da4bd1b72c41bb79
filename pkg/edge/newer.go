package edge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

const program = "langbiang-edge"

// stateKey is where the version of all that the agent keeps beside its frames stands
// in the log's small values: of the other small values, and of the receipts. Whoever
// writes something there that an older agent cannot read counts stateVersion on.
const (
	stateKey     = "state-version"
	stateVersion = 1
)

// checkState refuses what a newer agent keeps, and notes what this one does.
func checkState(s smallValues) error {
	v, ok := s.Meta(stateKey)
	if ok && len(v) == 4 {
		switch n := binary.LittleEndian.Uint32(v); {
		case n == stateVersion:
			return nil
		case n > stateVersion:
			return fmt.Errorf("small values: %w (format %d, this one knows up to %d)", buffer.ErrVersion, n, stateVersion)
		}
	}
	// The first agents kept none. A disk that refuses is told of elsewhere; then
	// nothing newer is written either.
	_ = s.SetMeta(stateKey, binary.LittleEndian.AppendUint32(nil, stateVersion))
	return nil
}

// newer completes an error that says that a newer agent wrote the log; other errors
// stay as they are.
func newer(err error, dir, version string) error {
	if !errors.Is(err, buffer.ErrVersion) {
		return err
	}
	return settings.Newer(err, dir, program, version, "to go back to this version, move "+filepath.Join(dir, logDir)+" away: readings in it that the hub has not got wait there for a newer agent")
}
