package profile

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Match is a condition on what stands at a place: an identity register, a
// string, a field, a status bit. All of its tests must hold; with no test but
// the place it is enough that the device has it.
type Match struct {
	Place   `yaml:",inline"`
	Mask    uint32    `yaml:"mask" doc:"bits of the register to look at, taken out and shifted down: 0xFF00 is the high byte as a number from 0 to 255"`
	Equals  []float64 `yaml:"equals" doc:"numbers of which it must be one"`
	Min     *float64  `yaml:"min" doc:"least number"`
	Max     *float64  `yaml:"max" doc:"greatest number"`
	Text    []string  `yaml:"text,text" doc:"texts of which it must be one; a star stands for any characters. Of an array it is enough that one element is, and an empty one reads as an empty text"`
	Version string    `yaml:"version" doc:"it is the firmware version, by which revisions with a range are told: text, bytes (0x0204 is 2.4), digits (451 is 4.5.1), tenths or hundredths"`
	Absent  bool      `yaml:"absent" doc:"the device must not have it: it refuses the register" default:"false"`
}

// value returns the number that is compared: the masked one when there is a
// mask, or what a text reads as.
func (m *Match) value(r Raw) (float64, bool) {
	if r.List {
		return 0, false
	}
	n := r.Number
	if r.Text != "" {
		var ok bool
		if n, ok = parseNumber(strings.TrimSpace(r.Text)); !ok {
			return 0, false
		}
	}
	if m.Mask == 0 {
		return n, true
	}
	if n < 0 || n != math.Trunc(n) || n > math.MaxUint32 {
		return 0, false
	}
	return float64((uint32(n) & m.Mask) >> bits.TrailingZeros32(m.Mask)), true
}

// Fits reports whether the condition holds.
func (m *Match) Fits(r Raw) bool {
	if r.Quality.IsBad() {
		return m.Absent && r.Quality.Reason() == telemetry.ReasonException
	}
	if m.Absent {
		return false
	}
	if len(m.Text) > 0 && !m.textHolds(r) {
		return false
	}
	if m.Version != "" {
		if _, ok := m.FirmwareVersion(r); !ok {
			return false
		}
	}
	if len(m.Equals) == 0 && m.Min == nil && m.Max == nil {
		return true
	}
	n, ok := m.value(r)
	if !ok || len(m.Equals) > 0 && !slices.Contains(m.Equals, n) {
		return false
	}
	return (m.Min == nil || n >= *m.Min) && (m.Max == nil || n <= *m.Max)
}

func (m *Match) textHolds(r Raw) bool {
	is := func(s string) bool {
		return slices.ContainsFunc(m.Text, func(pattern string) bool { return textFits(pattern, s) })
	}
	if r.List {
		return slices.ContainsFunc(strings.Split(r.Text, listSeparator), is)
	}
	return is(m.text(r))
}

// FirmwareVersion returns the version that stands at the place. It is not ok
// when the place is not one that tells a version, or does not now.
func (m *Match) FirmwareVersion(r Raw) (Version, bool) {
	if m.Version == "" || r.Quality.IsBad() || r.List {
		return nil, false
	}
	if m.Version == VersionText {
		return ParseVersion(m.text(r))
	}
	n, ok := m.value(r)
	if !ok {
		return nil, false
	}
	return decodeVersion(m.Version, n)
}

func (m *Match) text(r Raw) string {
	if r.Text != "" {
		return strings.TrimSpace(r.Text)
	}
	return strconv.FormatFloat(r.Number, 'f', -1, 64)
}

// textFits matches a pattern with stars.
func textFits(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}

// Identification tells the revision of a device from what it says of itself. It
// is read-only and safe for concurrent use.
type Identification struct {
	Model     []Match // what holds for every revision
	Revisions []RevisionMatch
}

// RevisionMatch is what tells one revision. One without range and conditions is
// never taken but by hand, or as the first.
type RevisionMatch struct {
	ID    string
	Range VersionRange
	Match []Match
}

// Verdict is what an [Identification] comes to.
type Verdict struct {
	Model    bool   // the model's own conditions hold
	Revision int    // index of the revision that fits; -1 when none does, or there is none
	Version  string // the firmware version, when the device tells it
	Seen     string // what was read, for a log
}

// Identification returns how a device of the profile tells its revision, with
// the parameters filled in. It is nil when it cannot.
func (p *Profile) Identification(with map[string]string) *Identification {
	id := &Identification{Model: filled(p.Match, with)}
	told := len(p.Match) > 0
	for i := range p.Firmware {
		rev := &p.Firmware[i]
		r, err := ParseVersionRange(rev.Range)
		if err != nil {
			continue // the parser has refused it
		}
		id.Revisions = append(id.Revisions, RevisionMatch{rev.ID, r, filled(rev.Match, with)})
		told = told || len(rev.Match) > 0
	}
	if !told {
		return nil
	}
	return id
}

// filled returns the condition with the parameters in its topic, path and texts.
func (m *Match) filled(with map[string]string) Match {
	own := *m
	own.Topic, own.Path = fill(m.Topic, with, nil), fill(m.Path, with, escapePath)
	own.Text = slices.Clone(m.Text)
	for i := range own.Text {
		own.Text[i] = fill(own.Text[i], with, nil)
	}
	return own
}

