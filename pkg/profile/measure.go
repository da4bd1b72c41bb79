package profile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// PowerOfTen is where a device says by which power of ten a value is multiplied.
type PowerOfTen struct {
	Place    `yaml:",inline"`
	Negative bool `yaml:"negative" doc:"it is a number of decimals: 2 divides by 100" default:"false"`
}

// UnitCode is where a device says in which unit a value is.
type UnitCode struct {
	Place `yaml:",inline"`
	Units map[string]string `yaml:"units,text" doc:"units by the code or the word that stands there"`
}

// maxPower bounds a power of ten; a device that says more has not said one.
const maxPower = 12

// Refs returns the places that must be read along with the point, in the order
// in which [Measure] takes them; none for most points. They belong to the point
// and must not be changed.
func (p *Point) Refs() []*Place {
	var refs []*Place
	if p.CountsEvents() {
		for i := range p.Counter.When {
			refs = append(refs, &p.Counter.When[i].Place)
		}
		return refs
	}
	if p.ValidWhen != nil {
		refs = append(refs, &p.ValidWhen.Place)
	}
	if p.PowerOfTen != nil {
		refs = append(refs, &p.PowerOfTen.Place)
	}
	if p.UnitCode != nil {
		refs = append(refs, &p.UnitCode.Place)
	}
	return refs
}

// HasRefs reports whether Refs is not empty.
func (p *Point) HasRefs() bool {
	return p.ValidWhen != nil || p.PowerOfTen != nil || p.UnitCode != nil || p.CountsEvents()
}

// Measure is [Number] for any point: refs is what stands at pt.Refs(), count the
// state of its counter (nil for a point without one), at the time of the
// reading in milliseconds. A condition that does not hold makes the reading bad
// (invalid), a place that could not be read gives it that place's reason, a unit
// code that the profile does not know is bad (configuration). It is not ok when
// there is nothing to report yet: the first reading of a rate.
func Measure[C Linear](pt *Point, conv C, count *Count, raw float64, refs []Raw, at int64) (value float64, q telemetry.Quality, ok bool) {
	if pt.isSentinel(raw) {
		return 0, telemetry.BadQuality(telemetry.ReasonNotFitted), true
	}
	in, q := pt.context(refs)
	if q.IsBad() {
		return 0, q, true
	}
	if pt.Counter != nil && count != nil {
		if raw, ok = count.Next(pt.Counter, raw, at); !ok {
			return 0, 0, false
		}
	}
	value, q = number(pt, in, conv, raw)
	return value, q, true
}

// MeasureValue is [Measure] for what a payload holds, as [Value] is to [Number]. Of a
// point that counts events v says nothing, and a message in which its conditions
// do not hold is not ok.
func MeasureValue[C Linear](pt *Point, conv C, count *Count, v any, refs []Raw, at int64) (value float64, text string, q telemetry.Quality, ok bool) {
	if pt.CountsEvents() {
		if count == nil || !pt.isEvent(refs) {
			return 0, "", 0, false
		}
		count.Event()
		value, q = EventTotal(pt, conv, count)
		return value, "", q, true
	}
	if pt.IsText() {
		value, text, q = Value(pt, conv, v)
		if _, bad := pt.context(refs); bad.IsBad() && !q.IsBad() {
			return 0, "", bad, true
		}
		return value, text, q, true
	}
	if v == nil {
		return 0, "", telemetry.BadQuality(telemetry.ReasonMissing), true
	}
	raw, isNumber := pt.asNumber(v)
	if !isNumber {
		return 0, "", telemetry.BadQuality(telemetry.ReasonMalformed), true
	}
	value, q, ok = Measure(pt, conv, count, raw, refs, at)
	return value, "", q, ok
}

// EventTotal is the reading of a point that counts events as its count stands.
func EventTotal[C Linear](pt *Point, conv C, count *Count) (value float64, q telemetry.Quality) {
	return number(pt, context{}, conv, count.Events())
}

// isEvent reports whether all conditions of a point that counts events hold.
func (p *Point) isEvent(refs []Raw) bool {
	when := p.Counter.When
	if len(refs) != len(when) {
		return false
	}
	for i := range when {
		if !when[i].Fits(refs[i]) {
			return false
		}
	}
	return true
}

