// Package driver says what a driver is: something that owns one connection (a
// Modbus endpoint, a serial bus, an MQTT broker), reads its devices, and hands
// the samples to a [Sink]. The drivers themselves are packages below this one;
// pkg/edge lists them by name.
package driver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Device is a configured device, resolved: its profile's revision chosen,
// parameters filled in, adjustments applied. A driver does not change it.
type Device struct {
	ID       string
	Profile  string
	Revision string
	Unit     int               // Modbus unit id
	With     map[string]string // parameters, defaults included
	Interval time.Duration     // between readings of its points
	Modbus   profile.ModbusDefaults
	MQTT     profile.MQTTDefaults
	Camera   profile.CameraDefaults
	Points   []profile.Point // ids unique; parameters already substituted in topics and paths
	// Convert takes a value from the point's unit to its canonical one; same
	// length as Points. Adjustments of the configuration are part of it.
	Convert []Linear
	Labels  telemetry.Labels

	// Identify tells which of Revisions the device is, by what it says of itself,
	// or whether it is the model at all when there are none to choose from. It is
	// nil when there is nothing to find out. Until the device has said it, Points
	// and Convert are what it is read by.
	Identify  *profile.Identification
	Revisions []Revision // in the order of Identify.Revisions; empty, or two at least
}

// Revision is one of several that a device may be. Points and Convert are
// parallel to those of the Device; a point without a place to read it from is
// not in the revision: its readings are bad (not fitted).
type Revision struct {
	ID      string
	Points  []profile.Point
	Convert []Linear
}

// Linear is y = x*Factor + Offset.
type Linear struct{ Factor, Offset float64 }

// Of applies the function.
func (l Linear) Of(x float64) float64 { return x*l.Factor + l.Offset }

// Back is the inverse of Of.
func (l Linear) Back(y float64) float64 { return (y - l.Offset) / l.Factor }

// Sample is one value read from a device. Point is the index in Device.Points.
// Value is in the canonical unit.
type Sample struct {
	Point   int
	Quality telemetry.Quality
	Value   float64
	Text    string
}

// Sink takes what drivers read. It is safe for concurrent use and never blocks
// for longer than a memory operation; it keeps nothing of the slice.
type Sink interface {
	// Put hands over samples of one device that belong to one instant. A zero
	// at means now, on log time; that is right for everything but payloads
	// whose profile says time: device. It returns the log position after which
	// the samples are committed (see Committed).
	Put(d *Device, at time.Time, samples []Sample) Ticket
	// Status reports whether the device answers. Call it with every poll or
	// message; the sink writes device_up now and then (every 30 s) and at once
	// on change. Detail is one sentence for a technician, for example
	// "unit 7 does not answer (timeout 1s)"; empty when up.
	Status(d *Device, up bool, reason telemetry.Reason, detail string)
	// Identified tells what a device said of itself. Call it once it is known, and
	// again when that changes.
	Identified(d *Device, id Identity)
	// Committed calls f, from any goroutine, once everything put before the
	// ticket is on disk. Used to acknowledge QoS 1 messages.
	Committed(t Ticket, f func())
	// Flush asks for a commit of everything put before, soon. It reports false
	// when there never will be one. It does not wait.
	Flush() bool
}

// Ticket names a point in the order of Puts.
type Ticket uint64

// Env is what a driver is given to live in.
type Env struct {
	Sink    Sink
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// Totals keeps counters over a restart. When it is nil, a counter that runs
	// over its end begins anew in the readings too.
	Totals Totals
	// Receipts keeps over a restart which messages are in the log. When it is nil, a
	// message that was committed and not acknowledged is read again.
	Receipts Receipts
}

// Totals remembers how far counters are carried over their end, and how many
// events were counted. What is saved after a Put and before the [Receipts.Note] of
// the message stands in the commit of both. It is safe for
// concurrent use and waits for nothing.
type Totals interface {
	Load(device, point string) (profile.CountState, bool)
	Save(device, point string, s profile.CountState)
}

// Receipts remembers which messages of a broker stand in the log, in the commit that
// puts them there, so that one whose acknowledgement was lost with the process is
// known when it comes again. It is safe for concurrent use and waits for nothing.
type Receipts interface {
	// Known returns those of a connection that were committed last, oldest first.
	Known(connection string) []Receipt
	// Note says that everything of the message was put by the ticket.
	Note(connection string, r Receipt, t Ticket)
}

// Receipt is a message by the identifier under which the broker delivers it, and a
// checksum over topic and payload that is the same in every run.
type Receipt struct {
	ID  uint16
	Sum uint64
}

// Driver reads the devices of one connection until ctx ends. Run is called
// once; it returns nil after ctx ended and has then let go of everything. It
// returns an error only when it can never work, and keeps trying otherwise: a
// port that is missing or a broker that is down is a state of its devices, not
// an error.
type Driver interface {
	Run(ctx context.Context) error
}

// Writer is a driver that can write to its devices. Nothing is written but what
// a person asked for.
type Writer interface {
	// Write writes value, a number in the canonical unit or a word of the point's
	// enumeration, to a point of a device of this driver, named by their ids. It
	// takes turns with the polls and reads back what it wrote. It is safe for
	// concurrent use while Run is running, and returns when that is done, when
	// ctx ends or when Run returns. A write is never repeated.
	//
	// An error means that nothing was written, or, when it wraps ErrInDoubt, that
	// nobody can say. It is one sentence for a technician.
	Write(ctx context.Context, device, point, value string) (Written, error)
}

// Written is what became of a write that the device accepted.
type Written struct {
	// Back is what was read back right after, in the canonical unit.
	Back Sample
	// Same reports that it is what was to be written.
	Same bool
	// Note says why there is nothing to read back, or that it differs.
	Note string
}

// ErrInDoubt says that a write was sent and that no answer tells what became of
// it.
var ErrInDoubt = errors.New("it is not known whether it was written")

// Exchange is what went over a connection, for a technician who watches it.
type Exchange struct {
	At      time.Time     `json:"at"`   // of the request, or when a message came
	Took    time.Duration `json:"took"` // until the answer, or until it was given up
	Sent    []byte        `json:"sent"` // as it went on the wire
	Got     []byte        `json:"got"`  // the answer, or what came in its place
	Meaning string        `json:"meaning"`
}

// Tracer is a driver whose connection can be watched.
type Tracer interface {
	// Trace calls show for every exchange until stop is called. Show must neither
	// block nor keep the slices. There is one onlooker at a time: a later call takes
	// the place of the one before.
	Trace(show func(*Exchange)) (stop func())
}

// Problem is a fault in a connection's configuration: the key below the
// connection's kind, what is wrong, and how to mend it.
type Problem struct{ Field, Msg, Hint string }

// Error returns the problem in one line.
func (p Problem) Error() string { return p.Field + ": " + p.Msg }

// Source is the configuration of a connection; each driver package has one. New
// makes the driver without touching the outside.
type Source interface {
	// Kind is the key in edge.yaml: modbus, mqtt.
	Kind() string
	// ApplyDefaults fills in what was not said.
	ApplyDefaults()
	// Validate returns everything that is wrong, in the order of the fields. It
	// opens no file.
	Validate() []Problem
	New(id string, devices []*Device, env Env) (Driver, error)
}
