package camera

// keyFrame reports whether an RTP payload begins, or belongs to, a frame that
// can be decoded by itself. Of codecs that are not known every frame counts. The
// layouts are those of RFC 6184 (H264) and RFC 7798 (H265).
func keyFrame(codec string, payload []byte) bool {
	switch codec {
	case "H264":
		return keyH264(payload)
	case "H265":
		return keyH265(payload)
	}
	return len(payload) > 0
}

func keyH264(b []byte) bool {
	const (
		idr, stapA, fuA = 5, 24, 28
	)
	if len(b) < 2 {
		return false
	}
	switch b[0] & 0x1f {
	case idr:
		return true
	case fuA:
		return b[1]&0x80 != 0 && b[1]&0x1f == idr
	case stapA:
		for b = b[1:]; len(b) > 2; {
			n := int(b[0])<<8 | int(b[1])
			if b = b[2:]; n == 0 || n > len(b) {
				return false
			}
			if b[0]&0x1f == idr {
				return true
			}
			b = b[n:]
		}
	}
	return false
}

func keyH265(b []byte) bool {
	const (
		ap, fu = 48, 49
	)
	random := func(t byte) bool { return t >= 16 && t <= 21 } // BLA, IDR, CRA
	if len(b) < 3 {
		return false
	}
	switch t := b[0] >> 1 & 0x3f; t {
	case fu:
		return b[2]&0x80 != 0 && random(b[2]&0x3f)
	case ap:
		for b = b[2:]; len(b) > 2; {
			n := int(b[0])<<8 | int(b[1])
			if b = b[2:]; n == 0 || n > len(b) {
				return false
			}
			if random(b[0] >> 1 & 0x3f) {
				return true
			}
			b = b[n:]
		}
		return false
	default:
		return random(t)
	}
}
