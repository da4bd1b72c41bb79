package edge

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// show prints what a technician wants to know of a profile.
func (s *shelf) show(id, lang string) error {
	p, err := s.lib.Get(id)
	if err != nil {
		return err
	}
	say := func(t telemetry.Text) string {
		if lang == "vi" {
			return t.VI
		}
		return t.EN
	}
	out := s.call.Stdout
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	line("%s: %s %s", p.ID, p.Vendor, p.Model)
	line("%s", say(p.Title))
	line("category %s, checked against a %s", p.Category, p.Tested)
	if d := defaultsOf(&p.Modbus); d != "" {
		line("factory settings: %s", d)
	}
	for _, l := range p.Links {
		line("from %s", l)
	}
	if len(p.Caveats) > 0 {
		line("\nWhat surprises")
		for _, c := range p.Caveats {
			line("- %s (%s)", say(c.Text), c.Source)
		}
	}
	if len(p.With) > 0 {
		line("\nParameters (with:)")
		for _, name := range slices.Sorted(maps.Keys(p.With)) {
			line("- %s", parameterOf(name, p.With[name], say))
		}
	}
	if len(p.Match) > 0 || len(p.Firmware) > 0 {
		line("\nFirmware")
		if len(p.Match) > 0 {
			line("- the model is known by: %s", matchesOf(p.Match))
		}
		for i := range p.Firmware {
			rev := &p.Firmware[i]
			line("- %s: %s%s", rev.ID, say(rev.Title), tellingOf(rev, p.TellsRevision()))
		}
	}
	points, revision, _, err := p.Resolve("", examples(p))
	if err != nil {
		return err
	}
	heading := "\nPoints"
	if revision != "" {
		heading += " of revision " + revision
	}
	line("%s", heading)
	s.points(out, p, points)
	for i := 1; i < len(p.Firmware); i++ {
		if rev := &p.Firmware[i]; len(rev.Points)+len(rev.Remove) > 0 {
			line("\nRevision %s departs from %s", rev.ID, orText(rev.Like, "the profile's own points"))
			if len(rev.Remove) > 0 {
				line("without %s", strings.Join(rev.Remove, ", "))
			}
			s.points(out, p, rev.Points)
		}
	}
	line("\nIn edge.yaml\n%s", exampleDevice(p))
	return nil
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// defaultsOf lists what a Modbus model leaves the factory with, and its limits.
func defaultsOf(d *profile.ModbusDefaults) string {
	var parts []string
	add := func(set bool, format string, args ...any) {
		if set {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(d.Unit != 0, "unit %d", d.Unit)
	add(d.Baud != 0, "%d baud", d.Baud)
	add(d.Parity != "", "parity %s", d.Parity)
	add(d.StopBits != 0, "%d stop bit(s)", d.StopBits)
	add(d.MaxRegisters != 0, "at most %d registers in a request", d.MaxRegisters)
	add(d.Pause != 0, "%v between requests", d.Pause)
	add(d.WarmUp != 0, "%v to warm up", d.WarmUp)
	add(d.Order != "", "order of bytes %s", d.Order)
	return strings.Join(parts, ", ")
}

func parameterOf(name string, p profile.Parameter, say func(telemetry.Text) string) string {
	text := fmt.Sprintf("%s (%s): %s", name, p.Type, say(p.Title))
	if p.Min != nil || p.Max != nil {
		text += ", " + rangeOf(&profile.Range{Min: p.Min, Max: p.Max})
	}
	switch {
	case p.Default != "":
		text += ", default " + p.Default
	case p.Example != "":
		text += ", for example " + p.Example
	}
	return text
}

func rangeOf(r *profile.Range) string {
	end := func(x *float64) string {
		if x == nil {
			return ""
		}
		return number(*x)
	}
	return end(r.Min) + ".." + end(r.Max)
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

func matchesOf(ms []profile.Match) string {
	parts := make([]string, len(ms))
	for i := range ms {
		parts[i] = matchOf(&ms[i])
	}
	return strings.Join(parts, " and ")
}

func matchOf(m *profile.Match) string {
	text := m.Place.String()
	if m.Mask != 0 {
		text += fmt.Sprintf(" under mask %#x", m.Mask)
	}
	switch {
	case m.Absent:
		return text + " is refused"
	case len(m.Text) > 0:
		text += " is " + strings.Join(m.Text, " or ")
	case len(m.Equals) > 0:
		words := make([]string, len(m.Equals))
		for i, x := range m.Equals {
			words[i] = number(x)
		}
		text += " is " + strings.Join(words, " or ")
	case m.Min != nil || m.Max != nil:
		text += " in " + rangeOf(&profile.Range{Min: m.Min, Max: m.Max})
	default:
		text += " is there"
	}
	if m.Version != "" {
		text += ", and tells the version"
	}
	return text
}

// tellingOf says how the agent comes to a revision.
func tellingOf(rev *profile.Revision, told bool) string {
	var parts []string
	if rev.Range != "" {
		parts = append(parts, "firmware "+rev.Range)
	}
	if len(rev.Match) > 0 {
		parts = append(parts, matchesOf(rev.Match))
	}
	switch {
	case len(parts) > 0:
		return " (" + strings.Join(parts, "; ") + ")"
	case told:
		return " (taken by hand only, or when none fits)"
	}
	return " (chosen by revision:)"
}

// examples fills in parameters that a device must say.
func examples(p *profile.Profile) map[string]string {
	with := map[string]string{}
	for name, param := range p.With {
		switch {
		case param.Default != "":
		case param.Example != "":
			with[name] = param.Example
		case param.Type == "string":
			with[name] = name
		default:
			with[name] = number(least(param.Min))
		}
	}
	return with
}

func least(x *float64) float64 {
	if x == nil {
		return 0
	}
	return *x
}

func (s *shelf) points(out io.Writer, p *profile.Profile, points []profile.Point) {
	if len(points) == 0 {
		return
	}
	q := p.Catalogue(s.q)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "POINT\tQUANTITY\tREAD FROM\tDOC\tRAW\tUNIT\tVALID\tAND")
	for i := range points {
		pt := &points[i]
		unit := orText(pt.Unit, q[pt.Quantity].Unit)
		valid := ""
		if pt.Valid != nil {
			valid = rangeOf(pt.Valid)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", pt.ID, pt.Quantity, placeOf(pt), pt.Doc, rawOf(pt), unit, valid, strings.Join(furtherOf(pt), ", "))
	}
	_ = w.Flush()
}

func placeOf(pt *profile.Point) string {
	if area, address := pt.Area(); area != profile.AreaNone {
		text := fmt.Sprintf("%s %d", area, address)
		if pt.Bit != nil {
			text += fmt.Sprintf(" bit %d", *pt.Bit)
		}
		return text
	}
	if pt.Path == "" {
		return pt.Topic
	}
	return pt.Topic + " at " + pt.Path
}

func rawOf(pt *profile.Point) string {
	var text string
	if pt.Protocol() == profile.ProtocolModbus {
		text = string(pt.RawType())
	} else if pt.IsText() {
		text = "text"
	}
	if pt.Before != 0 {
		text = fmt.Sprintf("(%s%+g)", text, pt.Before)
	}
	if pt.Scale != nil {
		text += " x" + number(*pt.Scale)
	}
	if pt.Offset != 0 {
		text += fmt.Sprintf(" %+g", pt.Offset)
	}
	return strings.TrimSpace(text)
}

func furtherOf(pt *profile.Point) (out []string) {
	add := func(set bool, format string, args ...any) {
		if set {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(pt.ValidWhen != nil, "valid when %s", func() string {
		if pt.ValidWhen == nil {
			return ""
		}
		return matchOf(pt.ValidWhen)
	}())
	if pt.UnitCode != nil {
		add(true, "unit by %s", pt.UnitCode.Place.String())
	}
	if pt.PowerOfTen != nil {
		add(true, "power of ten by %s", pt.PowerOfTen.Place.String())
	}
	if pt.Counter != nil {
		add(true, "counter (%s)", orText(pt.Counter.Kind, profile.CounterTotal))
		for i := range pt.Counter.When {
			add(true, "when %s", matchOf(&pt.Counter.When[i]))
		}
	}
	add(pt.SideEffect, "reading it changes the device")
	if pt.Writable != nil {
		add(true, "writable %s", rangeOf(&profile.Range{Min: pt.Writable.Min, Max: pt.Writable.Max}))
	}
	add(pt.Interval != 0, "every %v", pt.Interval)
	return out
}

// exampleDevice is a device of the profile as it stands in edge.yaml.
func exampleDevice(p *profile.Profile) string {
	_, model, _ := strings.Cut(p.ID, "/")
	connection := map[string]string{profile.ProtocolModbus: "cabinet", profile.ProtocolMQTT: "broker"}[p.Protocol]
	text := fmt.Sprintf("  - {id: %s-01, profile: %s, connection: %s", model, p.ID, orText(connection, p.Protocol))
	if p.Protocol == profile.ProtocolModbus && p.Modbus.Unit == 0 {
		text += ", unit: 1"
	}
	return text + withText(examples(p)) + "}"
}

// withText writes parameters as they stand in a device.
func withText(with map[string]string) string {
	if len(with) == 0 {
		return ""
	}
	parts := make([]string, 0, len(with))
	for _, name := range slices.Sorted(maps.Keys(with)) {
		parts = append(parts, name+": "+strconv.Quote(with[name]))
	}
	return ", with: {" + strings.Join(parts, ", ") + "}"
}
