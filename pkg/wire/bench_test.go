package wire

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/prompb"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// mqttOverhead is what MQTT adds to a message of that size at QoS 0: type, remaining
// length (seven bits a byte), length of the topic, topic.
func mqttOverhead(edge string, size int) int {
	rest := 2 + len(FrameTopic(edge)) + size
	return 1 + (bits.Len(uint(rest))+6)/7 + 2 + len(FrameTopic(edge))
}

func BenchmarkBytesPerSample(b *testing.B) {
	for _, c := range []struct{ frames, seconds int }{{120, 1}, {24, 5}, {6, 60}} {
		for _, layout := range []string{"by_device", "by_quantity", "no_hint"} {
			b.Run(fmt.Sprintf("%ds/%s", c.seconds, layout), func(b *testing.B) {
				f := newFleet(b, layout == "by_quantity")
				frames := f.frames(c.frames, c.seconds)
				enc := NewEncoder(&f.schema)
				if layout == "no_hint" {
					enc = NewEncoder(nil)
				}
				var dst []byte
				var err error
				size, samples := 0, 0
				for b.Loop() {
					size, samples = 0, 0
					for _, fr := range frames {
						if dst, err = enc.Encode(dst[:0], fr); err != nil {
							b.Fatal(err)
						}
						size += len(dst) + mqttOverhead("lac-duong-01", len(dst))
						samples += len(fr.Readings)
					}
				}
				b.ReportMetric(float64(size)/float64(samples), "bytes/sample")
				b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Msamples/s")
			})
		}
	}
}

// BenchmarkBacklog joins frames as an edge does that sends them later, and takes
// them apart as the hub does: 1,000 points at 1 Hz in 1 s frames, and a gateway of
// 42 points in frames of one reading each.
func BenchmarkBacklog(b *testing.B) {
	for _, c := range []struct {
		name   string
		fleet  *fleet
		frames int
	}{
		{"1000_points/10s", newFleet(b, false), 10},
		{"1000_points/20s", newFleet(b, false), 20},
		{"1000_points/30s", newFleet(b, false), 30},
		{"1000_points/60s", newFleet(b, false), 60},
		{"42_points/12_frames", newFleetOf(b, false, 3, 2, 1), 12},
		{"42_points/60_frames", newFleetOf(b, false, 3, 2, 1), 60},
		{"42_points/360_frames", newFleetOf(b, false, 3, 2, 1), 360},
	} {
		enc, dec := NewEncoder(&c.fleet.schema), NewDecoder()
		var runs [][][]byte
		for frames := range slices.Chunk(c.fleet.frames(360, 1), c.frames) {
			runs = append(runs, encodeAll(b, enc, frames))
		}
		joined := make([]Joined, len(runs))
		payloads := make([][]byte, len(runs))
		samples, size := 0, 0
		for i, run := range runs {
			joinAll(b, dec, &joined[i], run)
			samples += len(joined[i].Readings)
		}
		rate := func(b *testing.B) {
			b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Msamples/s")
		}
		var j Joined
		b.Run("gather/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, run := range runs {
					joinAll(b, dec, &j, run)
				}
			}
			rate(b)
		})
		b.Run("encode/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			var err error
			for b.Loop() {
				size = 0
				for i := range joined {
					if payloads[i], err = enc.EncodeJoined(payloads[i][:0], &joined[i]); err != nil {
						b.Fatal(err)
					}
					size += len(payloads[i]) + mqttOverhead("lac-duong-01", len(payloads[i]))
				}
			}
			b.ReportMetric(float64(size)/float64(samples), "bytes/sample")
			b.ReportMetric(float64(size)/float64(len(runs)), "bytes/message")
			rate(b)
		})
		b.Run("decode/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range payloads {
					if err := dec.DecodeJoined(p, &j); err != nil {
						b.Fatal(err)
					}
				}
			}
			rate(b)
		})
	}
}

