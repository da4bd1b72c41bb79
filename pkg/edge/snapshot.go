package edge

import (
	"sync"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// lastValues are the newest readings of all series. During a backlog they are
// sent beside it, so that the hub can show what is while it catches up with what
// was. Safe for concurrent use.
type lastValues struct {
	encoder *wire.Encoder // of snapshots; the recorder has its own for frames

	mu       sync.Mutex
	frame    wire.Header // of the newest frame
	readings []telemetry.Reading
	known    []bool
	counter  uint64
	scratch  []telemetry.Reading
}

func newLastValues(schema *telemetry.Schema) *lastValues {
	return &lastValues{
		encoder: wire.NewEncoder(schema), readings: make([]telemetry.Reading, len(schema.Series)), known: make([]bool, len(schema.Series)),
	}
}

// update takes in a frame that was written to the log.
func (l *lastValues) update(f *wire.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frame = f.Header
	for i := range f.Readings {
		r := &f.Readings[i]
		if !l.known[r.Series] || r.Time >= l.readings[r.Series].Time || f.Era != 0 && r.Time > f.PrevW {
			l.readings[r.Series], l.known[r.Series] = *r, true
		}
	}
}

// relay changes over to another schema. old tells which series each one was, or -1.
func (l *lastValues) relay(schema *telemetry.Schema, old []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	readings, known := make([]telemetry.Reading, len(old)), make([]bool, len(old))
	for i, o := range old {
		if o >= 0 && l.known[o] {
			readings[i], known[i] = l.readings[o], true
			readings[i].Series = uint32(i)
		}
	}
	l.readings, l.known = readings, known
	l.encoder.SetSchema(schema)
	l.frame = wire.Header{} // its schema is not that of the values; the next frame is near
}

// of returns the newest reading of a series.
func (l *lastValues) of(series uint32) (telemetry.Reading, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(series) >= len(l.known) {
		return telemetry.Reading{}, false
	}
	return l.readings[series], l.known[series]
}

// append appends an encoded snapshot to dst. It reports false while there is
// nothing to show, or nobody knows its time.
func (l *lastValues) append(dst []byte) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frame.Seq == 0 || l.frame.Untimed {
		return dst, false
	}
	l.counter++
	l.scratch = l.scratch[:0]
	for i := range l.readings {
		if l.known[i] {
			l.scratch = append(l.scratch, l.readings[i])
		}
	}
	out, err := l.encoder.EncodeSnapshot(dst, &wire.Snapshot{
		Epoch: l.frame.Epoch, Seq: l.frame.Seq, Counter: l.counter, Schema: l.frame.Schema, At: l.frame.W, Readings: l.scratch,
	})
	// A snapshot of too many series does not fit into a message; then there is none.
	return out, err == nil
}
