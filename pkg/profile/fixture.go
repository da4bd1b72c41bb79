package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

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
	Camera   map[string]string   `yaml:"camera,text" doc:"what is measured of a camera, by its word"`
	Readings map[string]float64  `yaml:"readings" doc:"values by point, in the canonical unit"`
	Texts    map[string]string   `yaml:"texts,text" doc:"texts by point"`
	Bad      map[string]string   `yaml:"bad" doc:"reasons by point, not_fitted for example"`
	Up       *bool               `yaml:"up" doc:"whether the availability topic says online in the end"`
	Takes    string              `yaml:"takes,text" doc:"revision that the agent must take by itself, or none when the device is not this model"`
	Later    *Later              `yaml:"later" doc:"a second state, for counters; readings are those after it"`
}

// Later is what changes in a device within a time.
type Later struct {
	After    time.Duration       `yaml:"after" doc:"how much later"`
	Coil     map[string][]uint16 `yaml:"coil" doc:"bits that are new"`
	Discrete map[string][]uint16 `yaml:"discrete" doc:"bits that are new"`
	Holding  map[string][]uint16 `yaml:"holding" doc:"registers that are new"`
	Input    map[string][]uint16 `yaml:"input" doc:"registers that are new"`
	Messages []Message           `yaml:"messages" doc:"messages that follow"`
}

// Registers returns the registers and bits of a device in the state that the
// fixture begins with, by address: what a simulated device holds. A bad address is
// left out.
func (f *Fixture) Registers() map[Area]map[int]uint16 {
	return registersOf(f.Coil, f.Discrete, f.Holding, f.Input)
}

// Registers returns those that are new.
func (l *Later) Registers() map[Area]map[int]uint16 {
	return registersOf(l.Coil, l.Discrete, l.Holding, l.Input)
}

func registersOf(coil, discrete, holding, input map[string][]uint16) map[Area]map[int]uint16 {
	out := map[Area]map[int]uint16{}
	for area, runs := range map[Area]map[string][]uint16{AreaCoil: coil, AreaDiscrete: discrete, AreaHolding: holding, AreaInput: input} {
		out[area], _ = spread(runs)
	}
	return out
}

// spread spreads runs of registers over their addresses. bad are the starts that
// are no addresses.
func spread(runs map[string][]uint16) (image map[int]uint16, bad []string) {
	image = map[int]uint16{}
	for _, start := range slices.Sorted(maps.Keys(runs)) {
		addr, err := strconv.ParseUint(start, 0, 16)
		if err != nil || int(addr)+len(runs[start]) > registers {
			bad = append(bad, start)
			continue
		}
		for i, r := range runs[start] {
			image[int(addr)+i] = r
		}
	}
	return image, bad
}

// takesNone is what a fixture says of a device that is not of the model.
const takesNone = "none"

// Message is one MQTT message.
type Message struct {
	Topic   string `yaml:"topic" doc:"the topic it came on"`
	Payload string `yaml:"payload,text" doc:"the payload as text"`
}

type fixtureFile struct {
	Fixtures []Fixture `yaml:"fixtures" doc:"states of the device"`
}

// ParseFixtures reads a file of fixtures. The error is a strictyaml.Errors.
func ParseFixtures(file string, data []byte) ([]Fixture, error) {
	_, fixtures, err := parseFixtures(file, data)
	return fixtures, err
}

func parseFixtures(file string, data []byte) (*strictyaml.Document, []Fixture, error) {
	doc, errs := strictyaml.Parse(file, data)
	if len(errs) > 0 {
		return nil, nil, errs.Err()
	}
	var f fixtureFile
	if errs = doc.Decode(&f); len(errs) > 0 {
		return nil, nil, errs.Err()
	}
	return doc, f.Fixtures, nil
}