// BenchmarkSmallFrames is a gateway of 41 points, one reading of each in a frame.
func BenchmarkSmallFrames(b *testing.B) {
	f := newFleetOf(b, false, 3, 2, 1)
	frames := f.frames(120, 1)
	enc := NewEncoder(&f.schema)
	var dst []byte
	var err error
	size, samples := 0, 0
	for b.Loop() {
		size, samples = 0, 0
		for _, fr := range frames {
			if dst, err = enc.Encode(dst[:0], fr); err != nil {
				b.Fatal(err)
			}
			size += len(dst)
			samples += len(fr.Readings)
		}
	}
	b.ReportMetric(float64(size)/float64(len(frames)), "bytes/frame")
	b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Msamples/s")
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct{ frames, seconds int }{{120, 1}, {6, 60}} {
		b.Run(fmt.Sprintf("%ds", c.seconds), func(b *testing.B) {
			f := newFleet(b, true)
			enc, dec := NewEncoder(&f.schema), NewDecoder()
			var payloads [][]byte
			samples := 0
			for _, fr := range f.frames(c.frames, c.seconds) {
				p, err := enc.Encode(nil, fr)
				if err != nil {
					b.Fatal(err)
				}
				payloads = append(payloads, p)
				samples += len(fr.Readings)
			}
			var out Frame
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range payloads {
					if err := dec.DecodeFrame(p, &out); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Msamples/s")
		})
	}
}

// BenchmarkOtherFormats prints what the same readings take elsewhere, beside ours:
// one second in a message, as it is sent live, and 30 s in one, as a backlog. Headers of
// HTTP, which most of them need, are not counted; those of MQTT are, for ours. None but
// ours carries quality, watermarks or a checksum.
func BenchmarkOtherFormats(b *testing.B) {
	f := newFleet(b, false)
	frames := f.frames(120, 1)
	text := func(rs []telemetry.Reading, each func(out []byte, r *telemetry.Reading, s *telemetry.Series, device string) []byte) (out []byte) {
		for i := range rs {
			s := &f.schema.Series[rs[i].Series]
			out = each(out, &rs[i], s, f.schema.Devices[s.Device].ID)
		}
		return out
	}
	line := func(rs []telemetry.Reading) []byte {
		return text(rs, func(out []byte, r *telemetry.Reading, s *telemetry.Series, device string) []byte {
			return fmt.Appendf(out, "%s,site=24848,edge=lac-duong-01,device=%s,point=%s value=%v %d\n", s.Quantity, device, s.Point, r.Value, r.Time)
		})
	}
	document := func(rs []telemetry.Reading) []byte {
		out := text(rs, func(out []byte, r *telemetry.Reading, s *telemetry.Series, device string) []byte {
			return fmt.Appendf(out, `{"device":%q,"point":%q,"time":%d,"value":%v},`, device, s.Point, r.Time, r.Value)
		})
		return append(append([]byte{'['}, out[:len(out)-1]...), ']')
	}
	remoteWrite := func(rs []telemetry.Reading) []byte {
		series := map[uint32]*prompb.TimeSeries{}
		var order []uint32
		for i := range rs {
			r := &rs[i]
			ts := series[r.Series]
			if ts == nil {
				s := &f.schema.Series[r.Series]
				ts = &prompb.TimeSeries{Labels: []prompb.Label{
					{Name: "__name__", Value: s.Quantity},
					{Name: "device", Value: f.schema.Devices[s.Device].ID},
					{Name: "edge", Value: "lac-duong-01"},
					{Name: "point", Value: s.Point},
					{Name: "site", Value: "24848"},
				}}
				series[r.Series] = ts
				order = append(order, r.Series)
			}
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: r.Time, Value: r.Value})
		}
		var w prompb.WriteRequest
		for _, i := range order {
			w.Timeseries = append(w.Timeseries, *series[i])
		}
		out, err := w.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	gz := func(in []byte) int {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		_, _ = z.Write(in)
		_ = z.Close()
		return out.Len()
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = z.Close() }()
	enc, dec := NewEncoder(&f.schema), NewDecoder()
	ours := func(run []*Frame) int {
		payloads := encodeAll(b, enc, run)
		if len(run) > 1 {
			var j Joined
			joinAll(b, dec, &j, payloads)
			p, err := enc.EncodeJoined(nil, &j)
			if err != nil {
				b.Fatal(err)
			}
			payloads[0] = p
		}
		return len(payloads[0]) + mqttOverhead("lac-duong-01", len(payloads[0]))
	}
	for _, seconds := range []int{1, 30} {
		for _, c := range []struct {
			name string
			size func(rs []telemetry.Reading, run []*Frame) int
		}{
			{"langbiang", func(_ []telemetry.Reading, run []*Frame) int { return ours(run) }},
			{"line_protocol_gzip", func(rs []telemetry.Reading, _ []*Frame) int { return gz(line(rs)) }},
			{"remote_write_snappy", func(rs []telemetry.Reading, _ []*Frame) int { return len(snappy.Encode(nil, remoteWrite(rs))) }},
			{"json_zstd", func(rs []telemetry.Reading, _ []*Frame) int { return len(z.EncodeAll(document(rs), nil)) }},
		} {
			b.Run(fmt.Sprintf("%s/%ds", c.name, seconds), func(b *testing.B) {
				total, samples := 0, 0
				for b.Loop() {
					total, samples = 0, 0
					for run := range slices.Chunk(frames, seconds) {
						var rs []telemetry.Reading
						for _, fr := range run {
							rs = append(rs, fr.Readings...)
						}
						total += c.size(rs, run)
						samples += len(rs)
					}
				}
				b.ReportMetric(float64(total)/float64(samples), "bytes/sample")
			})
		}
	}
}