// fillRefs puts parameters into the paths of Refs and the texts that they are
// compared with; the point gets copies of its own.
func (p *Point) fillRefs(with map[string]string) {
	if v := p.ValidWhen; v != nil {
		own := v.filled(with)
		p.ValidWhen = &own
	}
	if v := p.Counter; v != nil && len(v.When) > 0 {
		own := *v
		own.When = filled(v.When, with)
		p.Counter = &own
	}
	if v := p.PowerOfTen; v != nil {
		own := *v
		own.Path = fill(own.Path, with, escapePath)
		p.PowerOfTen = &own
	}
	if v := p.UnitCode; v != nil {
		own := *v
		own.Path = fill(own.Path, with, escapePath)
		p.UnitCode = &own
	}
}

// RawValue is what a payload holds at a place: a value of encoding/json, or the
// payload itself as a string. Of an array it is the elements, those that are
// arrays or objects left out.
func RawValue(v any, there bool) Raw {
	if !there || v == nil {
		return Raw{Quality: telemetry.BadQuality(telemetry.ReasonMissing)}
	}
	if text, ok := asText(v); ok && text != "" {
		return Raw{Text: text}
	}
	if list, ok := v.([]any); ok {
		var texts []string
		for _, e := range list {
			if text, ok := asText(e); ok && !strings.Contains(text, listSeparator) {
				texts = append(texts, text)
			}
		}
		return Raw{Text: strings.Join(texts, listSeparator), List: true}
	}
	return Raw{Quality: telemetry.BadQuality(telemetry.ReasonMalformed)}
}

// context is what other places say of a value.
type context struct {
	power  float64 // factor; 0 is 1
	factor float64 // from the unit that the device names into the point's; 0 is 1
	offset float64
}

func (p *Point) context(refs []Raw) (in context, q telemetry.Quality) {
	if !p.HasRefs() {
		return in, 0
	}
	next := func() Raw {
		if len(refs) == 0 {
			return Raw{Quality: telemetry.BadQuality(telemetry.ReasonMissing)}
		}
		r := refs[0]
		refs = refs[1:]
		return r
	}
	if p.ValidWhen != nil {
		r := next()
		if r.Quality.IsBad() {
			return in, r.Quality
		}
		if !p.ValidWhen.Fits(r) {
			return in, telemetry.BadQuality(telemetry.ReasonInvalid)
		}
	}
	if p.PowerOfTen != nil {
		r := next()
		if r.Quality.IsBad() {
			return in, r.Quality
		}
		n, ok := r.number()
		if !ok || n != math.Trunc(n) || math.Abs(n) > maxPower {
			return in, telemetry.BadQuality(telemetry.ReasonMalformed)
		}
		if p.PowerOfTen.Negative {
			n = -n
		}
		in.power = math.Pow10(int(n))
	}
	if p.UnitCode != nil {
		r := next()
		if r.Quality.IsBad() {
			return in, r.Quality
		}
		unit, ok := p.UnitCode.Units[r.code()]
		if ok {
			in.factor, in.offset, ok = telemetry.ConvertUnit(unit, p.Unit)
		}
		if !ok {
			return in, telemetry.BadQuality(telemetry.ReasonConfiguration)
		}
	}
	return in, 0
}

func (r Raw) number() (float64, bool) {
	if r.List {
		return 0, false
	}
	if r.Text != "" {
		return parseNumber(strings.TrimSpace(r.Text))
	}
	return r.Number, true
}

func (r Raw) code() string {
	if r.List {
		return ""
	}
	if r.Text != "" {
		return strings.TrimSpace(r.Text)
	}
	return strconv.FormatFloat(r.Number, 'f', -1, 64)
}

// number takes a raw value that is no sentinel to the canonical unit.
func number[C Linear](pt *Point, in context, conv C, raw float64) (value float64, q telemetry.Quality) {
	x := raw + pt.Before
	if pt.Scale != nil {
		x *= *pt.Scale
	}
	if in.power != 0 {
		x *= in.power
	}
	x = tidy(x + pt.Offset)
	if in.factor != 0 {
		x = tidyBeside(x*in.factor+in.offset, in.offset)
	}
	if pt.Decimals != nil {
		p := math.Pow10(*pt.Decimals)
		x = math.Round(x*p) / p
	}
	if v := pt.Valid; v != nil && (v.Min != nil && x < *v.Min || v.Max != nil && x > *v.Max) {
		q = telemetry.BadQuality(telemetry.ReasonOutOfRange)
	}
	x = tidyBeside(conv.Of(x), conv.Of(0))
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, telemetry.Check(x, q)
	}
	return x, q
}

