package wire

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

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

// BenchmarkOtherFormats prints what the same 1 s frames take elsewhere.
func BenchmarkOtherFormats(b *testing.B) {
	f := newFleet(b, false)
	frames := f.frames(30, 1)
	series := func(r *telemetry.Reading) (*telemetry.Series, string) {
		s := &f.schema.Series[r.Series]
		return s, f.schema.Devices[s.Device].ID
	}
	line := func(fr *Frame) []byte {
		var out []byte
		for i := range fr.Readings {
			r := &fr.Readings[i]
			s, device := series(r)
			out = fmt.Appendf(out, "%s,site=24848,edge=lac-duong-01,device=%s,point=%s value=%v %d\n", s.Quantity, device, s.Point, r.Value, r.Time)
		}
		return out
	}
	document := func(fr *Frame) []byte {
		out := []byte{'['}
		for i := range fr.Readings {
			r := &fr.Readings[i]
			s, device := series(r)
			out = fmt.Appendf(out, `{"device":%q,"point":%q,"time":%d,"value":%v},`, device, s.Point, r.Time, r.Value)
		}
		return append(out[:len(out)-1], ']')
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
	for name, size := range map[string]func(*Frame) int{
		"line_protocol_gzip": func(fr *Frame) int { return gz(line(fr)) },
		"json_zstd":          func(fr *Frame) int { return len(z.EncodeAll(document(fr), nil)) },
	} {
		b.Run(name, func(b *testing.B) {
			total, samples := 0, 0
			for b.Loop() {
				total, samples = 0, 0
				for _, fr := range frames {
					total += size(fr)
					samples += len(fr.Readings)
				}
			}
			b.ReportMetric(float64(total)/float64(samples), "bytes/sample")
		})
	}
}
