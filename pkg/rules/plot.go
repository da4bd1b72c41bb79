package rules

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// severityColors are those of the plot.
var severityColors = [...]string{"#888888", "#4a90d9", "#f5a623", "#d0021b", "#7b1fa2"}

const (
	plotWidth  = 1200
	plotHeight = 160
	plotLeft   = 110
	plotRight  = 90
	plotTop    = 44
	plotGap    = 56
	barStep    = 14
)

// Plots says what a plot shows. Names tells one list of episodes from the other when
// several limits are compared; each has a row of bars of its own, for each rule.
type Plots struct {
	Histories []History
	Judged    []Judged // drawn over the readings
	Names     []string
	Episodes  [][]Episode
	From, To  time.Time // their zone is that of the plot
}

// Plot writes an SVG: each history with the episodes of the first list as shades,
// and the limits that they passed as lines.
func Plot(w io.Writer, p *Plots) error {
	var b strings.Builder
	var rows []*plotRow
	top := float64(plotTop)
	for i := range p.Histories {
		r := &plotRow{Plots: p, b: &b, h: &p.Histories[i], top: top}
		r.prepare()
		rows = append(rows, r)
		top += float64(plotHeight + plotGap + len(r.bars)*barStep)
	}
	width := float64(plotLeft + plotWidth + plotRight)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11" fill="#333333">`+"\n", width, top, width, top)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	x := plotLeft
	for s := alert.Info; s <= alert.Emergency; s++ {
		fmt.Fprintf(&b, `<rect x="%d" y="8" width="10" height="10" fill="%s"/><text x="%d" y="17">%s</text>`+"\n", x, severityColors[s], x+14, s)
		x += 80
	}
	for _, r := range rows {
		r.draw()
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// plotRow is one history in the plot.
type plotRow struct {
	*Plots
	b         *strings.Builder
	h         *History
	key       string
	top       float64
	low, high float64
	judged    []*Judged
	bars      []plotBar
}

// plotBar is the episodes of one rule by one of the lists.
type plotBar struct {
	name string
	list []*Episode
}

// prepare finds what belongs to the history, and the values between which it is
// drawn.
func (p *plotRow) prepare() {
	p.key = alert.SeriesKey(p.h.Series.Edge, p.h.Series.Device, p.h.Series.Point)
	p.low, p.high = math.Inf(1), math.Inf(-1)
	take := func(list []PastReading) {
		for i := range list {
			if r := &list[i]; !r.Quality.IsBad() && r.Time >= p.From.UnixMilli() && r.Time <= p.To.UnixMilli() {
				p.low, p.high = min(p.low, r.Value), max(p.high, r.Value)
			}
		}
	}
	take(p.h.Readings)
	for i := range p.Judged {
		if j := &p.Judged[i]; j.Series == p.key && j.comparable() {
			p.judged = append(p.judged, j)
			take(j.Values)
		}
	}
	if p.low > p.high {
		p.low, p.high = 0, 1
	}
	if p.low == p.high {
		p.high++
	}
	for k, list := range p.Episodes {
		byRule := map[string][]*Episode{}
		for i := range list {
			if list[i].Series == p.key {
				byRule[list[i].Rule] = append(byRule[list[i].Rule], &list[i])
			}
		}
		for _, rule := range slices.Sorted(maps.Keys(byRule)) {
			name := rule
			if len(p.Episodes) > 1 {
				name += " " + p.Names[k]
			}
			p.bars = append(p.bars, plotBar{name, byRule[rule]})
		}
	}
}

// comparable reports whether what the rule judges has the unit of the readings.
func (j *Judged) comparable() bool {
	name, _, _ := strings.Cut(j.Label, " ")
	return name == "mean" || name == "min" || name == "max"
}

func (p *plotRow) x(ms int64) float64 {
	span := max(float64(p.To.UnixMilli()-p.From.UnixMilli()), 1)
	return plotLeft + plotWidth*max(0, min(1, float64(ms-p.From.UnixMilli())/span))
}

func (p *plotRow) y(v float64) float64 {
	return p.top + plotHeight*(1-max(0, min(1, (v-p.low)/(p.high-p.low))))
}

func (p *plotRow) text(x, y float64, anchor, text string) {
	fmt.Fprintf(p.b, `<text x="%.0f" y="%.0f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(text))
}

func (p *plotRow) draw() {
	title := p.key + " " + telemetry.UnitSymbol(p.h.Series.Unit)
	for _, j := range p.judged {
		title += "; thick: " + j.Rule + ", " + j.Label
	}
	p.text(plotLeft, p.top-8, "start", title)
	p.axes()
	limits := map[float64]alert.Severity{}
	for i, bar := range p.bars {
		y := p.top + plotHeight + 6 + float64(i)*barStep
		p.text(plotLeft-6, y+9, "end", fmt.Sprintf("%s: %d", shortName(bar.name), len(bar.list)))
		for _, e := range bar.list {
			p.episode(e, y, i == 0 || bar.name == e.Rule)
			limits[e.Limit] = e.Severity
		}
	}
	if first := p.bars; len(first) > 0 {
		p.limits(limits)
	}
	p.line(p.h.Readings, "#555555", 0.8)
	for _, j := range p.judged {
		p.line(j.Values, "#0b6b3a", 1.8)
	}
}

func shortName(s string) string {
	if r := []rune(s); len(r) > 14 {
		return string(r[:13]) + "…"
	}
	return s
}

// episode draws a bar with the severities as they were, and the shade.
func (p *plotRow) episode(e *Episode, y float64, shade bool) {
	end := e.End
	if end.IsZero() || end.After(p.To) {
		end = p.To
	}
	fmt.Fprintf(p.b, `<g><title>%s %s to %s, peak %s</title>`, html.EscapeString(e.Rule), e.Start.In(p.From.Location()).Format(time.DateTime), end.In(p.From.Location()).Format(time.DateTime), en.limit(e.Peak))
	for i, step := range e.Steps {
		until := end
		if i+1 < len(e.Steps) {
			until = e.Steps[i+1].From
		}
		x0, x1 := p.x(step.From.UnixMilli()), p.x(until.UnixMilli())
		color := severityColors[min(int(step.Severity), len(severityColors)-1)]
		fmt.Fprintf(p.b, `<rect x="%.1f" y="%.0f" width="%.1f" height="9" fill="%s"/>`, x0, y, max(1, x1-x0), color)
		if shade {
			fmt.Fprintf(p.b, `<rect x="%.1f" y="%.0f" width="%.1f" height="%d" fill="%s" fill-opacity="0.12"/>`, x0, p.top, max(1, x1-x0), plotHeight, color)
		}
	}
	p.b.WriteString("</g>\n")
}

// limits draws those that lie within the plot, with their values beside.
func (p *plotRow) limits(limits map[float64]alert.Severity) {
	last := math.Inf(1)
	for _, v := range slices.SortedFunc(maps.Keys(limits), func(a, b float64) int { return cmp.Compare(a, b) }) {
		if v < p.low || v > p.high {
			continue
		}
		color := severityColors[limits[v]]
		fmt.Fprintf(p.b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="4 3"/>`+"\n", plotLeft, plotLeft+plotWidth, p.y(v), p.y(v), color)
		if last-p.y(v) >= 10 {
			last = p.y(v)
			fmt.Fprintf(p.b, `<text x="%d" y="%.0f" fill="%s">%s</text>`+"\n", plotLeft+plotWidth+5, last+4, color, en.limit(v))
		}
	}
}

// axes draws a frame, and lines at round values and times.
func (p *plotRow) axes() {
	fmt.Fprintf(p.b, `<rect x="%d" y="%.0f" width="%d" height="%d" fill="none" stroke="#cccccc"/>`+"\n", plotLeft, p.top, plotWidth, plotHeight)
	step := roundStep((p.high - p.low) / 4)
	for v := math.Ceil(p.low/step) * step; v <= p.high; v += step {
		fmt.Fprintf(p.b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#eeeeee"/>`+"\n", plotLeft, plotLeft+plotWidth, p.y(v), p.y(v))
		p.text(plotLeft-6, p.y(v)+4, "end", en.limit(math.Round(v/step)*step))
	}
	bottom := p.top + plotHeight + 6 + float64(len(p.bars))*barStep + 12
	next, layout := timeSteps(p.To.Sub(p.From))
	for t := next(p.From, true); !t.After(p.To); t = next(t, false) {
		x := p.x(t.UnixMilli())
		fmt.Fprintf(p.b, `<line x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f" stroke="#eeeeee"/>`+"\n", x, x, p.top, p.top+plotHeight)
		p.text(x, bottom, "middle", t.Format(layout))
	}
}

// roundStep is the least of 1, 2, 5, 10 ... that is at least so large.
func roundStep(least float64) float64 {
	for step := math.Pow(10, math.Floor(math.Log10(least))); ; step *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if step*m >= least {
				return step * m
			}
		}
	}
}

