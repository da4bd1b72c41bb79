package push

import (
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Problem is a row that could not be taken, and where it stands: the line and the
// byte of a text, counted from 1; of a protobuf, which series and which sample.
type Problem struct {
	Line    int64  `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Series  int    `json:"series,omitempty"`
	Sample  int    `json:"sample,omitempty"`
	Metric  string `json:"metric,omitempty"`
	Message string `json:"message"`
}

// String says the same in a line.
func (p *Problem) String() string {
	where := ""
	switch {
	case p.Line > 0 && p.Column > 0:
		where = fmt.Sprintf("line %d, column %d: ", p.Line, p.Column)
	case p.Line > 0:
		where = fmt.Sprintf("line %d: ", p.Line)
	case p.Sample > 0:
		where = fmt.Sprintf("series %d, sample %d: ", p.Series, p.Sample)
	case p.Series > 0:
		where = fmt.Sprintf("series %d: ", p.Series)
	}
	if p.Metric != "" {
		where += fmt.Sprintf("%.80s: ", p.Metric)
	}
	return where + p.Message
}

// maxProblems is how many problems an answer lists; all are counted.
const maxProblems = 20

// batch is what a request holds.
type batch struct {
	readings []telemetry.Reading
	rows     int // all, also those that are thrown away as the mapping wants
	refused  int
	problems []Problem

	oldest, newest int64 // times that are taken, ms
	now            int64
	maxRows        int
	maxAge         time.Duration
	maxAhead       time.Duration
}

func newBatch(c *Config, now time.Time) *batch {
	return &batch{
		now: now.UnixMilli(), maxRows: c.MaxRows, maxAge: c.MaxAge, maxAhead: c.MaxAhead,
		oldest: now.Add(-c.MaxAge).UnixMilli(), newest: now.Add(c.MaxAhead).UnixMilli(),
	}
}

func (b *batch) refuse(p Problem) {
	b.refused++
	if len(b.problems) < maxProblems {
		if len(p.Message) > 300 {
			p.Message = p.Message[:300]
		}
		b.problems = append(b.problems, p)
	}
}

// when says what is wrong with a time; empty: nothing.
func (b *batch) when(t int64) string {
	switch {
	case t > b.newest:
		return fmt.Sprintf("its time %s is %s ahead of the hub's clock; at most %v is taken", stamp(t), span(t-b.now), b.maxAhead)
	case t < b.oldest:
		return fmt.Sprintf("its time %s is more than %.3g days ago, too long for the store (is the precision right?)", stamp(t), b.maxAge.Hours()/24)
	}
	return ""
}

func stamp(ms int64) string {
	if ms < -62135596800000 || ms > 253402300799999 {
		return fmt.Sprintf("(%d ms)", ms)
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

func span(ms int64) string {
	if days := ms / 86_400_000; days > 2 {
		return fmt.Sprintf("%d days", days)
	}
	return (time.Duration(ms) * time.Millisecond).Round(time.Second).String()
}

// full reports whether the request holds more rows than one may.
func (b *batch) full() bool { return len(b.readings)+b.refused > b.maxRows }

// reading is a reading of a number; what is not finite has a bad quality.
func number(series uint32, t int64, v float64) telemetry.Reading {
	r := telemetry.Reading{Series: series, Time: t, Value: v, Quality: telemetry.Check(v, 0)}
	if r.Quality.IsBad() {
		r.Value = 0
	}
	return r
}
