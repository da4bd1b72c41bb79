package profile

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Fixture is one captured or documented state of a device, and the readings it
// must give: VENDOR/MODEL.fixtures.yaml beside the profile holds a list of them.
type Fixture struct {
	Name     string              `yaml:"name" doc:"what is shown"`
	Source   string              `yaml:"source" doc:"where the raw values come from"`
	Revision string              `yaml:"revision,text" doc:"revision of the profile; its first one when not said"`
	With     map[string]string   `yaml:"with,text" doc:"parameters"`
	Coil     map[string][]uint16 `yaml:"coil" doc:"bits from an address on: {16: [1, 0]}"`
	Discrete map[string][]uint16 `yaml:"discrete" doc:"bits from an address on"`
	Holding  map[string][]uint16 `yaml:"holding" doc:"registers from an address on: {500: [0x0017, 2]}"`
	Input    map[string][]uint16 `yaml:"input" doc:"registers from an address on"`
	Messages []Message           `yaml:"messages" doc:"MQTT messages in their order"`
	Readings map[string]float64  `yaml:"readings" doc:"values by point, in the canonical unit"`
	Texts    map[string]string   `yaml:"texts,text" doc:"texts by point"`
	Bad      map[string]string   `yaml:"bad" doc:"reasons by point, not_fitted for example"`
	Up       *bool               `yaml:"up" doc:"whether the availability topic says online in the end"`
}

// Message is one MQTT message.
type Message struct {
	Topic   string `yaml:"topic" doc:"the topic it came on"`
	Payload string `yaml:"payload,text" doc:"the payload as text"`
}

type fixtureFile struct {
	Fixtures []Fixture `yaml:"fixtures" doc:"states of the device"`
}

// CheckFixtures decodes every fixture of a file through the profile and compares
// all readings, also those that are there and should not be. A point that no
// fixture has is a fault too. The error is a strictyaml.Errors.
func CheckFixtures(p *Profile, file string, data []byte, q telemetry.Quantities) error {
	doc, errs := strictyaml.Parse(file, data)
	if len(errs) > 0 {
		return errs.Err()
	}
	var f fixtureFile
	if errs = doc.Decode(&f); len(errs) > 0 {
		return errs.Err()
	}
	c := fixtureCheck{doc: doc, p: p, q: q, seen: map[string]bool{}}
	for i := range f.Fixtures {
		c.one(i, &f.Fixtures[i])
	}
	if len(f.Fixtures) == 0 {
		c.fail([]any{"fixtures"}, "must hold at least one", "")
	}
	c.coverage()
	return c.errs.Err()
}

type fixtureCheck struct {
	doc  *strictyaml.Document
	p    *Profile
	q    telemetry.Quantities
	errs strictyaml.Errors
	seen map[string]bool // "revision point" that some fixture has
}

func (c *fixtureCheck) fail(path []any, msg, hint string) {
	c.errs = append(c.errs, c.doc.Fault(path, msg, hint))
}

func (c *fixtureCheck) one(i int, f *Fixture) {
	at := func(path ...any) []any { return append([]any{"fixtures", i}, path...) }
	if f.Name == "" || f.Source == "" {
		c.fail(at(), "name and source must be set", "")
	}
	points, rev, with, err := c.p.Resolve(f.Revision, f.With)
	if err != nil {
		c.fail(at(), err.Error(), "")
		return
	}
	images := map[Area]map[int]uint16{}
	for _, a := range []struct {
		area Area
		name string
		runs map[string][]uint16
	}{{AreaCoil, "coil", f.Coil}, {AreaDiscrete, "discrete", f.Discrete}, {AreaHolding, "holding", f.Holding}, {AreaInput, "input", f.Input}} {
		images[a.area] = c.image(a.runs, at(a.name))
	}
	got := map[string]outcome{}
	for j := range points {
		pt := &points[j]
		if o, ok := c.read(pt, images, f.Messages); ok {
			got[pt.ID] = o
			c.seen[rev+" "+pt.ID] = true
		}
	}
	c.compare(f, got, at)
	if up, ok := c.p.ResolveMQTT(with).Availability.last(f.Messages); f.Up != nil && (!ok || up != *f.Up) {
		c.fail(at("up"), fmt.Sprintf("the availability topic says %v (said anything: %v)", up, ok), "")
	}
}

// image spreads runs of registers over their addresses.
func (c *fixtureCheck) image(runs map[string][]uint16, at []any) map[int]uint16 {
	image := map[int]uint16{}
	for _, start := range slices.Sorted(maps.Keys(runs)) {
		addr, err := strconv.ParseUint(start, 0, 16)
		if err != nil {
			c.fail(append(slices.Clone(at), start), "an address is a number from 0 to 65535", "")
			continue
		}
		for i, r := range runs[start] {
			image[int(addr)+i] = r
		}
	}
	return image
}

type outcome struct {
	value float64
	text  string
	q     telemetry.Quality
}

type linear struct{ factor, offset float64 }

// Of applies the function.
func (l linear) Of(x float64) float64 { return x*l.factor + l.offset }

