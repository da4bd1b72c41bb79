package wire

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// mqttOverhead is what MQTT adds to a frame at QoS 0: fixed header, topic.
func mqttOverhead(edge string) int { return 1 + 2 + 2 + len(FrameTopic(edge)) }

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
						size += len(dst) + mqttOverhead("lac-duong-01")
						samples += len(fr.Readings)
					}
				}
				b.ReportMetric(float64(size)/float64(samples), "bytes/sample")
				b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Msamples/s")
			})
		}
	}
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
