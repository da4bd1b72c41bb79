package scan

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The bounds of what is remembered of a broker.
const (
	maxTopics   = 20_000
	maxPayload  = 256 << 10
	maxPerTopic = 8        // payloads that differ in their keys
	maxBytes    = 64 << 20 // of all payloads together
	maxKeys     = 64       // of an object that are tried as a parameter
)

// Heard is what came from a broker so far: of each topic the newest payload, and
// of those topics on which payloads of several forms come one of each form. It
// belongs to one goroutine.
type Heard struct {
	Messages int // in all
	Dropped  int // that there was no room for
	topics   map[string][]string
	bytes    int
}

// Hear takes a message.
func (h *Heard) Hear(topic string, payload []byte) {
	h.Messages++
	if h.topics == nil {
		h.topics = map[string][]string{}
	}
	old, known := h.topics[topic]
	if !known && len(h.topics) == maxTopics || len(payload) > maxPayload || h.bytes+len(payload) > maxBytes {
		h.Dropped++
		return
	}
	text := string(payload)
	form := formOf(text)
	if i := slices.IndexFunc(old, func(o string) bool { return formOf(o) == form }); i >= 0 {
		h.bytes += len(text) - len(old[i])
		old[i] = text
		return
	}
	if len(old) == maxPerTopic {
		h.bytes -= len(old[0])
		old = old[1:]
	}
	h.bytes += len(text)
	h.topics[topic] = append(old, text)
}

// Topics returns how many different ones there were.
func (h *Heard) Topics() int { return len(h.topics) }

// formOf tells payloads of one topic apart by the keys of their first two
// levels.
func formOf(text string) string {
	var doc map[string]any
	if json.Unmarshal([]byte(text), &doc) != nil {
		return ""
	}
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(doc)) {
		keys = append(keys, k)
		if below, ok := doc[k].(map[string]any); ok {
			keys = append(keys, slices.Sorted(maps.Keys(below))...)
		}
		if k == "type" {
			if word, ok := doc[k].(string); ok {
				keys = append(keys, word)
			}
		}
	}
	return strings.Join(keys, "\x00")
}

// MQTT returns the devices that publish what was heard, and of which profiles
// they are.
func MQTT(h *Heard, k Known) []Finding {
	claims := map[string][]Finding{} // by the first topic that gave a value
	for _, p := range k.Profiles {
		if p.Protocol != profile.ProtocolMQTT {
			continue
		}
		for _, with := range h.bindings(p, k.sources[p]) {
			if f, ok := h.try(&k, p, with); ok {
				claims[f.Topic] = append(claims[f.Topic], f)
			}
		}
	}
	var found []Finding
	for _, topic := range slices.Sorted(maps.Keys(claims)) {
		if f, ok := best(claims[topic]); ok {
			found = append(found, f)
		}
	}
	return found
}

// place is a {parameter} in a topic or path.
var place = regexp.MustCompile(`\{([a-z][a-z0-9_]*)\}`)

// source is where points of a profile come from: topics, and a place in their
// payloads that names a parameter.
type source struct {
	filter *regexp.Regexp
	point  profile.Point
}

// sourcesOf returns the sources of a profile, each once: most points of a profile
// stand in one payload.
func sourcesOf(p *profile.Profile) (sources []source) {
	seen := map[string]bool{}
	for _, pt := range pointsOf(p) {
		key := pt.Topic + strings.Join(place.FindAllString(pt.Path, -1), "")
		if !seen[key] {
			seen[key] = true
			sources = append(sources, source{filterOf(pt.Topic, p), pt})
		}
	}
	return sources
}