// CheckFixtures decodes every fixture of a file through the profile and compares
// all readings, also those that are there and should not be. A point that no
// fixture has is a fault too. The error is a strictyaml.Errors.
func CheckFixtures(p *Profile, file string, data []byte, q telemetry.Quantities) error {
	doc, fixtures, err := parseFixtures(file, data)
	if err != nil {
		return err
	}
	c := fixtureCheck{doc: doc, p: p, q: p.Catalogue(q), seen: map[string]bool{}, took: map[string]bool{}}
	for i := range fixtures {
		c.one(i, &fixtures[i])
	}
	if len(fixtures) == 0 {
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

	took map[string]bool // revisions that some fixture takes
}

// state is what a device says at one time.
type state struct {
	images   map[Area]map[int]uint16
	messages []Message
	camera   map[string]string
	at       int64
	counts   map[string]*Count
	order    Order
}

func (c *fixtureCheck) fail(path []any, msg, hint string) {
	c.errs = append(c.errs, c.doc.Fault(path, msg, hint))
}

func (c *fixtureCheck) one(i int, f *Fixture) {
	at := func(path ...any) []any { return append([]any{"fixtures", i}, path...) }
	if f.Name == "" || f.Source == "" {
		c.fail(at(), "name and source must be set", "")
	}
	st := state{images: map[Area]map[int]uint16{}, messages: f.Messages, camera: f.Camera, counts: map[string]*Count{}, order: c.p.Modbus.Order}
	load := func(coil, discrete, holding, input map[string][]uint16, at func(...any) []any) {
		for _, a := range []struct {
			area Area
			name string
			runs map[string][]uint16
		}{{AreaCoil, "coil", coil}, {AreaDiscrete, "discrete", discrete}, {AreaHolding, "holding", holding}, {AreaInput, "input", input}} {
			if st.images[a.area] == nil {
				st.images[a.area] = map[int]uint16{}
			}
			maps.Copy(st.images[a.area], c.image(a.runs, at(a.name)))
		}
	}
	load(f.Coil, f.Discrete, f.Holding, f.Input, at)
	revision := c.identify(f, &st, at)
	points, rev, with, err := c.p.Resolve(revision, f.With)
	if err != nil {
		c.fail(at(), err.Error(), "")
		return
	}
	got := map[string]outcome{}
	readAll := func() {
		for j := range points {
			pt := &points[j]
			if o, ok := c.read(pt, &st); ok {
				got[pt.ID] = o
				c.seen[rev+" "+pt.ID] = true
			}
		}
	}
	readAll()
	if l := f.Later; l != nil {
		load(l.Coil, l.Discrete, l.Holding, l.Input, func(path ...any) []any { return at(append([]any{"later"}, path...)...) })
		if f.Messages != nil {
			st.messages = l.Messages // a message is not read twice
		}
		st.at += l.After.Milliseconds()
		readAll()
		st.messages = append(slices.Clone(f.Messages), l.Messages...)
	}
	c.compare(f, got, at)
	if up, ok := c.p.ResolveMQTT(with).Availability.last(st.messages); f.Up != nil && (!ok || up != *f.Up) {
		c.fail(at("up"), fmt.Sprintf("the availability topic says %v (said anything: %v)", up, ok), "")
	}
}

// identify returns the revision to read the fixture with: the pinned one, or the
// one that the agent would take.
func (c *fixtureCheck) identify(f *Fixture, st *state, at func(...any) []any) string {
	_, _, with, err := c.p.Resolve(f.Revision, f.With)
	if err != nil {
		return f.Revision // the caller meets it again
	}
	id := c.p.Identification(with)
	if id == nil {
		if f.Takes != "" {
			c.fail(at("takes"), "the profile has no match, so no revision is taken", "")
		}
		return f.Revision
	}
	told := false
	v := id.Judge(func(pl *Place) Raw {
		r := st.raw(pl)
		told = told || !r.Quality.IsBad()
		return r
	})
	took := takesNone
	switch {
	case v.Revision >= 0:
		took = id.Revisions[v.Revision].ID
	case v.Model && !c.p.TellsRevision():
		took = "model"
	}
	if f.Takes != "" && f.Takes != took {
		c.fail(at("takes"), fmt.Sprintf("is %q; read was %s", took, v.Seen), "")
	}
	if f.Takes != "" {
		c.took[f.Takes] = true
	}
	if f.Revision == "" && (told || f.Takes != "") && v.Revision >= 0 {
		return took
	}
	return f.Revision
}

// raw is what stands at a place. What the fixture does not have the device
// refuses.
func (st *state) raw(pl *Place) Raw {
	pt := pl.Point("")
	if pl.Topic != "" {
		r := Raw{Quality: telemetry.BadQuality(telemetry.ReasonMissing)}
		for _, m := range st.messages {
			if TopicFits(pl.Topic, m.Topic) {
				if v, there := payloadAt(pl.Path, m.Payload); there {
					r = RawValue(v, true)
				}
			}
		}
		return r
	}
	area, addr := pt.Area()
	regs := make([]uint16, pt.Width())
	for i := range regs {
		var ok bool
		if regs[i], ok = st.images[area][addr+i]; !ok {
			return Raw{Quality: telemetry.BadQuality(telemetry.ReasonException)}
		}
	}
	n, text, err := Decode(&pt, st.order, regs)
	if err != nil {
		return Raw{Quality: telemetry.BadQuality(telemetry.ReasonMalformed)}
	}
	return Raw{Number: n, Text: text}
}

// image is spread with its faults told.
func (c *fixtureCheck) image(runs map[string][]uint16, at []any) map[int]uint16 {
	image, bad := spread(runs)
	for _, start := range bad {
		c.fail(append(slices.Clone(at), start), "an address is a number from 0 to 65535, the run ends by there too", "")
	}
	return image
}

type outcome struct {
	value float64
	text  string
	q     telemetry.Quality
	ok    bool
}

type linear struct{ factor, offset float64 }

// Of applies the function.
func (l linear) Of(x float64) float64 { return x*l.factor + l.offset }

// read gives the outcome of a point, or not ok when the fixture has nothing for it.
func (c *fixtureCheck) read(pt *Point, st *state) (o outcome, ok bool) {
	var conv linear
	conv.factor, conv.offset, _ = pt.Conversion(c.q)
	if pt.Counter != nil && st.counts[pt.ID] == nil {
		st.counts[pt.ID] = NewCount(pt)
	}
	count := st.counts[pt.ID]
	area, addr := pt.Area()
	if pt.Protocol() == ProtocolCamera {
		v, ok := st.camera[pt.Camera]
		if !ok {
			return o, false
		}
		o.value, o.text, o.q = Value(pt, conv, v)
		o.ok = true
		return o, true
	}
	if area == AreaNone {
		for _, m := range st.messages {
			if !TopicFits(pt.Topic, m.Topic) {
				continue
			}
			if pt.CountsEvents() { // it gives its total as soon as the device is there
				_, _ = fromPayload(pt, conv, count, m.Payload, st.at)
				o.value, o.q = EventTotal(pt, conv, count)
				ok = true
				continue
			}
			if got, there := fromPayload(pt, conv, count, m.Payload, st.at); there || !c.p.MQTT.Partial {
				o, ok = got, got.ok
			}
		}
		return o, ok
	}
	regs := make([]uint16, pt.Width())
	for i := range regs {
		if regs[i], ok = st.images[area][addr+i]; !ok {
			return o, false
		}
	}
	var refs []Raw
	for _, pl := range pt.Refs() {
		refs = append(refs, st.raw(pl))
	}
	raw, text, err := Decode(pt, c.p.Modbus.Order, regs)
	switch {
	case err != nil:
		return outcome{q: telemetry.BadQuality(telemetry.ReasonMalformed)}, true
	case pt.IsText():
		return outcome{text: text}, true
	}
	o.value, o.q, ok = Measure(pt, conv, count, raw, refs, st.at)
	return o, ok
}

// payloadAt finds what stands at a path of a payload.
func payloadAt(path, payload string) (v any, there bool) {
	if path == "" {
		return payload, true
	}
	p, err := ParsePath(path)
	if err != nil {
		return nil, false
	}
	doc, err := rootOf(&p, payload)
	if err != nil {
		return nil, false
	}
	return p.Lookup(doc)
}

// parses reports whether a payload is of the form that a path asks for.
func parses(path, payload string) bool {
	p, err := ParsePath(path)
	if path == "" || err != nil {
		return true
	}
	_, err = rootOf(&p, payload)
	return err == nil
}

// rootOf is what a path is looked up in.
func rootOf(p *Path, payload string) (any, error) {
	var doc any
	d := json.NewDecoder(strings.NewReader(payload))
	d.UseNumber()
	err := d.Decode(&doc)
	if err == nil && !json.Valid([]byte(payload)) {
		err = errors.New("something follows the JSON value")
	}
	if columns, ok := Columns(p, []byte(payload), doc, err); ok {
		return columns, nil
	}
	return doc, err
}

// fromPayload is what a driver does with one message. It is not there when the
// payload parsed and the point's field is not in it.
func fromPayload(pt *Point, conv linear, count *Count, payload string, at int64) (o outcome, there bool) {
	o.ok = true
	if !parses(pt.Path, payload) {
		o.q = telemetry.BadQuality(telemetry.ReasonMalformed)
		return o, true
	}
	v, there := payloadAt(pt.Path, payload)
	var refs []Raw
	for _, pl := range pt.Refs() {
		refs = append(refs, RawValue(payloadAt(pl.Path, payload)))
	}
	o.value, o.text, o.q, o.ok = MeasureValue(pt, conv, count, v, refs, at)
	return o, there
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
		if !TopicFits(a.Topic, m.Topic) {
			continue
		}
		if o, _ := fromPayload(&Point{Kind: KindText, Path: a.Path}, linear{}, nil, m.Payload, 0); !o.q.IsBad() {
			online, known = a.Word(o.text)
		} else if word := strings.Trim(m.Payload, `" `); word != "" && !strings.HasPrefix(word, "{") {
			online, known = a.Word(word) // older gateways send the bare word
		}
	}
	return online, known
}

