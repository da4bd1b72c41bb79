package deliver

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

var dayNames = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// span is a part of the day in minutes; it goes over midnight when from is not
// below to.
type span struct{ from, to int }

func parseSpan(s string) (span, error) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		return span{}, fmt.Errorf("%q has no -", s)
	}
	from, err := minutes(a)
	if err != nil {
		return span{}, err
	}
	to, err := minutes(b)
	if err == nil && from == to {
		err = fmt.Errorf("%q is empty", s)
	}
	return span{from, to}, err
}

// minutes reads a time of day; 24:00 is its end.
func minutes(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err
}

// schedule is when something may be done, in Vietnam's time. The zero value is
// always. The days are those on which a span begins.
type schedule struct {
	spans []span
	days  []string
}

func newSchedule(hours, days []string) (s schedule, err error) {
	s.days = days
	for _, h := range hours {
		x, err := parseSpan(h)
		if err != nil {
			return s, err
		}
		s.spans = append(s.spans, x)
	}
	return s, nil
}

func (s *schedule) day(t time.Time) bool {
	return len(s.days) == 0 || slices.Contains(s.days, dayNames[t.Weekday()])
}

// open reports whether it may be done at t.
func (s *schedule) open(t time.Time) bool {
	t = t.In(hanoi)
	if len(s.spans) == 0 {
		return s.day(t)
	}
	m := t.Hour()*60 + t.Minute()
	for _, x := range s.spans {
		switch {
		case x.from < x.to && m >= x.from && m < x.to && s.day(t):
			return true
		case x.from > x.to && m >= x.from && s.day(t):
			return true
		case x.from > x.to && m < x.to && s.day(t.AddDate(0, 0, -1)):
			return true
		}
	}
	return false
}