// DeadbandIn returns the change below which there is nothing to report, in the
// canonical unit: the point's own, or that of its quantity.
func (p *Point) DeadbandIn(q telemetry.Quantities) float64 {
	if p.Deadband > 0 {
		if factor, _, ok := p.Conversion(q); ok {
			return p.Deadband * math.Abs(factor)
		}
	}
	return q[p.Quantity].Deadband
}

// further checks the keys that look beyond the point itself.
func (c *checker) further(q telemetry.Quantities) {
	pt := c.pt
	below := func(field string, errs []PointError) {
		for _, e := range errs {
			if e.Field != "" {
				e.Field = field + "." + e.Field
			} else {
				e.Field = field
			}
			c.errs = append(c.errs, e)
		}
	}
	same := func(field string, pl *Place) {
		if p := pl.Point(""); pt.Protocol() != "" && p.Protocol() != "" && p.Protocol() != pt.Protocol() || pt.Protocol() == ProtocolModbus && pl.Path != "" {
			c.fail(field, "", "must be read from where the point itself is, %s", pt.Protocol())
		}
	}
	if pt.ValidWhen != nil {
		below("valid_when", pt.ValidWhen.faults(true))
		same("valid_when", &pt.ValidWhen.Place)
	}
	if pt.PowerOfTen != nil {
		below("power_of_ten", pt.PowerOfTen.Place.faults("the power", false))
		same("power_of_ten", &pt.PowerOfTen.Place)
		if pt.PowerOfTen.Type == TypeString {
			c.fail("power_of_ten.type", "", "a power is a number")
		}
	}
	if pt.UnitCode != nil {
		below("unit_code", pt.UnitCode.Place.faults("the code", false))
		same("unit_code", &pt.UnitCode.Place)
		c.units(q)
	}
	if pt.Counter != nil {
		below("counter", pt.Counter.faults(pt))
	}
	if pt.CountsEvents() && pt.Protocol() == ProtocolMQTT {
		c.noValue()
	}
	if pt.SideEffect && pt.Protocol() == ProtocolMQTT {
		c.fail("side_effect", "leave it away", "a topic is not read, it comes")
	}
	if pt.Deadband < 0 {
		c.fail("deadband", "", "a negative deadband")
	}
	if w := pt.Writable; w != nil {
		c.writable(w)
	}
	if pt.IsText() {
		for _, f := range []struct {
			name string
			set  bool
		}{{"power_of_ten", pt.PowerOfTen != nil}, {"unit_code", pt.UnitCode != nil}, {"counter", pt.Counter != nil}, {"deadband", pt.Deadband != 0}, {"writable", pt.Writable != nil}} {
			if f.set {
				c.fail(f.name, "leave it away, or take kind: number", "%s is for numbers", f.name)
			}
		}
	}
}

func (c *checker) units(q telemetry.Quantities) {
	pt := c.pt
	if len(pt.UnitCode.Units) == 0 {
		c.fail("unit_code.units", `write {"0": mm, "1": cm}`, "must be set")
	}
	target := pt.Unit
	if target == "" {
		c.fail("unit", fmt.Sprintf("write unit: %s", q[pt.Quantity].Unit), "with unit_code the point must say into which unit")
		return
	}
	for _, code := range slices.Sorted(maps.Keys(pt.UnitCode.Units)) {
		if unit := pt.UnitCode.Units[code]; !telemetry.KnownUnit(unit) {
			c.fail("unit_code.units."+code, "", "unknown unit %q", unit)
		} else if _, _, ok := telemetry.ConvertUnit(unit, target); !ok {
			c.fail("unit_code.units."+code, "", "%q does not convert into %q", unit, target)
		}
	}
}

func (c *checker) writable(w *Writable) {
	pt := c.pt
	area, _ := pt.Area()
	switch {
	case area != AreaHolding && area != AreaCoil:
		c.fail("writable", "leave it away", "only coils and holding registers can be written")
	case pt.Type == TypeString || pt.Bit != nil || pt.HasRefs() || pt.Counter != nil || pt.SideEffect:
		c.fail("writable", "leave it away", "this point cannot be written back")
	case area == AreaHolding && (w.Min == nil || w.Max == nil):
		c.fail("writable", "write {min: 0, max: 100}", "needs min and max")
	case w.Min != nil && w.Max != nil && *w.Min > *w.Max:
		c.fail("writable.max", "", "the greatest value is below the least")
	}
}