// timeSteps returns how to go from one round time to the next, so that a span has
// about ten, and how they are written. First asks for the first one from a time on.
func timeSteps(span time.Duration) (next func(t time.Time, first bool) time.Time, layout string) {
	const day = 24 * time.Hour
	midnight := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location()) }
	for _, step := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour} {
		if span/step > 12 {
			continue
		}
		layout = "02.01. 15:04"
		return func(t time.Time, first bool) time.Time {
			from := midnight(t)
			n := t.Sub(from) / step
			if at := from.Add(n * step); first && at.Equal(t) {
				return at
			}
			return from.Add((n + 1) * step)
		}, layout
	}
	days := 1
	for _, n := range []int{1, 2, 7, 14} {
		if days = n; span/(time.Duration(n)*day) <= 14 {
			return func(t time.Time, first bool) time.Time {
				if first {
					if m := midnight(t); m.Equal(t) {
						return m
					}
					return midnight(t).AddDate(0, 0, 1)
				}
				return t.AddDate(0, 0, days)
			}, "2006-01-02"
		}
	}
	months := max(1, int(span/(30*day)/12))
	return func(t time.Time, first bool) time.Time {
		m := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, t.Location())
		if first && m.Equal(t) {
			return m
		}
		if first {
			return m.AddDate(0, 1, 0)
		}
		return m.AddDate(0, months, 0)
	}, "2006-01"
}

// line draws values: for each column of the plot the least and the greatest.
func (p *plotRow) line(list []PastReading, color string, width float64) {
	fmt.Fprintf(p.b, `<path fill="none" stroke="%s" stroke-width="%v" d="`, color, width)
	column, low, high, pen := math.Inf(-1), 0.0, 0.0, "M"
	flush := func() {
		if !math.IsInf(column, -1) {
			fmt.Fprintf(p.b, "%s%.0f %.1fL%.0f %.1f", pen, column, p.y(low), column, p.y(high))
			pen = "L"
		}
	}
	for i := range list {
		r := &list[i]
		if r.Time < p.From.UnixMilli() || r.Time > p.To.UnixMilli() {
			continue
		}
		if r.Quality.IsBad() {
			flush()
			column, pen = math.Inf(-1), "M"
			continue
		}
		if c := math.Floor(p.x(r.Time)); c != column {
			flush()
			column, low, high = c, r.Value, r.Value
		}
		low, high = min(low, r.Value), max(high, r.Value)
	}
	flush()
	p.b.WriteString(`"/>` + "\n")
}