// TopicFits reports whether a topic matches a filter.
func TopicFits(filter, topic string) bool {
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
			c.fail(at("bad", id), fmt.Sprintf("comes out as %s, %v %q, not as bad: %s", o.q, o.value, o.text, reason), "")
		case isBad:
		case o.q.IsBad():
			c.fail(at(), fmt.Sprintf("%s is %s", id, o.q), "expect it under bad")
		case isText && o.text != text:
			c.fail(at("texts", id), fmt.Sprintf("comes out as %q, not %q", o.text, text), "")
		case number && math.Abs(o.value-want) > 1e-9*math.Max(1, math.Abs(want)):
			c.fail(at("readings", id), fmt.Sprintf("comes out as %v, not %v", o.value, want), "")
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
	if len(c.p.Match) > 0 && !c.p.TellsRevision() && !c.took["model"] {
		c.fail([]any{"fixtures"}, "none is taken for the model by itself", "write takes: model")
	}
	for i := range c.p.Firmware {
		rev := &c.p.Firmware[i]
		if told := len(rev.Match) > 0 || rev.Range != "" && slices.ContainsFunc(c.p.Match, func(m Match) bool { return m.Version != "" }); told && !c.took[rev.ID] {
			c.fail([]any{"fixtures"}, "none takes the revision "+rev.ID+" by itself", "write takes: "+rev.ID)
		}
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
