package modbus

import (
	"encoding/binary"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// words turns the data of an answer into one number per register, or per bit.
func words(dst []uint16, r *Request, data []byte) []uint16 {
	dst = dst[:0]
	if r.Area == profile.AreaCoil || r.Area == profile.AreaDiscrete {
		for i := range r.Count {
			dst = append(dst, uint16(data[i/8]>>(i%8)&1))
		}
		return dst
	}
	for i := range r.Count {
		dst = append(dst, binary.BigEndian.Uint16(data[2*i:]))
	}
	return dst
}

// sample reads one point out of the words of its block.
func sample(d *driver.Device, point int, r *Request, words []uint16) driver.Sample {
	pt := &d.Points[point]
	_, address := pt.Area()
	from := address - r.Address
	raw, text, err := profile.Decode(pt, d.Modbus.Order, words[from:from+pt.Width()])
	if err != nil {
		return driver.Sample{Point: point, Quality: telemetry.BadQuality(telemetry.ReasonMalformed)}
	}
	if pt.IsText() {
		return driver.Sample{Point: point, Text: text}
	}
	v, q := profile.Number(pt, d.Convert[point], raw)
	return driver.Sample{Point: point, Value: v, Quality: q}
}
