package ingest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// begun counts the series that an edge begins within a day: the store keeps all of them
// for hours and in its index for good, however short each one's life.
type begun struct {
	since time.Time
	n     int
}

// admitSeries refuses the series of a new schema that there is no room for, or whose
// labels are too large. Those that were taken before are taken still, so that an edge
// which makes ever new series keeps the others. Readings of what is refused are counted
// and dropped, and acknowledged: the edge's log must not wait for what nobody will take.
func (w *worker) admitSeries(e *edge, b *binding) {
	cfg := &w.g.cfg
	if now := w.g.now(); now.Sub(e.begun.since) > 24*time.Hour || now.Before(e.begun.since) {
		e.begun = begun{since: now}
	}
	before := e.taken
	room := min(cfg.MaxSeries, max(0, cfg.MaxSeriesAll-int(w.g.series.Load())+before))
	had := make([]bool, len(b.series)) // and was taken
	if e.cur != nil {
		carry(e.cur, b, func(from, to int) { had[to] = !e.cur.series[from].refused })
	} else if e.durable.schema == b.hash {
		for i := range had {
			had[i] = len(e.refused) != len(had) || e.refused[i] == 0
		}
	}
	taken, large, tooMany := 0, -1, 0 // large: a series whose labels are
	for _, known := range []bool{true, false} {
		for i := range b.series {
			switch {
			case had[i] != known:
			case labelBytes(b.bound[i].Labels) > cfg.MaxLabelBytes:
				b.series[i].refused, large = true, i
			case taken >= room || !known && e.begun.n >= cfg.MaxNewSeries:
				b.series[i].refused = true
				tooMany++
			default:
				taken++
				if !known {
					e.begun.n++
				}
			}
		}
	}
	b.taken, e.taken = taken, taken
	w.g.series.Add(int64(taken - before))
	e.refused = nil
	if taken == len(b.series) {
		if _, flagged := e.flagged[EventLimit]; flagged {
			delete(e.flagged, EventLimit)
			e.view.settle(EventLimit)
			w.event(Event{Edge: e.id, Kind: EventLimit, Text: fmt.Sprintf("All series of edge %s are taken again.", e.id)})
		}
		return
	}
	e.refused = make([]uint8, len(b.series))
	for i := range b.series {
		if b.series[i].refused {
			e.refused[i] = 1
		}
	}
	delete(e.flagged, EventLimit) // another schema is told anew
	why := ""
	if tooMany > 0 {
		quantity, label, values := b.widest()
		limits := fmt.Sprintf("ingest.max_series %d, in all %d", cfg.MaxSeries, cfg.MaxSeriesAll)
		if taken < room {
			limits = fmt.Sprintf("%d have begun since %s, ingest.max_new_series %d", e.begun.n, e.begun.since.UTC().Format(time.RFC3339), cfg.MaxNewSeries)
		}
		why = fmt.Sprintf(" (%s): of %s the label %s has the most different values, %d", limits, quantity, label, values)
	}
	if large >= 0 {
		s := &b.bound[large]
		why += fmt.Sprintf("; the labels of %s at point %s of device %s have %d bytes (ingest.max_label_bytes %d), most of them has %s",
			s.Quantity, s.Point, s.Device, labelBytes(s.Labels), cfg.MaxLabelBytes, largestLabel(s.Labels))
	}
	w.flag(e, EventLimit, fmt.Sprintf("Edge %s has %d series, and %d are taken%s. The readings of the others are counted and dropped.", e.id, len(b.series), taken, why), nil)
}

func labelBytes(ls telemetry.Labels) (n int) {
	for _, l := range ls {
		n += len(l.Name) + len(l.Value)
	}
	return n
}

func largestLabel(ls telemetry.Labels) string {
	return slices.MaxFunc(ls, func(a, b telemetry.Label) int {
		return len(a.Name) + len(a.Value) - len(b.Name) - len(b.Value)
	}).Name
}

// widest returns the quantity of which the most series are refused, and its label with
// the most different values.
func (b *binding) widest() (quantity, label string, values int) {
	refused := map[string]int{}
	for i := range b.series {
		if b.series[i].refused {
			refused[b.bound[i].Quantity]++
		}
	}
	for _, q := range slices.Sorted(maps.Keys(refused)) {
		if quantity == "" || refused[q] > refused[quantity] {
			quantity = q
		}
	}
	seen := map[string]map[string]struct{}{}
	note := func(name, value string) {
		if seen[name] == nil {
			seen[name] = map[string]struct{}{}
		}
		seen[name][value] = struct{}{}
	}
	for i := range b.bound {
		s := &b.bound[i]
		if s.Quantity != quantity {
			continue
		}
		for _, l := range s.Labels {
			note(l.Name, l.Value)
		}
		note(telemetry.LabelDevice, s.Device)
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if n := len(seen[name]); n > values {
			label, values = name, n
		}
	}
	return quantity, label, values
}
