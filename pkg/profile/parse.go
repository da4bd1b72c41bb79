package profile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

var (
	categories = []string{"air", "weather", "rain", "water_level", "soil", "slope", "noise", "light", "traffic", "camera", "power", "gateway", "io", "device"}
	testedBy   = []string{"document", "capture", "device"}
	parities   = []string{"none", "even", "odd"}
	timeForms  = []string{"rfc3339", "unix", "unix_ms"}
	versionEnd = regexp.MustCompile(`^(>=|<=|>|<|=)[0-9]+(\.[0-9]+)*$`)
	paramName  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

const (
	maxPoints    = 1000
	maxRevisions = 100
)

// ParseProfile reads one profile. file is the name that errors give. The error
// is a strictyaml.Errors with all faults.
func ParseProfile(id, file string, data []byte, q telemetry.Quantities) (*Profile, error) {
	doc, errs := strictyaml.Parse(file, data)
	if len(errs) > 0 {
		return nil, errs.Err()
	}
	p := &Profile{ID: id}
	r := &reader{doc: doc, p: p, q: q, said: map[string]bool{}}
	r.errs = doc.Decode(p)
	for _, e := range r.errs {
		r.said[e.Path] = true
	}
	r.quantities()
	r.identity()
	r.line()
	r.broker()
	r.camera()
	r.params()
	r.points()
	r.revisions()
	if err := r.errs.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// reader checks a decoded profile and gathers the faults.
type reader struct {
	doc  *strictyaml.Document
	p    *Profile
	q    telemetry.Quantities
	errs strictyaml.Errors
	said map[string]bool // paths that the decoder has complained about
}

func (r *reader) fail(path []any, msg, hint string) {
	if f := r.doc.Fault(path, msg, hint); !r.said[f.Path] {
		r.errs = append(r.errs, f)
	}
}

func (r *reader) among(path []any, what, word string, known []string) {
	if !slices.Contains(known, word) {
		r.fail(path, fmt.Sprintf("unknown %s %q", what, word), strictyaml.Meant(word, known))
	}
}

func (r *reader) need(word string, path ...any) {
	if word == "" {
		r.fail(path, "must be set", "")
	}
}

func (r *reader) text(t telemetry.Text, path ...any) {
	if t.VI == "" || t.EN == "" {
		r.fail(path, "must be set in vi and en", `write {vi: "...", en: "..."}`)
	}
}

func (r *reader) identity() {
	p := r.p
	r.need(p.Vendor, "vendor")
	r.need(p.Model, "model")
	r.text(p.Title, "title")
	if p.Category == "" {
		r.need("", "category")
	} else {
		r.among([]any{"category"}, "category", p.Category, categories)
	}
	if p.Tested == "" {
		r.fail([]any{"tested"}, "must be set", "write document, capture or device: what it was checked against")
	} else {
		r.among([]any{"tested"}, "kind of test", p.Tested, testedBy)
	}
	if len(p.Links) == 0 {
		r.fail([]any{"links"}, "must name at least one document that the profile comes from", "")
	}
	for i, c := range p.Caveats {
		r.text(c.Text, "caveats", i, "text")
		r.need(c.Source, "caveats", i, "source")
	}
	if p.Protocol == "" {
		r.fail([]any{"protocol"}, "must be set", "write modbus, mqtt or camera")
	} else {
		r.among([]any{"protocol"}, "protocol", p.Protocol, []string{ProtocolModbus, ProtocolMQTT, ProtocolCamera})
	}
}

// line checks the Modbus defaults.
func (r *reader) line() {
	if r.doc.Has("modbus") && r.p.Protocol != ProtocolModbus && r.p.Protocol != "" {
		r.fail([]any{"modbus"}, "a profile of "+r.p.Protocol+" has no modbus settings", "leave it away")
		return
	}
	m := r.p.Modbus
	within := func(name string, v, low, high int) {
		if v != 0 && (v < low || v > high) {
			r.fail([]any{"modbus", name}, fmt.Sprintf("%d is outside %d to %d", v, low, high), "")
		}
	}
	within("unit", m.Unit, 1, 255)
	within("baud", m.Baud, 300, 4_000_000)
	within("stop_bits", m.StopBits, 1, 2)
	within("max_registers", m.MaxRegisters, 1, 125)
	within("max_bits", m.MaxBits, 1, 2000)
	if m.MaxHole != nil && (*m.MaxHole < 0 || *m.MaxHole > 124) {
		r.fail([]any{"modbus", "max_hole"}, fmt.Sprintf("%d is outside 0 to 124", *m.MaxHole), "")
	}
	if m.Parity != "" {
		r.among([]any{"modbus", "parity"}, "parity", m.Parity, parities)
	}
	if m.Order != "" {
		r.among([]any{"modbus", "order"}, "order", string(m.Order), orders)
	}
	if m.Pause < 0 {
		r.fail([]any{"modbus", "pause"}, "a negative pause", "")
	}
	if m.WarmUp < 0 {
		r.fail([]any{"modbus", "warm_up"}, "a negative time", "")
	}
}

// camera checks where the camera is.
func (r *reader) camera() {
	if r.p.Protocol != ProtocolCamera {
		if r.doc.Has("camera") && r.p.Protocol != "" {
			r.fail([]any{"camera"}, "a profile of "+r.p.Protocol+" has no camera settings", "leave it away")
		}
		return
	}
	if r.p.Camera == (CameraDefaults{}) {
		r.fail([]any{"camera"}, "says nowhere to find the camera", "write camera: {rtsp: rtsp://{host}/stream1} and host: below with:")
	}
	for i := range r.p.Points {
		pt := &r.p.Points[i]
		if pt.Camera != "" && (pt.OfStream() && r.p.Camera.RTSP == "" || !pt.OfStream() && r.p.Camera.Snapshot == "") {
			r.fail([]any{"points", i, "camera"}, pt.Camera+" needs an address that camera: does not give", "")
		}
	}
}

// broker checks the MQTT defaults.
func (r *reader) broker() {
	if r.doc.Has("mqtt") && r.p.Protocol != ProtocolMQTT && r.p.Protocol != "" {
		r.fail([]any{"mqtt"}, "a profile of "+r.p.Protocol+" has no mqtt settings", "leave it away")
		return
	}
	m := r.p.MQTT
	if m.ExpectEvery < 0 {
		r.fail([]any{"mqtt", "expect_every"}, "a negative time", "")
	}
	if a := m.Availability; a != nil {
		at := []any{"mqtt", "availability"}
		r.need(a.Topic, append(at, "topic")...)
		if msg := checkFilter(a.Topic); msg != "" {
			r.fail(append(at, "topic"), msg, "")
		}
		r.path(a.Path, append(at, "path"))
		if len(a.Online) == 0 {
			r.fail(append(at, "online"), "must name the words that mean online", "")
		}
		for i, w := range a.Offline {
			if slices.Contains(a.Online, w) {
				r.fail(append(at, "offline", i), fmt.Sprintf("%q cannot mean both", w), "")
			}
		}
	}
	if t := m.Time; t != nil {
		r.need(t.Path, "mqtt", "time", "path")
		r.path(t.Path, []any{"mqtt", "time", "path"})
		r.among([]any{"mqtt", "time", "format"}, "format", t.Format, timeForms)
		if t.MaxLag <= 0 {
			r.fail([]any{"mqtt", "time", "max_lag"}, "must be set: how far behind arrival the device's time may be", "for example 30s")
		}
	}
}

// path checks a path with {places} in it.
func (r *reader) path(s string, at []any) {
	if _, err := ParsePath(fill(s, dummies(s), escapePath)); err != nil {
		r.fail(at, err.Error(), "")
	}
}

func dummies(s string) map[string]string {
	m := map[string]string{}
	for _, name := range places(s) {
		m[name] = "x"
	}
	return m
}

func (r *reader) params() {
	used := map[string]bool{}
	use := func(s string, at ...any) {
		for _, name := range places(s) {
			used[name] = true
			if _, ok := r.p.With[name]; !ok {
				r.fail(at, fmt.Sprintf("{%s} is no parameter", name), strictyaml.Meant(name, slices.Sorted(maps.Keys(r.p.With))))
			}
		}
	}
	conditions := func(ms []Match, at ...any) {
		for i := range ms {
			use(ms[i].Topic, append(slices.Clone(at), i, "topic")...)
			use(ms[i].Path, append(slices.Clone(at), i, "path")...)
			for j, s := range ms[i].Text {
				use(s, append(slices.Clone(at), i, "text", j)...)
			}
		}
	}
	walk := func(points []Point, at ...any) {
		for i := range points {
			use(points[i].Topic, append(slices.Clone(at), i, "topic")...)
			use(points[i].Path, append(slices.Clone(at), i, "path")...)
			if k := points[i].Counter; points[i].CountsEvents() {
				conditions(k.When, append(slices.Clone(at), i, "counter", "when")...)
				continue
			}
			for _, ref := range points[i].Refs() {
				use(ref.Path, append(slices.Clone(at), i)...)
			}
			if m := points[i].ValidWhen; m != nil {
				for j, s := range m.Text {
					use(s, append(slices.Clone(at), i, "valid_when", "text", j)...)
				}
			}
		}
	}
	walk(r.p.Points, "points")
	for i := range r.p.Firmware {
		walk(r.p.Firmware[i].Points, "firmware", i, "points")
	}
	conditions(r.p.Match, "match")
	for i := range r.p.Firmware {
		conditions(r.p.Firmware[i].Match, "firmware", i, "match")
	}
	if a := r.p.MQTT.Availability; a != nil {
		use(a.Topic, "mqtt", "availability", "topic")
		use(a.Path, "mqtt", "availability", "path")
	}
	if t := r.p.MQTT.Time; t != nil {
		use(t.Path, "mqtt", "time", "path")
	}
	use(r.p.Camera.RTSP, "camera", "rtsp")
	use(r.p.Camera.Snapshot, "camera", "snapshot")
	for _, name := range slices.Sorted(maps.Keys(r.p.With)) {
		use(r.p.With[name].Default, "with", name, "default")
	}
	for _, name := range slices.Sorted(maps.Keys(r.p.With)) {
		r.param(name, used[name])
	}
}

func (r *reader) param(name string, used bool) {
	param := r.p.With[name]
	at := func(field string) []any { return []any{"with", name, field} }
	if !paramName.MatchString(name) {
		r.fail([]any{"with", name}, fmt.Sprintf("bad name %q", name), "use a-z, 0-9 and _, beginning with a letter")
	}
	if !used {
		r.fail([]any{"with", name}, "stands in no topic, path, text or address", "write {"+name+"} where it belongs")
	}
	if param.Type == "" {
		param.Type = paramString
		r.p.With[name] = param
	}
	r.among(at("type"), "type", param.Type, paramTypes)
	r.text(param.Title, "with", name, "title")
	if param.Min != nil && param.Max != nil && *param.Min > *param.Max {
		r.fail(at("max"), "the greatest value is below the least", "")
	}
	if (param.Min != nil || param.Max != nil) && param.Type != paramInt && param.Type != paramFloat {
		r.fail([]any{"with", name}, "min and max are for int and float", "")
	}
	for _, f := range [][2]string{{"default", param.Default}, {"example", param.Example}} {
		if f[1] == "" {
			continue
		}
		if others := places(f[1]); f[0] == "default" && len(others) > 0 {
			for _, o := range others {
				if len(places(r.p.With[o].Default)) > 0 {
					r.fail(at("default"), fmt.Sprintf("{%s} is filled from another parameter itself", o), "")
				}
			}
			continue
		}
		if msg, hint := param.check(f[1]); msg != "" {
			r.fail(at(f[0]), msg, hint)
		}
	}
}

func (r *reader) points() {
	if len(r.p.Points) == 0 && len(r.p.Firmware) == 0 {
		r.fail([]any{"points"}, "measures nothing", "add at least one point")
	}
	r.pointList(r.p.Points, "points")
}

func (r *reader) pointList(points []Point, at ...any) {
	if len(points) > maxPoints {
		r.fail(at, fmt.Sprintf("%d points; at most %d", len(points), maxPoints), "")
		return
	}
	first := map[string]int{}
	for i := range points {
		pt := &points[i]
		here := append(slices.Clone(at), i)
		for _, e := range CheckPoint(pt, r.q) {
			if e.Field == "" && r.badPlace(here) {
				continue
			}
			r.fail(append(slices.Clone(here), fieldPath(e.Field)...), e.Msg, e.Hint)
		}
		if strings.Contains(pt.Path, "{") {
			r.path(pt.Path, append(slices.Clone(here), "path"))
		}
		if p := pt.Protocol(); p != "" && r.p.Protocol != "" && p != r.p.Protocol {
			r.fail(here, fmt.Sprintf("a point of %s in a profile of %s", p, r.p.Protocol), "")
		}
		if pt.ID == "" {
			continue
		}
		if was, dup := first[pt.ID]; dup {
			r.fail(append(slices.Clone(here), "id"), fmt.Sprintf("%q is the id of point %d already", pt.ID, was+1), "")
		}
		first[pt.ID] = i
	}
	r.overlaps(points, at)
}

// overlaps finds points that share a part of their registers: one of the two has
// a wrong address or width. That several read the same registers is usual.
func (r *reader) overlaps(points []Point, at []any) {
	for i := range points {
		a, x := points[i].Area()
		if a == AreaNone || points[i].Bit != nil {
			continue
		}
		for j := range points[:i] {
			b, y := points[j].Area()
			if a != b || x == y || points[j].Bit != nil || x >= y+points[j].Width() || y >= x+points[i].Width() {
				continue
			}
			r.fail(append(slices.Clone(at), i, a.String()), fmt.Sprintf("registers %d to %d are a part of those of the point %q, %d to %d",
				x, x+points[i].Width()-1, points[j].ID, y, y+points[j].Width()-1), "one of the two has a wrong address or type")
			break
		}
	}
}

// badPlace reports whether the decoder has complained about the place that a
// point is read from, which then looks as if it had none.
func (r *reader) badPlace(point []any) bool {
	for _, key := range []string{"coil", "discrete", "holding", "input", "topic"} {
		if r.said[strictyaml.PathString(append(slices.Clone(point), key)...)] {
			return true
		}
	}
	return false
}

// fieldPath turns "valid.max" and "sentinels[0]" into path elements.
func fieldPath(field string) []any {
	if field == "" {
		return nil
	}
	var path []any
	for _, part := range strings.Split(field, ".") {
		name, index, ok := strings.Cut(part, "[")
		path = append(path, name)
		if n, err := strconv.Atoi(strings.TrimSuffix(index, "]")); ok && err == nil {
			path = append(path, n)
		}
	}
	return path
}
