package telemetry

import "fmt"

// Quality says how far a reading can be trusted, and why not. It is one byte,
// as it stands on the wire: the status in the two upper bits, the reason in the
// six lower ones. The zero value is good.
type Quality uint8

// Status is the verdict in a [Quality].
type Status uint8

// The three statuses. A good or uncertain reading is stored as a sample, a bad
// one as a staleness marker.
const (
	Good      Status = 0
	Uncertain Status = 1
	Bad       Status = 2
)

// Reason says why a reading is not simply good. The numbers are part of the
// wire format and of the reading_quality series: append, never renumber.
type Reason uint8

// The reasons, in wire order.
const (
	ReasonNone          Reason = iota
	ReasonNoAnswer             // the device did not answer in time
	ReasonUnreachable          // the connection could not be made: port missing, refused, no route, broker down
	ReasonException            // the device answered with a Modbus exception
	ReasonBadFrame             // the answer was damaged: CRC, length, wrong unit or function
	ReasonMalformed            // the payload could not be parsed
	ReasonMissing              // the payload parsed, but the point's field is not in it
	ReasonOutOfRange           // outside the point's valid range
	ReasonNotFitted            // a sentinel: this element is not fitted
	ReasonInvalid              // the device's own validity bit says no
	ReasonNonFinite            // NaN or infinity
	ReasonOffline              // the device's availability topic says offline
	ReasonSilent               // nothing arrived for longer than expected
	ReasonMaintenance          // a technician works on the device
	ReasonWarmUp               // the device was powered up too recently
	ReasonClock                // the time of the reading is an estimate
	ReasonConfiguration        // the device's configuration or profile is faulty
	numReasons
)

var reasonNames = [numReasons]string{
	"none", "no_answer", "unreachable", "exception", "bad_frame", "malformed", "missing", "out_of_range",
	"not_fitted", "invalid", "non_finite", "offline", "silent", "maintenance", "warm_up", "clock", "configuration",
}

var statusNames = [...]string{"good", "uncertain", "bad"}

// NewQuality joins a status and a reason.
func NewQuality(s Status, r Reason) Quality { return Quality(s)<<6 | Quality(r)&0x3f }

// BadQuality is NewQuality(Bad, r).
func BadQuality(r Reason) Quality { return NewQuality(Bad, r) }

// Status returns the verdict. The fourth bit pattern, which no version writes,
// reads as Bad.
func (q Quality) Status() Status {
	if s := Status(q >> 6); s <= Bad {
		return s
	}
	return Bad
}

// Reason returns the reason; it may be one that this version has no name for.
func (q Quality) Reason() Reason { return Reason(q & 0x3f) }

// IsBad reports whether the value must not be used.
func (q Quality) IsBad() bool { return q.Status() == Bad }

// String returns "good", or for example "bad: no_answer".
func (q Quality) String() string {
	if q.Reason() == ReasonNone {
		return q.Status().String()
	}
	return q.Status().String() + ": " + q.Reason().String()
}

// String returns good, uncertain or bad.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "bad"
}

// String returns the reason as it stands in the API and in labels.
func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}
