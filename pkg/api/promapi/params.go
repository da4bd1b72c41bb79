package promapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
)

// Times that stand for no bound, far from where milliseconds overflow.
var (
	minTime = time.UnixMilli(math.MinInt64 / 4)
	maxTime = time.UnixMilli(math.MaxInt64 / 4)
)

func timeParam(r *http.Request, name string, missing time.Time) (time.Time, error) {
	s := r.FormValue(name)
	if s == "" {
		return missing, nil
	}
	t, err := parseTime(s)
	if err != nil {
		return time.Time{}, invalid(name, err)
	}
	return t, nil
}

// parseTime reads seconds since the Unix epoch, with decimals, or RFC 3339.
// Times that milliseconds cannot hold are the nearest that they can.
func parseTime(s string) (time.Time, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) {
			return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
		}
		ms := math.Round(f * 1000)
		switch {
		case ms <= float64(minTime.UnixMilli()):
			return minTime, nil
		case ms >= float64(maxTime.UnixMilli()):
			return maxTime, nil
		}
		return time.UnixMilli(int64(ms)).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
}

// parseDuration reads seconds, with decimals, or Prometheus' form, like 1h30m.
func parseDuration(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		ns := f * float64(time.Second)
		if math.IsNaN(ns) || ns >= math.MaxInt64 || ns <= math.MinInt64 {
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", s)
		}
		return time.Duration(ns), nil
	}
	d, err := model.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("cannot parse %q to a valid duration", s)
	}
	return time.Duration(d), nil
}

// limitParam reads the number of items wanted; 0 is all.
func limitParam(r *http.Request) (int, error) {
	s := r.FormValue("limit")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err == nil && (n < 0 || n == math.MaxInt) {
		err = errors.New("limit must be non-negative")
	}
	if err != nil {
		return 0, invalid("limit", err)
	}
	return n, nil
}

// timeSteps is n as what two durations make when divided.
func timeSteps(n int) time.Duration { return time.Duration(n) }

// thousands writes a number as people read it: 11,000.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
