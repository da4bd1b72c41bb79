package rules

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // rules mean the same on machines without it

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// schedule says when a rule judges. A nil one is always.
type schedule struct {
	days     [8]bool // by time.Weekday, and holidays
	hours    [][2]int
	zone     *time.Location
	holidays map[string]bool // 2026-01-01
	text     string
}

const holiday = 7

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat", "holiday"}

// DefaultZone is the time zone of schedules that name none.
const DefaultZone = "Asia/Ho_Chi_Minh"

// active reports whether the schedule holds at t.
func (s *schedule) active(t int64) bool {
	at := time.UnixMilli(t).In(s.zone)
	if !s.days[s.day(at)] {
		return false
	}
	if len(s.hours) == 0 {
		return true
	}
	y, m, d := at.Date()
	for _, h := range s.hours {
		if t >= s.minute(y, m, d, h[0]) && t < s.minute(y, m, d, h[1]) {
			return true
		}
	}
	return false
}

func (s *schedule) day(at time.Time) int {
	if s.holidays[at.Format(time.DateOnly)] {
		return holiday
	}
	return int(at.Weekday())
}

func (s *schedule) minute(y int, m time.Month, d, minute int) int64 {
	return time.Date(y, m, d, 0, minute, 0, 0, s.zone).UnixMilli()
}

// next returns the last millisecond after t at which the schedule still is as it
// is then; never when it changes no more within two years.
func (s *schedule) next(t int64) int64 {
	now := s.active(t)
	y, m, d := time.UnixMilli(t).In(s.zone).Date()
	edges := []int{0}
	for _, h := range s.hours {
		edges = append(edges, h[0], h[1])
	}
	slices.Sort(edges)
	for k := range 2 * 366 {
		for _, e := range edges {
			if at := s.minute(y, m, d+k, e); at > t && s.active(at) != now {
				return at - 1
			}
		}
	}
	return math.MaxInt64
}

// String returns the schedule as its file says it.
func (s *schedule) String() string {
	if s == nil {
		return ""
	}
	return s.text
}

// MarshalJSON implements [json.Marshaler], for the rule's version.
func (s *schedule) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{s.days, s.hours, s.zone.String(), s.holidays})
}

// scheduleFile is a schedule as it stands in a file.
type scheduleFile struct {
	Days     patterns `yaml:"days" doc:"mon to sun, ranges such as mon-fri, and holiday; all when not said"`
	Hours    patterns `yaml:"hours" doc:"from and to, such as 06:00-21:00, or several; over midnight: 21:00-06:00; the whole day when not said"`
	Zone     string   `yaml:"zone" doc:"time zone" default:"Asia/Ho_Chi_Minh"`
	Holidays patterns `yaml:"holidays" doc:"days that count as holiday, not as their weekday: dates such as 2026-09-02, or the name of a list"`
}

var hoursPattern = regexp.MustCompile(`^(\d\d):(\d\d)-(\d\d):(\d\d)$`)

func (c *compiler) schedule(f *scheduleFile, path ...any) *schedule {
	if f == nil {
		return nil
	}
	s := &schedule{holidays: map[string]bool{}}
	var err error
	if f.Zone == "" {
		f.Zone = DefaultZone
	}
	if s.zone, err = time.LoadLocation(f.Zone); err != nil || f.Zone == "Local" {
		c.fault(fmt.Sprintf("unknown time zone %.40q", f.Zone), "for example "+DefaultZone, append(path, "zone")...)
		s.zone = time.UTC
	}
	for _, d := range f.Days {
		from, to, isRange := strings.Cut(d, "-")
		if !isRange {
			to = from
		}
		i, k := slices.Index(dayNames, from), slices.Index(dayNames, to)
		if i < 0 || k < 0 || isRange && (i == holiday || k == holiday) {
			c.fault(fmt.Sprintf("%.40q is no day", d), "write mon, tue, wed, thu, fri, sat, sun, holiday, or mon-fri", append(path, "days")...)
			continue
		}
		for s.days[i] = true; i != k; s.days[i] = true {
			i = (i + 1) % 7
		}
	}
	if len(f.Days) == 0 {
		s.days = [8]bool{true, true, true, true, true, true, true, true}
	}
	for _, h := range f.Hours {
		m := hoursPattern.FindStringSubmatch(h)
		if m == nil {
			c.fault(fmt.Sprintf("%.40q are no hours", h), "write 06:00-21:00", append(path, "hours")...)
			continue
		}
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[i+1]) // two digits
		}
		from, to := n[0]*60+n[1], n[2]*60+n[3]
		switch {
		case from >= 24*60 || to > 24*60 || n[1] > 59 || n[3] > 59 || from == to:
			c.fault(fmt.Sprintf("%.40q are no hours", h), "from 00:00 to 24:00; leave hours away for the whole day", append(path, "hours")...)
		case from < to:
			s.hours = append(s.hours, [2]int{from, to})
		default:
			s.hours = append(s.hours, [2]int{from, 24 * 60})
			if to > 0 {
				s.hours = append(s.hours, [2]int{0, to})
			}
		}
	}
	for _, h := range f.Holidays {
		if list, ok := c.tables.holidays[h]; ok {
			for _, d := range list {
				s.holidays[d] = true
			}
			continue
		}
		if _, err := time.Parse(time.DateOnly, h); err != nil {
			c.fault(fmt.Sprintf("%.40q is neither a date nor a list of holidays", h), strictyaml.Meant(h, keys(c.tables.holidays)), append(path, "holidays")...)
			continue
		}
		s.holidays[h] = true
	}
	var parts []string
	if len(f.Days) > 0 {
		parts = append(parts, strings.Join(f.Days, ", "))
	}
	if len(f.Hours) > 0 {
		parts = append(parts, strings.Join(f.Hours, ", "))
	}
	s.text = strings.Join(append(parts, f.Zone), " ")
	return s
}
