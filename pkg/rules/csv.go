package rules

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// CSVOptions say what of a CSV file is read.
type CSVOptions struct {
	Column string         // of the values; "": the second of two
	Time   string         // column of the times; "": time, timestamp or date, or year, month, day and hour
	Zone   *time.Location // of times without one; UTC when nil
}

var timeLayouts = []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly}

// maxCSVRows bounds what is read of a file.
const maxCSVRows = 20_000_000

// ReadCSV reads the readings of one series: with a header, times as text or as
// seconds since 1970, empty values and NA as bad readings. Rows that go back in
// time are left out and counted. The error names line and column.
func ReadCSV(name string, in io.Reader, o CSVOptions) (list []PastReading, skipped int, err error) {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return nil, 0, fmt.Errorf("%s:1: no header: %w", name, err)
	}
	c, err := columns(name, slices.Clone(head), &o)
	if err != nil {
		return nil, 0, err
	}
	last := int64(-1 << 62)
	for line := 2; ; line++ {
		row, err := r.Read()
		switch {
		case errors.Is(err, io.EOF):
			return list, skipped, nil
		case err != nil:
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		case len(list) == maxCSVRows:
			return nil, 0, fmt.Errorf("%s:%d: more than %d rows", name, line, maxCSVRows)
		}
		t, err := c.time(row)
		if err != nil {
			return nil, 0, fmt.Errorf("%s:%d:%d: %w", name, line, c.at[0]+1, err)
		}
		if t <= last {
			skipped++
			continue
		}
		last = t
		p := PastReading{Time: t}
		switch text := strings.TrimSpace(row[c.value]); strings.ToLower(text) {
		case "", "na", "nan", "null":
			p.Quality = telemetry.BadQuality(telemetry.ReasonNoAnswer)
		default:
			if p.Value, err = strconv.ParseFloat(text, 64); err != nil || !finite(p.Value) {
				return nil, 0, fmt.Errorf("%s:%d:%d: %.40q is no number", name, line, c.value+1, text)
			}
		}
		list = append(list, p)
	}
}

type csvColumns struct {
	at    []int // of the time, or of year, month, day, hour
	value int
	zone  *time.Location
}

func columns(name string, head []string, o *CSVOptions) (c csvColumns, err error) {
	c.zone = o.Zone
	if c.zone == nil {
		c.zone = time.UTC
	}
	find := func(want string) int {
		return slices.IndexFunc(head, func(h string) bool { return strings.EqualFold(strings.TrimSpace(h), want) })
	}
	switch {
	case o.Time != "":
		c.at = []int{find(o.Time)}
		if c.at[0] < 0 {
			return c, fmt.Errorf("%s:1: no column %q; %s", name, o.Time, strictyaml.Meant(o.Time, head))
		}
	case find("year") >= 0 && find("month") >= 0 && find("day") >= 0:
		c.at = []int{find("year"), find("month"), find("day")}
		if h := find("hour"); h >= 0 {
			c.at = append(c.at, h)
		}
	default:
		for _, n := range []string{"time", "timestamp", "date", "datetime"} {
			if i := find(n); i >= 0 && c.at == nil {
				c.at = []int{i}
			}
		}
		if c.at == nil {
			return c, fmt.Errorf("%s:1: no column of times; name it with --time", name)
		}
	}
	if o.Column == "" && len(head) == 2 {
		c.value = 1 - c.at[0]
		return c, nil
	}
	if c.value = find(o.Column); c.value < 0 {
		return c, fmt.Errorf("%s:1: no column %q; %s", name, o.Column, strictyaml.Meant(o.Column, head))
	}
	return c, nil
}

func (c *csvColumns) time(row []string) (int64, error) {
	if len(c.at) > 1 {
		var n [4]int
		for i, k := range c.at {
			v, err := strconv.Atoi(strings.TrimSpace(row[k]))
			if err != nil {
				return 0, fmt.Errorf("%.40q is no part of a date", row[k])
			}
			n[i] = v
		}
		return time.Date(n[0], time.Month(n[1]), n[2], n[3], 0, 0, 0, c.zone).UnixMilli(), nil
	}
	text := strings.TrimSpace(row[c.at[0]])
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, text, c.zone); err == nil {
			return t.UnixMilli(), nil
		}
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s > 0 && s < 1e11 {
		return int64(s * 1000), nil
	}
	return 0, fmt.Errorf("%.40q is no time", text)
}
