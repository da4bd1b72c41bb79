package sim

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/profile"
)

// Message is what a simulated device publishes.
type Message struct {
	Topic   string
	Payload []byte
	Retain  bool
}

// payload is the form of a message.
type payload struct {
	topic string
	doc   any    // JSON; nil: text is all there is
	text  string // no JSON: a word, a number, or columns
	moves []moving
}

// moving is a value in a payload.
type moving struct {
	move
	path profile.Path
}

// messages makes the messages of an MQTT device: those of the fixture it begins
// with, and made-up ones for points that are in none.
func (m *Model) messages(states []State) {
	covered := map[int]bool{}
	for _, s := range states {
		fresh := len(covered) == 0
		for _, msg := range s.Messages {
			for p, topic := range m.topicsOf(&s, msg.Topic) {
				if p >= 0 && covered[p] && !fresh || slices.ContainsFunc(m.payloads, func(x *payload) bool { return x.topic == topic }) {
					continue
				}
				m.payloads = append(m.payloads, &payload{topic: topic, text: translate(msg.Payload, s.With, m.dev.With)})
			}
		}
		for p := range m.points {
			covered[p] = covered[p] || m.payloadOf(p) != nil
		}
	}
	for _, x := range m.payloads {
		d := json.NewDecoder(strings.NewReader(x.text))
		d.UseNumber()
		if d.Decode(&x.doc) != nil || !json.Valid([]byte(x.text)) {
			x.doc = nil
		}
	}
	for p := range m.points {
		switch {
		case m.points[p].CountsEvents():
			m.event(p)
		case m.points[p].Topic != "":
			m.place(p)
		}
	}
}

// event adds a message that a point counts: that of the fixture, changed until all
// conditions of the point hold.
func (m *Model) event(p int) {
	pt := &m.points[p]
	x := &payload{topic: fillTopic(pt.Topic, "", "")}
	if like := m.payloadOf(p); like != nil {
		x.topic = like.topic
		text := like.message(false).Payload
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if like.doc == nil || d.Decode(&x.doc) != nil {
			x.doc = nil
		}
	}
	for i := range pt.Counter.When {
		c := &pt.Counter.When[i]
		path, err := profile.ParsePath(c.Path)
		if err != nil {
			return
		}
		v, there := x.lookup(&path)
		if there && c.Fits(profile.RawValue(v, there)) {
			continue
		}
		_, list := v.([]any)
		switch {
		case len(c.Text) > 0 && list:
			x.put(&path, []any{strings.ReplaceAll(c.Text[0], "*", "")})
		case len(c.Text) > 0:
			x.put(&path, strings.ReplaceAll(c.Text[0], "*", "simulated"))
		case len(c.Equals) > 0:
			x.put(&path, json.Number(shown(c.Equals[0])))
		case c.Min != nil:
			x.put(&path, json.Number(shown(*c.Min)))
		case c.Max != nil:
			x.put(&path, json.Number(shown(*c.Max)))
		}
	}
	m.payloads = append(m.payloads, x)
}

// topicsOf returns where the device publishes what the fixture has on a topic: by
// point, or below 0 by what tells its revision.
func (m *Model) topicsOf(s *State, topic string) map[int]string {
	out := map[int]string{}
	for i := range s.Points {
		p := slices.IndexFunc(m.points, func(pt profile.Point) bool { return pt.ID == s.Points[i].ID })
		if p >= 0 && s.Points[i].Topic != "" && m.points[p].Topic != "" && profile.TopicFits(s.Points[i].Topic, topic) {
			out[p] = fillTopic(m.points[p].Topic, s.Points[i].Topic, topic)
		}
	}
	if m.dev.Identify != nil && s.Identify != nil {
		theirs, ours := s.Identify.Places(), m.dev.Identify.Places()
		for i, pl := range theirs {
			if i < len(ours) && pl.Topic != "" && profile.TopicFits(pl.Topic, topic) {
				out[-1-i] = fillTopic(ours[i].Topic, pl.Topic, topic)
			}
		}
	}
	return out
}

// fillTopic gives the wildcards of a filter the levels that those of another one
// have in its topic.
func fillTopic(filter, other, topic string) string {
	var found []string
	levels := strings.Split(topic, "/")
	for i, l := range strings.Split(other, "/") {
		switch {
		case l == "+" && i < len(levels):
			found = append(found, levels[i])
		case l == "#" && i < len(levels):
			found = append(found, strings.Join(levels[i:], "/"))
		}
	}
	out := strings.Split(filter, "/")
	for i, l := range out {
		if l != "+" && l != "#" {
			continue
		}
		out[i] = "simulated"
		if len(found) > 0 {
			out[i], found = found[0], found[1:]
		}
	}
	return strings.Join(out, "/")
}

// translate puts the device's parameters in the place of the fixture's, where they
// stand as words of their own.
func translate(text string, from, to map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if a, b := from[name], to[name]; a != "" && b != "" && a != b {
			text = strings.ReplaceAll(text, strconv.Quote(a), strconv.Quote(b))
		}
	}
	return text
}

// payloadOf finds the payload that a point is read from.
func (m *Model) payloadOf(p int) *payload {
	for _, x := range m.payloads {
		if m.points[p].Topic != "" && profile.TopicFits(m.points[p].Topic, x.topic) {
			return x
		}
	}
	return nil
}

