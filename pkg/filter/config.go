package filter

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// DefaultSilence is the longest silence when none is said. It is shorter than
// the five minutes for which a sample stands in a graph.
const DefaultSilence = 4 * time.Minute

// The bounds of a Config.
const (
	minTime = time.Second
	maxTime = 24 * time.Hour
)

// Config is how the readings of a point, or of all points of a quantity, are
// thinned out in edge.yaml.
type Config struct {
	Deadband  string        `yaml:"deadband,text" doc:"report by exception: only a change of at least this much, in the quantity's canonical unit, or in percent of the value reported last; 0 reports every change" example:"0.2 or 5%"`
	Silence   time.Duration `yaml:"silence" doc:"longest time without a reading while nothing changes; 4m with a deadband when not said. Without deadband: that of the profile or the quantity holds"`
	Window    time.Duration `yaml:"window" doc:"join the readings of so much time, by the clock, into one"`
	Aggregate []string      `yaml:"aggregate" doc:"min, mean, max, last, sum or vector_mean; that of the quantity when not said. The first keeps the point's id, each further one becomes a point of its own: wind_speed_max" example:"[mean, max]"`
	AtMost    time.Duration `yaml:"at_most" doc:"at most one reading in so much time; the newest one stands at its end"`
	Off       bool          `yaml:"off" doc:"report every reading, whatever the catalogue of quantities or filters: says" default:"false"`
}

// Problem is a fault of a Config: the key, what is wrong, and how to mend it.
type Problem struct{ Field, Msg, Hint string }

// Deadband is a change below which there is nothing to report: the greater of
// both, in the unit of the value and in percent of the reported one.
type Deadband struct{ Absolute, Percent float64 }

// ParseDeadband reads 0.2 or 5%.
func ParseDeadband(text string) (Deadband, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch {
	case err != nil || strings.ContainsAny(number, "xXpP_") || math.IsNaN(x) || math.IsInf(x, 0):
		return Deadband{}, fmt.Errorf("bad deadband %q", text)
	case x < 0:
		return Deadband{}, fmt.Errorf("a negative deadband, %s", text)
	case percent && x >= 100:
		return Deadband{}, fmt.Errorf("a deadband of %s hides every change", text)
	case percent:
		return Deadband{Percent: x}, nil
	}
	return Deadband{Absolute: x}, nil
}

var aggregations = []string{
	string(telemetry.AggregateMin), string(telemetry.AggregateMean), string(telemetry.AggregateMax),
	string(telemetry.AggregateLast), string(telemetry.AggregateSum), string(telemetry.AggregateVectorMean),
}

// Validate returns everything that is wrong with c. interval is how often the
// readings come in, 0 when it is not known; text says that the values are.
func (c *Config) Validate(interval time.Duration, text bool) (ps []Problem) {
	bad := func(field, hint, format string, args ...any) {
		ps = append(ps, Problem{field, fmt.Sprintf(format, args...), hint})
	}
	if c.Deadband != "" {
		if d, err := ParseDeadband(c.Deadband); err != nil {
			bad("deadband", "write 0.2, or 5% of the value", "%v", err)
		} else if text && d != (Deadband{}) {
			bad("deadband", "write 0 to report every new text", "text has no deadband")
		}
	}
	for _, f := range []struct {
		name string
		v    time.Duration
	}{{"silence", c.Silence}, {"window", c.Window}, {"at_most", c.AtMost}} {
		if f.v != 0 && (f.v < minTime || f.v > maxTime) {
			bad(f.name, fmt.Sprintf("write a time from %v to %v", minTime, maxTime), "%v is out of bounds", f.v)
		}
	}
	if c.Window > 0 && interval > 0 && c.Window < 2*interval {
		bad("window", fmt.Sprintf("write at least %v, or give the device a shorter interval", 2*interval), "%v holds less than two readings that come every %v", c.Window, interval)
	}
	if c.Window > 0 && c.AtMost > 0 {
		bad("at_most", "keep one of them", "a window is a limit already")
	}
	if c.Silence > 0 && c.Silence < max(interval, c.Window) {
		bad("silence", "write a longer time, or leave it away", "%v is shorter than the time between two readings", c.Silence)
	}
	c.aggregates(text, bad)
	if c.Off && (c.Deadband != "" || c.Silence != 0 || c.Window != 0 || len(c.Aggregate) > 0 || c.AtMost != 0) {
		bad("off", "remove off, or the rest", "contradicts the other keys")
	}
	return ps
}

func (c *Config) aggregates(text bool, bad func(field, hint, format string, args ...any)) {
	if len(c.Aggregate) > 0 && c.Window == 0 {
		bad("aggregate", "write window: 1m beside it", "needs a window")
	}
	for i, a := range c.Aggregate {
		field := fmt.Sprintf("aggregate[%d]", i)
		switch {
		case !slices.Contains(aggregations, a):
			bad(field, "write one of "+strings.Join(aggregations, ", "), "unknown aggregate %q", a)
		case slices.Contains(c.Aggregate[:i], a):
			bad(field, "remove it", "%s stands there twice", a)
		case text && a != string(telemetry.AggregateLast):
			bad(field, "write last", "text has no %s", a)
		}
	}
}

// Spec returns what c, which is valid, asks for. deadband is what holds when c
// says none but asks for report by exception, aggregate what a window gives when
// c names nothing. It is not ok when every reading is reported.
func (c *Config) Spec(deadband float64, aggregate telemetry.Aggregation, interval time.Duration) (Spec, bool) {
	s := Spec{
		Interval: interval.Milliseconds(), Window: c.Window.Milliseconds(), AtMost: c.AtMost.Milliseconds(),
		Changes: c.Deadband != "" || c.Silence > 0 || deadband > 0, Deadband: Deadband{Absolute: deadband},
	}
	if c.Off {
		return Spec{}, false
	}
	if c.Deadband != "" {
		s.Deadband, _ = ParseDeadband(c.Deadband) // valid
	}
	if s.Changes {
		silence := c.Silence
		if silence == 0 {
			silence = max(DefaultSilence, interval, c.Window)
		}
		s.Silence = silence.Milliseconds()
	}
	if s.Window > 0 {
		names := c.Aggregate
		if len(names) == 0 {
			names = []string{string(aggregate)}
		}
		for _, a := range names {
			s.Outputs = append(s.Outputs, Output{Aggregate: telemetry.Aggregation(a)})
		}
	}
	return s, s.Changes || s.Window > 0 || s.AtMost > 0
}
