package field

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Served is one line of the record: a value that the field gave to somebody.
// Modbus values have Line, Unit, Area, Register, Point, Raw and Value; messages
// have Topic, Payload and Retained.
type Served struct {
	Time     time.Time `json:"time"`
	Device   string    `json:"device"` // edge/device
	Line     string    `json:"line,omitempty"`
	Unit     int       `json:"unit,omitempty"`
	Area     string    `json:"area,omitempty"`
	Register int       `json:"register"`
	Point    string    `json:"point,omitempty"`
	Raw      uint32    `json:"raw"`
	Value    float64   `json:"value"` // in the unit of the register
	Topic    string    `json:"topic,omitempty"`
	Payload  string    `json:"payload,omitempty"`
	Retained bool      `json:"retained,omitempty"`
}

// recorder writes a line per value, at once. Safe for concurrent use.
type recorder struct {
	mu     sync.Mutex
	w      io.Writer // nil: nothing is recorded
	failed error
}

func newRecorder(w io.Writer) *recorder { return &recorder{w: w} }

func (r *recorder) write(lines ...Served) {
	if r.w == nil || len(lines) == 0 {
		return
	}
	var out []byte
	for _, l := range lines {
		b, err := json.Marshal(l)
		if err != nil {
			continue // the fields always encode
		}
		out = append(append(out, b...), '\n')
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.w.Write(out); err != nil && r.failed == nil {
		r.failed = err
	}
}

func (r *recorder) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (f *Field) recordModbus(u *unit, values []served) {
	if f.record.w == nil {
		return
	}
	now := time.Now().Round(0)
	lines := make([]Served, len(values))
	for i, v := range values {
		lines[i] = Served{
			Time: now, Device: u.device, Line: u.line, Unit: int(u.id), Area: areaNames[v.point.area],
			Register: v.point.addr, Point: v.point.name, Raw: v.raw, Value: v.engineering(),
		}
	}
	f.record.write(lines...)
}

func (f *Field) recordMQTT(device string, p publication) {
	f.record.write(Served{Time: time.Now().Round(0), Device: device, Topic: p.topic, Payload: p.payload, Retained: p.retain})
}