// place finds a point in its payload, or puts it there, and lets it move.
func (m *Model) place(p int) {
	pt := &m.points[p]
	path, err := profile.ParsePath(pt.Path)
	if err != nil {
		return
	}
	x := m.payloadOf(p)
	if x == nil {
		x = &payload{topic: fillTopic(pt.Topic, "", "")}
		m.payloads = append(m.payloads, x)
	}
	v, there := x.lookup(&path)
	if _, bad := m.bad[pt.ID]; bad {
		return
	}
	if !there && (x.text == "" || x.doc != nil) {
		v = m.invent(p)
		x.put(&path, v)
	}
	text, isNumber := v.(json.Number)
	if s, ok := v.(string); ok {
		text, isNumber = json.Number(strings.TrimSpace(s)), true
	}
	raw, err := strconv.ParseFloat(text.String(), 64)
	if !isNumber || err != nil || pt.IsText() {
		return
	}
	var refs []profile.Raw
	for _, pl := range pt.Refs() {
		at, err := profile.ParsePath(pl.Path)
		if err != nil {
			return
		}
		refs = append(refs, profile.RawValue(x.lookup(&at)))
	}
	if mv, ok := m.moving(p, raw, refs); ok {
		x.moves = append(x.moves, moving{mv, path})
	}
}

// invent is a value for a point that no fixture has.
func (m *Model) invent(p int) any {
	pt := &m.points[p]
	switch {
	case pt.IsText():
		return "simulated"
	case len(pt.Enum) > 0:
		return slices.Sorted(maps.Keys(pt.Enum))[0]
	}
	return json.Number(shown(m.rawFor(p, m.usual(p))))
}

// shown writes a number as devices do.
func shown(x float64) string {
	return strconv.FormatFloat(math.Round(x*1000)/1000, 'f', -1, 64)
}

func (x *payload) lookup(path *profile.Path) (any, bool) {
	if path.IsZero() {
		return x.text, x.text != ""
	}
	if columns, ok := profile.Columns(path, []byte(x.text), nil, errNoJSON); x.doc == nil && ok {
		return path.Lookup(columns)
	}
	return path.Lookup(x.doc)
}

func (x *payload) put(path *profile.Path, v any) {
	switch {
	case path.IsZero():
		if n, ok := v.(json.Number); ok {
			v = n.String()
		}
		x.text, _ = v.(string)
	case x.doc == nil && x.text != "":
		x.column(path, v)
	default:
		if doc, ok := path.Put(x.doc, v); ok {
			x.doc = doc
		}
	}
}

// column changes one of the columns of a payload that is no JSON.
func (x *payload) column(path *profile.Path, v any) {
	columns, ok := profile.Columns(path, []byte(x.text), nil, errNoJSON)
	if !ok {
		return
	}
	separator := ","
	for _, s := range []string{"\t", ";"} {
		if strings.Contains(x.text, s) {
			separator = s
		}
	}
	doc, _ := path.Put(columns, v)
	list, _ := doc.([]any)
	var out []string
	for _, c := range list {
		switch c := c.(type) {
		case string:
			out = append(out, c)
		case json.Number:
			out = append(out, c.String())
		}
	}
	x.text = strings.Join(out, separator)
}

type noJSON struct{}

func (noJSON) Error() string { return "no JSON" }

// errNoJSON is what Columns is told of a payload that is none.
var errNoJSON noJSON

// Messages returns what an MQTT device publishes at a time.
func (m *Model) Messages(now time.Time) []Message {
	var out []Message
	if a := m.dev.MQTT.Availability; a != nil && len(a.Online) > 0 {
		x := &payload{topic: a.Topic, text: a.Online[0]}
		if path, err := profile.ParsePath(a.Path); err == nil && !path.IsZero() {
			x.text = ""
			x.put(&path, a.Online[0])
		}
		out = append(out, x.message(true))
	}
	for _, x := range m.payloads {
		if a := m.dev.MQTT.Availability; a != nil && a.Topic == x.topic {
			continue
		}
		for i := range x.moves {
			v := &x.moves[i]
			x.put(&v.path, json.Number(shown(v.at(now.Sub(m.begun)))))
		}
		m.date(x, now)
		out = append(out, x.message(false))
	}
	return out
}

// date writes the time into a payload that carries one.
func (m *Model) date(x *payload, now time.Time) {
	t := m.dev.MQTT.Time
	if t == nil || x.doc == nil {
		return
	}
	path, err := profile.ParsePath(t.Path)
	if err != nil {
		return
	}
	switch t.Format {
	case "unix":
		x.put(&path, json.Number(strconv.FormatInt(now.Unix(), 10)))
	case "unix_ms":
		x.put(&path, json.Number(strconv.FormatInt(now.UnixMilli(), 10)))
	default:
		x.put(&path, now.UTC().Format(time.RFC3339Nano))
	}
}

func (x *payload) message(retain bool) Message {
	if x.doc == nil {
		return Message{x.topic, []byte(x.text), retain}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(x.doc) != nil {
		return Message{x.topic, []byte(x.text), retain}
	}
	return Message{x.topic, bytes.TrimSpace(b.Bytes()), retain}
}
