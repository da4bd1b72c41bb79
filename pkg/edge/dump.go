package edge

import (
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// dumper turns records of the log into lines.
type dumper struct {
	view    *buffer.View
	filter  *dumpFilter
	schemas map[wire.Hash]*telemetry.Schema
	dec     *wire.Decoder
	f       wire.Frame
}

func (d *dumper) schema(h wire.Hash) (*telemetry.Schema, error) {
	if s := d.schemas[h]; s != nil {
		return s, nil
	}
	raw, ok := d.view.Attachment(h)
	if !ok {
		return nil, fmt.Errorf("the log does not have its schema %v", h)
	}
	s, _, err := wire.DecodeSchema(raw)
	if err != nil {
		return nil, fmt.Errorf("its schema: %w", err)
	}
	d.schemas[h] = s
	return s, nil
}

// frame is the line of a record; false when the filter leaves nothing of it.
func (d *dumper) frame(r buffer.Record, pos wire.Pos) (line dumpedFrame, ok bool) {
	line = dumpedFrame{Epoch: pos.Epoch.String(), Start: pos.Epoch.Start, Seq: pos.Seq, Readings: []dumpedReading{}}
	if r.Missing != nil {
		line.Missing = &queueGap{framelog.ToWire(r.Missing.After).String(), framelog.ToWire(r.Missing.Next).String()}
	}
	f := &d.f
	err := d.dec.DecodeFrame(r.Payload, f)
	var s *telemetry.Schema
	if err == nil {
		s, err = d.schema(f.Schema)
	}
	if err != nil {
		line.Error = err.Error()
		return line, true
	}
	line.Era, line.Untimed, line.From, line.To = f.Era, f.Untimed, f.PrevW, f.W
	for _, m := range f.Marks {
		line.Marks = append(line.Marks, dumpedMark{uint8(m.Kind), m.From, m.To})
	}
	for i := range f.Readings {
		x := &f.Readings[i]
		if int(x.Series) >= len(s.Series) {
			line.Error = fmt.Sprintf("reading %d names series %d of %d", i, x.Series, len(s.Series))
			return line, true
		}
		series := &s.Series[x.Series]
		out := dumpedReading{
			Device: s.Devices[series.Device].ID, Point: series.Point, MS: x.Time, Text: x.Text, Unit: series.Unit, Quality: x.Quality.String(),
			Late: x.Time <= f.PrevW-series.MaxLag || x.Time > f.W-series.MaxLag,
		}
		if !d.filter.wants(&out) {
			continue
		}
		if !f.Untimed {
			out.Time = time.UnixMilli(x.Time).UTC().Format(time.RFC3339Nano)
		}
		if !x.Quality.IsBad() && series.Kind == telemetry.KindNumber {
			v := x.Value
			out.Value = &v
		}
		line.Readings = append(line.Readings, out)
	}
	return line, len(line.Readings) > 0 || d.filter.all()
}

func (f *dumpFilter) wants(r *dumpedReading) bool {
	return (f.device == "" || f.device == r.Device) && (f.point == "" || f.point == r.Point) &&
		(f.since.ms == 0 || r.MS >= f.since.ms) && (f.until.ms == 0 || r.MS < f.until.ms)
}

// all reports whether the filter wants every reading, and so frames without any.
func (f *dumpFilter) all() bool {
	return f.device == "" && f.point == "" && f.since.ms == 0 && f.until.ms == 0
}
