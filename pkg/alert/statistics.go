package alert

import (
	"cmp"
	"slices"
	"time"
)

// The measures of ISA-18.2 and EEMUA 191.
const (
	StandingAfter = 24 * time.Hour
	FloodWindow   = 10 * time.Minute
	FloodBegins   = 10 // more than this within the window
	FloodEnds     = 5  // fewer than this
	FleetingBelow = 10 * time.Second
	ChatterFrom   = 3 // activations of one alert
	topLength     = 10
	standingShown = 100
)

// Episode is what statistics need of an alert. Times are in milliseconds; End is
// math.MaxInt64 while it is active.
type Episode struct {
	ID          string
	Start, End  int64
	Severity    Severity
	Site, Rule  string
	Series      string // see [SeriesKey]
	Activations int
	Held        bool // it was held when it was raised: it called nobody
	Test        bool
}

// Statistics judge how the alerts of [From, To) served people. Alerts count by
// their start. Tests are left out, and alerts that were held when they were
// raised are counted apart.
type Statistics struct {
	From       time.Time        `json:"from"`
	To         time.Time        `json:"to"`
	Alerts     int              `json:"alerts"`
	Held       int              `json:"held"`
	PerHour    float64          `json:"per_hour"`
	Hours      []Hour           `json:"hours"` // those with alerts, in order
	BySeverity map[Severity]int `json:"by_severity"`
	Top        []Source         `json:"top"`      // the ten that raised most, worst first
	Standing   Standing         `json:"standing"` // active for longer than a day, at To
	Chattering []Source         `json:"chattering"`
	Fleeting   int              `json:"fleeting"` // over within 10 s
	Floods     []Flood          `json:"floods"`
	FloodShare float64          `json:"flood_share"` // of the time, 0 to 1
}

// Hour is how many alerts began in one hour.
type Hour struct {
	Start  time.Time `json:"start"`
	Alerts int       `json:"alerts"`
}

// Source is a rule on a series and what it raised.
type Source struct {
	Rule        string  `json:"rule"`
	Site        string  `json:"site"`
	Series      string  `json:"series"` // edge/device/point
	Alerts      int     `json:"alerts"`
	Share       float64 `json:"share"`       // of all alerts, 0 to 1
	Activations int     `json:"activations"` // with those that were collapsed
}

// Standing are alerts that have been active for too long, longest first.
type Standing struct {
	Count int            `json:"count"`
	Items []StandingItem `json:"items"` // the first hundred
}

// StandingItem is one of them.
type StandingItem struct {
	ID       string    `json:"id"`
	Rule     string    `json:"rule"`
	Site     string    `json:"site"`
	Series   string    `json:"series"`
	Severity Severity  `json:"severity"`
	Start    time.Time `json:"start"`
}

// Flood is a time with more alerts than people can take in: it begins with the
// alert that makes more than ten within ten minutes, and ends when fewer than
// five are left in the ten minutes before.
type Flood struct {
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"` // To when it lasts
	Alerts int       `json:"alerts"`
	Peak   int       `json:"peak"` // most within ten minutes
}

