package history

import (
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// The widths of buckets, and of the slices that late samples mark, in milliseconds.
const (
	FiveMinutes = int64(5 * time.Minute / time.Millisecond)
	Hour        = int64(time.Hour / time.Millisecond)
	Slice       = 2 * Hour

	day = 24 * Hour
)

var widthNames = map[int64]string{FiveMinutes: "5m", Hour: "1h"}

// period is the time (start, end] of a set: a day or a month, UTC.
type period struct{ start, end int64 }

func dayOf(t int64) period {
	start := floor(t-1, day) // a sample at midnight belongs to the day that ends then
	return period{start, start + day}
}

func monthOf(t int64) period {
	at := time.UnixMilli(t - 1).UTC()
	first := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	return period{first.UnixMilli(), first.AddDate(0, 1, 0).UnixMilli()}
}

func floor(t, step int64) int64 {
	if r := t % step; r < 0 {
		return t - r - step
	}
	return t - t%step
}

func (p period) isMonth() bool { return p.end-p.start > day }

func (p period) covers(q period) bool { return p.start <= q.start && q.end <= p.end }

const (
	dayLayout   = "20060102"
	monthLayout = "200601"
)

// name is how the folder of a set begins.
func (p period) name() string {
	if p.isMonth() {
		return time.UnixMilli(p.start).UTC().Format(monthLayout)
	}
	return time.UnixMilli(p.start).UTC().Format(dayLayout)
}

// parseName reads the name of a set's folder.
func parseName(name string) (p period, id ulid.ULID, err error) {
	when, suffix, _ := strings.Cut(name, "-")
	if id, err = ulid.ParseStrict(suffix); err != nil {
		return p, id, fmt.Errorf("%q is no name of a set", name)
	}
	layout := monthLayout
	if len(when) == len(dayLayout) {
		layout = dayLayout
	}
	at, err := time.Parse(layout, when)
	if err != nil {
		return p, id, fmt.Errorf("%q is no name of a set", name)
	}
	if layout == dayLayout {
		return period{at.UnixMilli(), at.UnixMilli() + day}, id, nil
	}
	return monthOf(at.UnixMilli() + 1), id, nil
}
