package modbus

import (
	"encoding/binary"

	"github.com/langbiang/langbiang/pkg/profile"
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
