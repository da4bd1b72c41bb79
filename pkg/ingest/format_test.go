package ingest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

func formatUnobserved(from, to int64) string { return fmt.Sprintf("unobserved %d %d", from, to) }

func formatAdvance(w int64) string { return fmt.Sprintf("advance %d", w) }

func formatObserved(key string, t int64, v float64) string {
	return fmt.Sprintf("%s %d %g %v", key, t, v, telemetry.Quality(0))
}

// resum renews the checksum of a message.
func resum(b []byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(b[4:], crc32.Update(crc32.Checksum(b[2:4], table), table, b[8:]))
}

func (r *rig) seriesNames() []string {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	var out []string
	for k := range r.store.samples {
		if !slices.Contains(out, k.series) {
			out = append(out, k.series)
		}
	}
	return out
}
