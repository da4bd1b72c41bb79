package rules

import (
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
	plotLeft   = 70
	plotTop    = 24
	plotGap    = 46
)

// Plot writes an SVG: each history with the episodes found on it as shades, and
// the limits that they passed as lines. Names tells one list of episodes from the
// other when several limits are compared; each has a row of bars of its own.
func Plot(w io.Writer, histories []History, names []string, episodes [][]Episode, from, to time.Time) error {
	rows := float64(plotTop)
	height := plotTop + len(histories)*(plotHeight+plotGap+len(names)*14)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", plotLeft+plotWidth+20, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	span := max(float64(to.UnixMilli()-from.UnixMilli()), 1)
	x := func(ms int64) float64 {
		return plotLeft + plotWidth*max(0, min(1, float64(ms-from.UnixMilli())/span))
	}
	for i := range histories {
		h := &histories[i]
		p := plotRow{b: &b, top: rows, x: x}
		p.draw(h, names, episodes, from, to)
		rows += float64(plotHeight + plotGap + len(names)*14)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

type plotRow struct {
	b   *strings.Builder
	top float64
	x   func(int64) float64
}

func (p *plotRow) draw(h *History, names []string, episodes [][]Episode, from, to time.Time) {
	key := alert.SeriesKey(h.Series.Edge, h.Series.Device, h.Series.Point)
	low, high := math.Inf(1), math.Inf(-1)
	for i := range h.Readings {
		if r := &h.Readings[i]; !r.Bad && r.Time >= from.UnixMilli() && r.Time <= to.UnixMilli() {
			low, high = min(low, r.Value), max(high, r.Value)
		}
	}
	if low > high {
		low, high = 0, 1
	}
	if low == high {
		high++
	}
	y := func(v float64) float64 { return p.top + plotHeight*(1-max(0, min(1, (v-low)/(high-low)))) }
	fmt.Fprintf(p.b, `<text x="%d" y="%.0f">%s %s</text>`+"\n", plotLeft, p.top-6, html.EscapeString(key), html.EscapeString(telemetry.UnitSymbol(h.Series.Unit)))
	fmt.Fprintf(p.b, `<rect x="%d" y="%.0f" width="%d" height="%d" fill="none" stroke="#cccccc"/>`+"\n", plotLeft, p.top, plotWidth, plotHeight)
	for _, v := range []float64{low, high} {
		fmt.Fprintf(p.b, `<text x="%d" y="%.0f" text-anchor="end">%s</text>`+"\n", plotLeft-4, y(v)+4, en.number(v, 1))
	}
	limits := map[float64]alert.Severity{}
	for row, list := range episodes {
		bar := p.top + plotHeight + 6 + float64(row)*14
		n := 0
		for k := range list {
			e := &list[k]
			if e.Series != key {
				continue
			}
			n++
			end := e.End
			if end.IsZero() {
				end = to
			}
			limits[e.Limit] = e.Severity
			x0, x1 := p.x(e.Start.UnixMilli()), p.x(end.UnixMilli())
			color := severityColors[min(int(e.Severity), len(severityColors)-1)]
			fmt.Fprintf(p.b, `<rect x="%.1f" y="%.0f" width="%.1f" height="9" fill="%s"><title>%s %s to %s, peak %s</title></rect>`+"\n",
				x0, bar, max(1, x1-x0), color, html.EscapeString(e.Rule), e.Start.Format(time.RFC3339), end.Format(time.RFC3339), en.limit(e.Peak))
			if row == 0 {
				fmt.Fprintf(p.b, `<rect x="%.1f" y="%.0f" width="%.1f" height="%d" fill="%s" fill-opacity="0.15"/>`+"\n", x0, p.top, max(1, x1-x0), plotHeight, color)
			}
		}
		fmt.Fprintf(p.b, `<text x="%d" y="%.0f" text-anchor="end">%s: %d</text>`+"\n", plotLeft-4, bar+8, html.EscapeString(names[row]), n)
	}
	for _, v := range slices.Sorted(maps.Keys(limits)) {
		s := limits[v]
		if v >= low && v <= high {
			fmt.Fprintf(p.b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="4 3"/>`+"\n", plotLeft, plotLeft+plotWidth, y(v), y(v), severityColors[s])
		}
	}
	p.line(h, y, from, to)
	fmt.Fprintf(p.b, `<text x="%d" y="%.0f">%s</text><text x="%d" y="%.0f" text-anchor="end">%s</text>`+"\n",
		plotLeft, p.top+plotHeight+float64(len(names))*14+18, from.Format(time.DateOnly), plotLeft+plotWidth, p.top+plotHeight+float64(len(names))*14+18, to.Format(time.DateOnly))
}

// line draws the readings: for each column of the plot the least and the greatest.
func (p *plotRow) line(h *History, y func(float64) float64, from, to time.Time) {
	p.b.WriteString(`<path fill="none" stroke="#333333" stroke-width="0.8" d="`)
	column, low, high, pen := math.Inf(-1), 0.0, 0.0, "M"
	flush := func() {
		if !math.IsInf(column, -1) {
			fmt.Fprintf(p.b, "%s%.0f %.1fL%.0f %.1f", pen, column, y(low), column, y(high))
			pen = "L"
		}
	}
	for i := range h.Readings {
		r := &h.Readings[i]
		if r.Time < from.UnixMilli() || r.Time > to.UnixMilli() {
			continue
		}
		if r.Bad {
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
