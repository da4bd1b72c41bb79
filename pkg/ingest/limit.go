package ingest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// admitSeries refuses the series of a new schema that there is no room for. Those that
// were taken before are taken still, so that an edge which makes ever new series keeps
// the others. Readings of what is refused are counted and dropped, and acknowledged:
// the edge's log must not wait for what nobody will take.
func (w *worker) admitSeries(e *edge, b *binding) {
	before := e.taken
	room := min(w.g.cfg.MaxSeries, max(0, w.g.cfg.MaxSeriesAll-int(w.g.series.Load())+before))
	had := make([]bool, len(b.series)) // and was taken
	if e.cur != nil {
		carry(e.cur, b, func(from, to int) { had[to] = !e.cur.series[from].refused })
	} else if e.durable.schema == b.hash {
		for i := range had {
			had[i] = len(e.refused) != len(had) || e.refused[i] == 0
		}
	}
	taken := 0
	for _, known := range []bool{true, false} {
		for i := range b.series {
			if had[i] != known {
				continue
			}
			if taken < room {
				taken++
			} else {
				b.series[i].refused = true
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
	quantity, label, values := b.widest()
	w.flag(e, EventLimit, fmt.Sprintf("Edge %s has %d series, and %d are taken (ingest.max_series %d, in all %d): of %s the label %s has the most different values, %d. The readings of the others are counted and dropped.",
		e.id, len(b.series), taken, w.g.cfg.MaxSeries, w.g.cfg.MaxSeriesAll, quantity, label, values), nil)
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