// read gives the outcome of a point, or not ok when the fixture has nothing for it.
func (c *fixtureCheck) read(pt *Point, images map[Area]map[int]uint16, messages []Message) (o outcome, ok bool) {
	var conv linear
	conv.factor, conv.offset, _ = pt.Conversion(c.q)
	area, addr := pt.Area()
	if area == AreaNone {
		for _, m := range messages {
			if !topicFits(pt.Topic, m.Topic) {
				continue
			}
			value, text, q, there := fromPayload(pt, conv, m.Payload)
			if !there && c.p.MQTT.Partial {
				continue // a field that did not change
			}
			o, ok = outcome{value, text, q}, true
		}
		return o, ok
	}
	regs := make([]uint16, pt.Width())
	for i := range regs {
		if regs[i], ok = images[area][addr+i]; !ok {
			return o, false
		}
	}
	raw, text, err := Decode(pt, c.p.Modbus.Order, regs)
	switch {
	case err != nil:
		o.q = telemetry.BadQuality(telemetry.ReasonMalformed)
	case pt.IsText():
		o.text = text
	default:
		o.value, o.q = Number(pt, conv, raw)
	}
	return o, true
}

// fromPayload is what a driver does with one message. It is not there when the
// payload parsed and the point's field is not in it.
func fromPayload(pt *Point, conv linear, payload string) (value float64, text string, q telemetry.Quality, there bool) {
	if pt.Path == "" {
		value, text, q = Value(pt, conv, payload)
		return value, text, q, true
	}
	path, err := ParsePath(pt.Path)
	if err != nil {
		return 0, "", telemetry.BadQuality(telemetry.ReasonConfiguration), true
	}
	var doc any
	d := json.NewDecoder(strings.NewReader(payload))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		return 0, "", telemetry.BadQuality(telemetry.ReasonMalformed), true
	}
	v, there := path.Lookup(doc)
	value, text, q = Value(pt, conv, v)
	return value, text, q, there
}

// Word tells what an availability payload says: online, offline, or neither.
// text is the payload, or what Path found in it.
func (a *Availability) Word(text string) (online, known bool) {
	text = strings.TrimSpace(text)
	if slices.Contains(a.Online, text) {
		return true, true
	}
	return false, slices.Contains(a.Offline, text)
}

// last returns what the last message on the topic says.
func (a *Availability) last(messages []Message) (online, known bool) {
	if a == nil {
		return false, false
	}
	for _, m := range messages {
		if !topicFits(a.Topic, m.Topic) {
			continue
		}
		_, text, q, _ := fromPayload(&Point{Kind: KindText, Path: a.Path}, linear{}, m.Payload)
		if !q.IsBad() {
			online, known = a.Word(text)
		}
	}
	return online, known
}

// topicFits reports whether a topic matches a filter.
func topicFits(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(t) || level != "+" && level != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

func (c *fixtureCheck) compare(f *Fixture, got map[string]outcome, at func(...any) []any) {
	for _, id := range slices.Sorted(maps.Keys(got)) {
		o := got[id]
		want, number := f.Readings[id]
		text, isText := f.Texts[id]
		reason, isBad := f.Bad[id]
		switch {
		case isBad && (!o.q.IsBad() || o.q.Reason().String() != reason):
			c.fail(at("bad", id), fmt.Sprintf("is %s, value %v %q", o.q, o.value, o.text), "")
		case isBad:
		case o.q.IsBad():
			c.fail(at(), fmt.Sprintf("%s is %s", id, o.q), "expect it under bad")
		case isText && o.text != text:
			c.fail(at("texts", id), fmt.Sprintf("is %q", o.text), "")
		case number && math.Abs(o.value-want) > 1e-9*math.Max(1, math.Abs(want)):
			c.fail(at("readings", id), fmt.Sprintf("is %v", o.value), "")
		case !isText && !number:
			c.fail(at(), fmt.Sprintf("%s is %v %q", id, o.value, o.text), "expect it under readings or texts")
		}
	}
	for _, part := range []struct {
		name string
		ids  []string
	}{
		{"readings", slices.Sorted(maps.Keys(f.Readings))},
		{"texts", slices.Sorted(maps.Keys(f.Texts))},
		{"bad", slices.Sorted(maps.Keys(f.Bad))},
	} {
		for _, id := range part.ids {
			if _, ok := got[id]; !ok {
				c.fail(at(part.name, id), "is not given", strictyaml.Meant(id, slices.Sorted(maps.Keys(got))))
			}
		}
	}
}

// coverage asks that each point is in a fixture: those of a revision under that
// revision, the shared ones under any.
func (c *fixtureCheck) coverage() {
	inAny := map[string]bool{}
	for both := range c.seen {
		_, id, _ := strings.Cut(both, " ")
		inAny[id] = true
	}
	for i := range c.p.Firmware {
		rev := &c.p.Firmware[i]
		for j := range rev.Points {
			if id := rev.Points[j].ID; !c.seen[rev.ID+" "+id] {
				c.fail([]any{"fixtures"}, fmt.Sprintf("none has the point %s of revision %s", id, rev.ID), "")
			}
		}
	}
	for i := range c.p.Points {
		if id := c.p.Points[i].ID; !inAny[id] {
			c.fail([]any{"fixtures"}, fmt.Sprintf("none has the point %s", id), "")
		}
	}
}
