package push

import (
	"errors"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// nameLabel is the label that holds the metric's name.
const nameLabel = "__name__"

// errProto says that a body is no write request; nothing of it was taken.
var errProto = errors.New("the body is no Prometheus write request (prometheus.WriteRequest, remote write 1.0)")

// readRemote reads a write request:
//
//	WriteRequest { 1: repeated TimeSeries; 3: repeated MetricMetadata }
//	TimeSeries   { 1: repeated Label {1: name, 2: value};
//	               2: repeated Sample {1: value double, 2: timestamp int64};
//	               3: repeated Exemplar; 4: repeated Histogram }
//
// It goes through the bytes and keeps readings only, so that a small body cannot
// grow into much memory. Metadata and exemplars are let go; native histograms are
// refused. The staleness marker is a bad reading, which ends the series until its
// next sample; so is every other value that is not finite.
func readRemote(body []byte, t *table, b *batch) error {
	rd := &remote{t: t, b: b}
	// The whole is looked through once before a row is taken: a body that breaks in
	// the middle is none.
	if err := fields(body, func(num protowire.Number, typ protowire.Type, v []byte) error {
		if num == 1 && typ == protowire.BytesType {
			return rd.look(v)
		}
		return nil
	}); err != nil {
		return err
	}
	return fields(body, func(num protowire.Number, typ protowire.Type, v []byte) error {
		if num != 1 || typ != protowire.BytesType {
			return nil
		}
		rd.n++
		rd.series(v)
		if b.full() {
			return errRows
		}
		return nil
	})
}

// fields calls f for each field of a message; v is the content of those with a
// length, and the encoded value of others.
func fields(b []byte, f func(num protowire.Number, typ protowire.Type, v []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errProto
		}
		b = b[n:]
		if typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return errProto
			}
			b = b[n:]
			if err := f(num, typ, v); err != nil {
				return err
			}
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return errProto
		}
		if err := f(num, typ, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

type remote struct {
	t *table
	b *batch

	n       int // of the series, from 1
	labels  []telemetry.Label
	key     []byte
	index   uint32
	scale   float64
	add     float64
	metric  string
	samples int
}

// look checks the form of a series.
func (r *remote) look(b []byte) error {
	return fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			return fields(v, func(protowire.Number, protowire.Type, []byte) error { return nil })
		case num == 2 && typ == protowire.BytesType:
			r.samples++
			return fields(v, func(protowire.Number, protowire.Type, []byte) error { return nil })
		case num == 1 || num == 2:
			return errProto
		}
		return nil
	})
}

// series takes the samples of a series whose form is right.
func (r *remote) series(b []byte) {
	r.labels, r.key, r.metric = r.labels[:0], append(r.key[:0], 'r'), ""
	histograms, samples := 0, 0
	_ = fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error { // looked at before
		if typ != protowire.BytesType {
			return nil
		}
		switch num {
		case 1:
			r.key = append(protowire.AppendVarint(r.key, uint64(len(v))), v...)
		case 2:
			samples++
		case 4:
			histograms++
		}
		return nil
	})
	if histograms > 0 {
		r.b.rows += histograms
		r.name(b)
		r.b.refuse(Problem{Series: r.n, Metric: r.metric, Message: "native histograms are not taken: send classic ones"})
		r.b.refused += histograms - 1
	}
	if samples == 0 {
		return
	}
	r.b.rows += samples
	index, scale, add, drop, err := r.t.lookup(r.key, telemetry.KindNumber, r.b.now, func() (string, []telemetry.Label) {
		r.name(b)
		return r.metric, r.labels
	})
	if err != nil {
		r.name(b)
		r.b.refuse(Problem{Series: r.n, Metric: r.metric, Message: err.Error()})
		r.b.refused += samples - 1
		return
	}
	if drop {
		return
	}
	r.index, r.scale, r.add = index, scale, add
	n := 0
	_ = fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error {
		if num == 2 && typ == protowire.BytesType {
			n++
			r.sample(n, v)
		}
		return nil
	})
}

// name reads the labels.
func (r *remote) name(b []byte) {
	r.labels, r.metric = r.labels[:0], ""
	_ = fields(b, func(num protowire.Number, typ protowire.Type, v []byte) error {
		if num != 1 || typ != protowire.BytesType || len(r.labels) > maxTags {
			return nil
		}
		var l telemetry.Label
		_ = fields(v, func(num protowire.Number, typ protowire.Type, v []byte) error {
			if typ == protowire.BytesType {
				switch num {
				case 1:
					l.Name = string(v)
				case 2:
					l.Value = string(v)
				}
			}
			return nil
		})
		if l.Name == nameLabel {
			r.metric = l.Value
		} else {
			r.labels = append(r.labels, l)
		}
		return nil
	})
	slices.SortStableFunc(r.labels, func(a, b telemetry.Label) int { return strings.Compare(a.Name, b.Name) })
}

func (r *remote) sample(n int, b []byte) {
	var v float64
	var t int64
	_ = fields(b, func(num protowire.Number, typ protowire.Type, b []byte) error {
		switch {
		case num == 1 && typ == protowire.Fixed64Type:
			x, _ := protowire.ConsumeFixed64(b)
			v = math.Float64frombits(x)
		case num == 2 && typ == protowire.VarintType:
			x, _ := protowire.ConsumeVarint(b)
			t = int64(x)
		}
		return nil
	})
	if bad := r.b.when(t); bad != "" {
		r.b.refuse(Problem{Series: r.n, Sample: n, Metric: r.metric, Message: bad})
		return
	}
	r.b.readings = append(r.b.readings, number(r.index, t, v*r.scale+r.add))
}