func filled(ms []Match, with map[string]string) []Match {
	out := make([]Match, len(ms))
	for i := range ms {
		out[i] = ms[i].filled(with)
	}
	return out
}

// Places returns what must be read, each place once.
func (id *Identification) Places() []*Place {
	var places []*Place
	add := func(ms []Match) {
		for i := range ms {
			pl := &ms[i].Place
			if !slices.ContainsFunc(places, pl.Same) {
				places = append(places, pl)
			}
		}
	}
	add(id.Model)
	for i := range id.Revisions {
		add(id.Revisions[i].Match)
	}
	return places
}

// Judge decides by what stands at the places. The first revision wins whose
// conditions all hold and whose range has the version.
func (id *Identification) Judge(at func(*Place) Raw) Verdict {
	v := Verdict{Model: true, Revision: -1}
	var version Version
	all := func(ms []Match) bool {
		for i := range ms {
			r := at(&ms[i].Place)
			if known, ok := ms[i].FirmwareVersion(r); ok && version == nil {
				version = known
			}
			if !ms[i].Fits(r) {
				return false
			}
		}
		return true
	}
	v.Model = all(id.Model)
	for i := range id.Model {
		if known, ok := id.Model[i].FirmwareVersion(at(&id.Model[i].Place)); ok && version == nil {
			version = known
		}
	}
	if v.Model {
		for i := range id.Revisions {
			r := &id.Revisions[i]
			own := version
			if !all(r.Match) {
				version = own
				continue
			}
			if len(r.Match) == 0 && (len(r.Range) == 0 || version == nil) || len(r.Range) > 0 && version != nil && !r.Range.Contains(version) {
				version = own
				continue
			}
			v.Revision = i
			break
		}
	}
	if version != nil {
		v.Version = version.String()
	}
	v.Seen = id.seen(at)
	return v
}

// seen lists what was read.
func (id *Identification) seen(at func(*Place) Raw) string {
	var parts []string
	for _, pl := range id.Places() {
		r := at(pl)
		switch {
		case r.Quality.IsBad():
			parts = append(parts, fmt.Sprintf("%s: %s", pl, r.Quality.Reason()))
		case r.List:
			parts = append(parts, fmt.Sprintf("%s: %q", pl, strings.Split(clipText(r.Text), listSeparator)))
		case r.Text != "":
			parts = append(parts, fmt.Sprintf("%s: %q", pl, clipText(r.Text)))
		case r.Number == math.Trunc(r.Number) && r.Number >= 0 && r.Number < 1<<32:
			parts = append(parts, fmt.Sprintf("%s: %d (%#x)", pl, int64(r.Number), int64(r.Number)))
		default:
			parts = append(parts, fmt.Sprintf("%s: %v", pl, r.Number))
		}
	}
	return strings.Join(parts, ", ")
}

// faults are those of a condition. A gate (valid_when) stands beside a point and
// tells no version.
func (m *Match) faults(gate bool) []PointError {
	what := "the condition"
	c := &checker{errs: m.Place.faults(what, !gate)}
	fail := func(field, hint, format string, args ...any) {
		c.errs = append(c.errs, PointError{field, fmt.Sprintf(format, args...), hint})
	}
	pt := m.Place.Point("x")
	text := m.Type == TypeString || m.Topic != "" || m.Holding == nil && m.Input == nil && m.Coil == nil && m.Discrete == nil
	tests := len(m.Equals) > 0 || m.Min != nil || m.Max != nil || len(m.Text) > 0
	switch {
	case m.Mask != 0 && pt.Protocol() == ProtocolModbus && pt.RawType() != TypeUint16 && pt.RawType() != TypeUint32:
		fail("mask", "take type: uint16 or uint32", "a mask is for uint16 and uint32, not for %s", pt.RawType())
	case m.Mask > math.MaxUint16 && pt.Protocol() == ProtocolModbus && pt.RawType() == TypeUint16:
		fail("mask", "", "%#x is wider than a register", m.Mask)
	}
	if len(m.Text) > 0 && !text {
		fail("text", "write equals, or type: string and length", "a register is compared by number")
	}
	for i, s := range m.Text {
		if s == "" {
			fail(fmt.Sprintf("text[%d]", i), "", "is empty")
		}
	}
	if m.Min != nil && m.Max != nil && *m.Min > *m.Max {
		fail("max", "", "the greatest number is below the least")
	}
	if m.Version != "" {
		switch {
		case gate:
			fail("version", "leave it away", "a version is for match")
		case !slices.Contains(versionForms, m.Version):
			fail("version", strictyaml.Meant(m.Version, versionForms), "unknown form of a version %q", m.Version)
		case (m.Version == VersionText) != text && pt.Protocol() == ProtocolModbus:
			fail("version", "text is for type: string, the other forms for registers", "%q does not go with %s", m.Version, pt.RawType())
		}
	}
	if m.Absent && (tests || m.Version != "" || gate) {
		fail("absent", "leave the tests away, or absent", "what must be absent cannot be compared")
	}
	if gate && !tests {
		fail("", "write equals, min, max or text", "says not what must hold")
	}
	return c.errs
}