// bindings returns the parameters with which a profile fits to the topics that
// were heard.
func (h *Heard) bindings(p *profile.Profile, sources []source) []map[string]string {
	var all []map[string]string
	seen := map[string]bool{}
	for i := range sources {
		for topic, payloads := range h.topics {
			with, ok := bind(sources[i].filter, topic)
			if !ok {
				continue
			}
			for _, b := range open(p, &sources[i].point, with, payloads) {
				if key := bindingKey(b); !seen[key] {
					seen[key] = true
					all = append(all, b)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b map[string]string) int { return strings.Compare(bindingKey(a), bindingKey(b)) })
	return all
}

func bindingKey(with map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(with)) {
		b.WriteString(name + "\x00" + with[name] + "\x00")
	}
	return b.String()
}

// pointsOf are the points of all revisions.
func pointsOf(p *profile.Profile) []profile.Point {
	points := slices.Clone(p.Points)
	for i := range p.Firmware {
		points = append(points, p.Firmware[i].Points...)
	}
	return points
}

// filterOf makes an expression of a topic filter. A parameter stands for one
// level, or a part of it; the last of several for more, when its profile's
// example does.
func filterOf(topic string, p *profile.Profile) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	rest := topic
	named := map[string]bool{}
	for rest != "" {
		at := place.FindStringSubmatchIndex(rest)
		if at == nil {
			b.WriteString(levels(rest))
			break
		}
		name := rest[at[2]:at[3]]
		b.WriteString(levels(rest[:at[0]]))
		one := `[^/]+`
		if strings.Contains(p.With[name].Example, "/") {
			one = `.+`
		}
		if named[name] {
			b.WriteString(one) // Go's expressions cannot refer back; bind compares
		} else {
			b.WriteString(`(?P<` + name + `>` + one + `)`)
		}
		named[name] = true
		rest = rest[at[1]:]
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}

// levels quotes a part of a filter, in which + and # keep their meaning.
func levels(s string) string {
	s = regexp.QuoteMeta(s)
	s = strings.ReplaceAll(s, `\+`, `[^/]+`)
	return strings.ReplaceAll(s, `#`, `.*`)
}

func bind(filter *regexp.Regexp, topic string) (map[string]string, bool) {
	m := filter.FindStringSubmatch(topic)
	if m == nil {
		return nil, false
	}
	with := map[string]string{}
	for i, name := range filter.SubexpNames() {
		if name != "" {
			with[name] = m[i]
		}
	}
	return with, true
}

// open adds what only a path names: {camera} in cameras.{camera}.camera_fps is
// each key that stands there. A parameter with a default is tried as that first.
func open(p *profile.Profile, pt *profile.Point, with map[string]string, payloads []string) (all []map[string]string) {
	name := ""
	for _, m := range place.FindAllStringSubmatch(pt.Path, -1) {
		if _, bound := with[m[1]]; !bound && name == "" {
			name = m[1]
		}
	}
	if name == "" || p.With[name].Default != "" {
		all = append(all, with)
	}
	if name == "" || p.With[name].Type != "string" {
		return all
	}
	head, tail, _ := strings.Cut(pt.Path, "{"+name+"}")
	path, err := profile.ParsePath(strings.TrimSuffix(head, "."))
	if err != nil {
		return all
	}
	for _, payload := range payloads {
		var doc any
		if json.Unmarshal([]byte(payload), &doc) != nil {
			continue
		}
		at, _ := path.Lookup(doc)
		object, _ := at.(map[string]any)
		for i, key := range slices.Sorted(maps.Keys(object)) {
			if i == maxKeys {
				break
			}
			if i := strings.IndexAny(key, "-_"); i > 0 && strings.HasPrefix(tail, "*") {
				key = key[:i] // what the profile's star stands for, an address on its bus
			}
			own := maps.Clone(with)
			own[name] = key
			all = append(all, own)
		}
	}
	return all
}

// try judges a profile with parameters by what was heard. It is not ok when
// nothing of it was.
func (h *Heard) try(k *Known, p *profile.Profile, with map[string]string) (f Finding, ok bool) {
	_, _, filled, err := p.Resolve("", with)
	if err != nil {
		return f, false
	}
	f = Finding{Profile: p}
	if p.Identification(filled) != nil {
		if f, ok = verdict(p, filled, h.raw); !ok {
			return f, false
		}
	} else {
		f.Choose = len(p.Firmware) > 1
		f.score = 1
	}
	f.With = given(p, filled)
	revisions := []string{f.Revision}
	if f.Choose {
		revisions = nil
		for i := range p.Firmware {
			revisions = append(revisions, p.Firmware[i].ID)
		}
	}
	top := f
	for i, revision := range revisions {
		own := f
		if h.read(&own, k, revision, with); i == 0 || own.rank() > top.rank() {
			top = own
		}
	}
	// The more of its parameters are the usual ones, the likelier.
	top.score += float64(len(p.With)-len(top.With)) * 0.1
	return top, top.Read > 0 && len(top.Values) > 0
}

// given are the parameters that a device must say: all but defaults.
func given(p *profile.Profile, with map[string]string) map[string]string {
	out := map[string]string{}
	for name, v := range with {
		usual := p.With[name].Default
		for _, m := range place.FindAllStringSubmatch(usual, -1) {
			usual = strings.ReplaceAll(usual, m[0], with[m[1]])
		}
		if v != usual {
			out[name] = v
		}
	}
	return out
}

// read looks for the points of a revision in what was heard.
func (h *Heard) read(f *Finding, k *Known, revision string, with map[string]string) {
	p := f.Profile
	points, _, _, err := p.Resolve(revision, with)
	if err != nil {
		return
	}
	for i := range points {
		pt := &points[i]
		topic, v, doc, there := h.find(pt)
		if !there && pt.CountsEvents() {
			continue // nothing happened while somebody listened
		}
		if !there {
			f.Points++
			continue
		}
		var refs []profile.Raw
		for _, pl := range pt.Refs() {
			refs = append(refs, profile.RawValue(at(pl.Path, doc)))
		}
		var count *profile.Count
		if pt.CountsEvents() {
			count = profile.NewCount(pt)
		}
		value, text, q, ok := profile.MeasureValue(pt, convert(k, p, pt), count, v, refs, 0)
		if !ok && pt.CountsEvents() {
			continue
		}
		f.tally(k, p, pt, value, text, q)
		if f.Topic == "" && q.Reason() != telemetry.ReasonMalformed {
			f.Topic = topic
		}
	}
}

// find returns what was heard of a point: from which topic, the value, and the
// payload that it stands in.
func (h *Heard) find(pt *profile.Point) (topic string, v any, doc any, there bool) {
	path := pt.Path
	if pt.CountsEvents() {
		path = pt.Counter.When[0].Path
	}
	if strings.ContainsAny(pt.Topic, "+#") {
		filter := regexp.MustCompile("^" + levels(pt.Topic) + "$")
		for _, topic := range slices.Sorted(maps.Keys(h.topics)) {
			if filter.MatchString(topic) {
				if v, doc, there = h.value(topic, path); there {
					return topic, v, doc, true
				}
			}
		}
		return "", nil, nil, false
	}
	v, doc, there = h.value(pt.Topic, path)
	return pt.Topic, v, doc, there
}

func (h *Heard) value(topic, path string) (v, doc any, there bool) {
	for _, payload := range slices.Backward(h.topics[topic]) {
		if path == "" {
			return payload, nil, true
		}
		d := json.NewDecoder(strings.NewReader(payload))
		d.UseNumber()
		if d.Decode(&doc) != nil {
			continue
		}
		if v, there = at(path, doc); there && v != nil {
			return v, doc, true
		}
	}
	return nil, nil, false
}

func at(path string, doc any) (any, bool) {
	p, err := profile.ParsePath(path)
	if err != nil {
		return nil, false
	}
	return p.Lookup(doc)
}

// raw is what was heard at the place of a condition.
func (h *Heard) raw(pl *profile.Place) profile.Raw {
	v, _, there := h.value(pl.Topic, pl.Path)
	return profile.RawValue(v, there)
}
