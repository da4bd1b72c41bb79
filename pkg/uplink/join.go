package uplink

import (
	"github.com/langbiang/langbiang/pkg/wire"
)

// joiner makes one message of several frames that wait. Its memory is given up when
// the backlog is at its end. It belongs to a session.
type joiner struct {
	log Log
	*joinerState
}

type joinerState struct {
	enc    *wire.Encoder
	schema wire.Hash // of enc
	dec    *wire.Decoder
	run    wire.Joined

	// The message made last: of n frames, from first on.
	first   wire.Pos
	n       int
	payload []byte
}

// forget gives up the memory. The connection may still hold the message.
func (j *joiner) forget() { j.joinerState = nil }

// message returns the message for the first of the records, whose header is h, and
// for how many of the records it is. The payload is valid until the next call. It has at
// most limit bytes unless it is of one frame alone.
func (j *joiner) message(next []entry, h *wire.Header, readings, limit int) ([]byte, int) {
	alone := next[0].payload
	if readings < 0 || len(next) < 2 {
		return alone, 1
	}
	if j.joinerState == nil {
		j.joinerState = &joinerState{dec: wire.NewDecoder()}
	}
	if j.n > 1 && j.first == next[0].pos && j.n <= len(next) && len(j.payload) <= limit {
		return j.payload, j.n // made before, but there was no room
	}
	j.n = 0
	// Joined they take about half of what they take alone, a third when they are small.
	for room := 3 * limit; ; room /= 2 {
		n, sum := j.gather(next, readings, room)
		if n < 2 {
			return alone, 1
		}
		j.describe(h.Schema)
		var err error
		if j.payload, err = j.enc.EncodeJoined(j.payload[:0], &j.run); err != nil || len(j.payload) > sum {
			return alone, 1
		}
		if len(j.payload) <= limit {
			j.first, j.n = next[0].pos, n
			return j.payload, n
		}
	}
}

// gather decodes as many of the records as may be joined and fit, and returns their
// number and what they take alone.
func (j *joiner) gather(next []entry, readings, room int) (n, sum int) {
	j.run.Reset()
	for i := range next {
		size := len(next[i].payload)
		if len(j.run.Readings) >= readings || i > 0 && sum+size > room || j.dec.AppendFrame(next[i].payload, &j.run) != nil {
			break
		}
		n++
		sum += size + overhead
	}
	return n, sum
}

// describe makes the encoder know which series are alike.
func (j *joiner) describe(h wire.Hash) {
	if j.enc != nil && j.schema == h {
		return
	}
	j.schema, j.enc = h, wire.NewEncoder(nil)
	if data, ok := j.log.Attachment(h); ok {
		if s, _, err := wire.DecodeSchema(data); err == nil {
			j.enc.SetSchema(s)
		}
	}
}
