package rules

import (
	"strings"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// tell emits a transition at t of the machine's alert, whose judged value is x.
// Active is the number of the level that the alert stands at, or stood at when it
// ends.
func (f *Fold) tell(kind alert.Kind, s *series, b *busyState, r *rule, t int64, x float64, active uint8, reason string) {
	f.present(s, r, alert.Transition{Kind: kind, Time: at(t), Alert: f.describe(kind, s, b, r, t, x, active, reason)})
}

// describe makes the alert of a transition.
func (f *Fold) describe(kind alert.Kind, s *series, b *busyState, r *rule, t int64, x float64, active uint8, reason string) alert.Alert {
	l := &r.levels[active-1]
	edge := f.edge
	if edge == "" { // judged by the hub, for an edge or a group
		edge = s.bound.Edge
	}
	a := alert.Alert{
		ID:   alert.NewID(r.id, r.version, alert.SeriesKey(edge, s.bound.Device, s.bound.Point), b.start),
		Rule: r.id, RuleVersion: r.version,
		Severity: l.severity, State: alert.Active,
		Start: at(b.start), Onset: at(b.onset), Updated: at(t), Reason: reason,
		Site: s.bound.Site, Edge: edge, Device: s.bound.Device, Point: s.bound.Point,
		Quantity: s.bound.Quantity, Unit: r.judgedUnit(s.bound.Unit), Labels: joinLabels(r, s.bound.Labels),
		Value: x, Peak: b.peak, Limit: r.limitAt(l, x), Level: l.name, Procedure: r.procedure, Links: r.links,
	}
	switch {
	case r.ages():
		a.Value, a.Peak, a.Limit = a.Value/1000, a.Peak/1000, a.Limit/1000
	case r.source == ofState:
		a.Peak, a.Limit = x, x
		if s.text != "" {
			a.Labels["state"] = s.text
		}
	}
	if l.name != nil && l.name.Color != "" {
		a.Labels["color"] = l.name.Color
	}
	if kind == alert.Ended {
		a.State = alert.Cleared
		end := at(t)
		a.End = &end
	}
	if a.Quantity == "" {
		a.Quantity = r.quantity
	}
	if r.byClock() {
		r.show(&a)
	}
	a.Message = f.message(&a, s, r, l)
	return a
}

// joinLabels puts the series' labels over the rule's.
func joinLabels(r *rule, ls telemetry.Labels) map[string]string {
	m := make(map[string]string, len(r.labels)+len(ls))
	for n, v := range r.labels {
		m[n] = v
	}
	for _, l := range ls {
		m[l.Name] = l.Value
	}
	return m
}

// message writes the alert's message in both languages. A rule that is known
// by name only has none but its id.
func (f *Fold) message(a *alert.Alert, s *series, r *rule, l *level) telemetry.Text {
	if r.vi == nil || r.en == nil {
		return telemetry.Text{VI: "Quy tắc " + r.id + " đã thay đổi", EN: "The rule " + r.id + " has changed"}
	}
	name := telemetry.Text{VI: a.Site, EN: a.Site}
	if set := s.set; set != nil {
		if site, ok := set.sites[a.Site]; ok {
			name = site.Name
		}
	}
	return telemetry.Text{VI: r.write(r.vi, a, s, l, "vi", name), EN: r.write(r.en, a, s, l, "en", name)}
}

func (r *rule) write(m *message, a *alert.Alert, s *series, l *level, lang string, site telemetry.Text) string {
	d := &messageData{
		Edge: a.Edge, Device: a.Device, Point: a.Point, Quantity: r.label.In(lang), Rule: r.id, Severity: m.lang.severity(a.Severity),
		Value: m.lang.number(a.Value, r.decimals), Peak: m.lang.number(a.Peak, r.decimals), Limit: m.lang.limit(a.Limit),
		Last: m.lang.number(s.value, r.decimals),
		Unit: telemetry.UnitSymbol(a.Unit), Labels: a.Labels, Group: s.bound.Device,
	}
	switch {
	case r.ages():
		d.Value, d.Peak, d.Limit, d.Unit = m.lang.duration(a.Value), m.lang.duration(a.Peak), m.lang.duration(a.Limit), ""
		if r.kind == Flatline {
			d.Last = strings.TrimSpace(d.Last + " " + telemetry.UnitSymbol(s.bound.Unit))
		}
	case r.source == ofState && s.text != "":
		d.Value, d.Last, d.Peak, d.Limit = s.text, s.text, s.text, s.text
	case a.Unit == "1" && r.source == ofWindow:
		d.Value, d.Peak = m.lang.number(a.Value, 0), m.lang.number(a.Peak, 0)
	case r.kind == Several, r.kind == Fewer:
		d.Value, d.Peak = m.lang.number(a.Value, 0), m.lang.number(a.Peak, 0)
	}
	if d.Title = r.title.In(lang); d.Title == "" {
		d.Title = r.id
	}
	if l.name != nil {
		d.Level = l.name.Name.In(lang)
	}
	if d.Level == "" {
		d.Level = d.Severity
	}
	d.Site.ID, d.Site.Name = a.Site, site.In(lang)
	if d.Site.Name == "" {
		d.Site.Name = a.Site
	}
	if d.Quantity == "" {
		d.Quantity = a.Quantity
	}
	text, err := m.run(d)
	if err != nil && text == "" {
		return r.id
	}
	return text
}