// Summarise computes the statistics of [from, to) from the episodes that began
// before to, in the order of their starts.
func Summarise(episodes []Episode, from, to time.Time) Statistics {
	st := Statistics{
		From: from, To: to, Hours: []Hour{}, BySeverity: map[Severity]int{}, Top: []Source{}, Chattering: []Source{},
		Standing: Standing{Items: []StandingItem{}}, Floods: []Flood{},
	}
	type key struct{ rule, site, series string }
	sources := map[key]*Source{}
	var starts []int64
	begin, end := from.UnixMilli(), to.UnixMilli()
	for i := range episodes {
		e := &episodes[i]
		if e.Test || e.Start >= end {
			continue
		}
		if !e.Held && e.End > end && e.Start < end-StandingAfter.Milliseconds() {
			st.stand(e)
		}
		switch {
		case e.Start < begin:
			continue
		case e.Held:
			st.Held++
			continue
		}
		st.Alerts++
		st.BySeverity[e.Severity]++
		starts = append(starts, e.Start)
		if e.End-e.Start < FleetingBelow.Milliseconds() {
			st.Fleeting++
		}
		hour := time.UnixMilli(e.Start).UTC().Truncate(time.Hour)
		if n := len(st.Hours); n == 0 || !st.Hours[n-1].Start.Equal(hour) {
			st.Hours = append(st.Hours, Hour{Start: hour})
		}
		st.Hours[len(st.Hours)-1].Alerts++
		k := key{e.Rule, e.Site, e.Series}
		s := sources[k]
		if s == nil {
			s = &Source{Rule: e.Rule, Site: e.Site, Series: e.Series}
			sources[k] = s
		}
		s.Alerts++
		s.Activations += max(1, e.Activations-ChatterFrom+1) // the first two are alerts of their own
		if e.Activations >= ChatterFrom && !slices.ContainsFunc(st.Chattering, func(c Source) bool { return key{c.Rule, c.Site, c.Series} == k }) {
			st.Chattering = append(st.Chattering, *s)
		}
	}
	all := make([]Source, 0, len(sources))
	for _, s := range sources {
		s.Share = float64(s.Alerts) / float64(st.Alerts)
		all = append(all, *s)
	}
	for i := range st.Chattering {
		c := &st.Chattering[i]
		*c = *sources[key{c.Rule, c.Site, c.Series}]
	}
	worst := func(by func(Source) int) func(a, b Source) int {
		return func(a, b Source) int {
			return cmp.Or(by(b)-by(a), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Series, b.Series))
		}
	}
	slices.SortFunc(all, worst(func(s Source) int { return s.Alerts }))
	st.Top = append(st.Top, all[:min(topLength, len(all))]...)
	slices.SortFunc(st.Chattering, worst(func(s Source) int { return s.Activations }))
	if hours := to.Sub(from).Hours(); hours > 0 {
		st.PerHour = float64(st.Alerts) / hours
	}
	st.floods(starts, end)
	return st
}

func (st *Statistics) stand(e *Episode) {
	st.Standing.Count++
	if len(st.Standing.Items) < standingShown {
		st.Standing.Items = append(st.Standing.Items, StandingItem{
			ID: e.ID, Rule: e.Rule, Site: e.Site, Series: e.Series, Severity: e.Severity, Start: time.UnixMilli(e.Start).UTC(),
		})
	}
}

// floods walks over the starts with two hands: one at the alert that comes, one
// at the oldest within the window.
func (st *Statistics) floods(starts []int64, end int64) {
	window := FloodWindow.Milliseconds()
	var cur *Flood
	total := int64(0)
	finish := func(at int64) {
		cur.End = time.UnixMilli(at).UTC()
		total += at - cur.Start.UnixMilli()
		st.Floods = append(st.Floods, *cur)
		cur = nil
	}
	oldest := 0
	leave := func(until int64) { // alerts that fall out of the window up to then
		for oldest < len(starts) && starts[oldest]+window <= until {
			left := starts[oldest] + window
			oldest++
			if cur != nil && inWindow(starts, oldest, left) < FloodEnds {
				finish(left)
			}
		}
	}
	for i, t := range starts {
		leave(t)
		n := i + 1 - oldest
		if cur == nil && n > FloodBegins {
			cur = &Flood{Start: time.UnixMilli(t).UTC(), Alerts: n - 1}
		}
		if cur != nil {
			cur.Alerts++
			cur.Peak = max(cur.Peak, n)
		}
	}
	leave(end)
	if cur != nil {
		finish(end)
	}
	if span := end - st.From.UnixMilli(); span > 0 {
		st.FloodShare = float64(total) / float64(span)
	}
}

// inWindow counts the starts from the oldest on that lie at or before t.
func inWindow(starts []int64, oldest int, t int64) int {
	n := 0
	for n < FloodBegins && oldest+n < len(starts) && starts[oldest+n] <= t {
		n++
	}
	return n
}
