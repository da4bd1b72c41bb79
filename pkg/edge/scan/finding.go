package scan

import (
	"math"

	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Known is what devices are compared with.
type Known struct {
	Quantities telemetry.Quantities
	Profiles   []*profile.Profile

	sources map[*profile.Profile][]source // of those over MQTT
}

// Open reads all profiles of a library; broken ones are left out and returned by
// their faults.
func Open(lib *profile.Library, q telemetry.Quantities) (k Known, faulty []error) {
	k.Quantities, k.sources = q, map[*profile.Profile][]source{}
	for _, id := range lib.IDs() {
		p, err := lib.Get(id)
		if err != nil {
			faulty = append(faulty, err)
			continue
		}
		k.Profiles = append(k.Profiles, p)
		if p.Protocol == profile.ProtocolMQTT {
			k.sources[p] = sourcesOf(p)
		}
	}
	return k, faulty
}

// Finding is a device that was found.
type Finding struct {
	Unit    int               // on a Modbus line
	With    map[string]string // parameters that the profile needs, of an MQTT device
	Topic   string            // one that it publishes to; of a camera its host
	Name    string            // to make an id of; empty: by the parameters
	Note    string            // what it is when no profile says it
	Profile *profile.Profile  // nil: it answers, and no profile fits
	// Revision is the one that the device tells; empty when there is nothing to
	// tell. Choose says that it has revisions and does not tell which.
	Revision string
	Choose   bool
	Version  string // of its firmware, when it tells
	Seen     string // by what it was known
	Values   []Value
	Points   int      // of the profile that were asked for
	Read     int      // of those, the ones that the device has
	Others   []string // profiles that fit as well
	// Guesses are, for a device that does not say what it is, profiles whose
	// registers are all there and make sense, the likeliest first.
	Guesses []Finding
	Damaged bool // what came was no answer: two devices with one unit id, or a wrong speed

	score float64
}

// Value is what a point reads.
type Value struct {
	Point string
	Unit  string // canonical
	Value float64
	Text  string
}

// strength is how much the conditions say that hold: a word that can hardly
// stand there by accident more than a number, a number more than that there is
// something at all.
func strength(ms []profile.Match) (s float64) {
	for i := range ms {
		m := &ms[i]
		switch {
		case m.Absent:
			s += 0.5
		case len(m.Text) > 0:
			s += 6
		case len(m.Equals) > 3:
			s += 3
		case len(m.Equals) > 0:
			s += 4
		case m.Type == profile.TypeString:
			s += 2
		default:
			s++
		}
	}
	return s
}

// verdict judges a profile by what stands at the places of its conditions. It is
// not ok when the device is not of the profile, or the profile has no conditions
// that could say so.
func verdict(p *profile.Profile, with map[string]string, at func(*profile.Place) profile.Raw) (f Finding, ok bool) {
	id := p.Identification(with)
	if id == nil {
		return f, false
	}
	v := id.Judge(at)
	f = Finding{Profile: p, Version: v.Version, Seen: v.Seen, With: with}
	f.score = strength(p.Match)
	switch {
	case !v.Model:
		return f, false
	case v.Revision >= 0:
		f.Revision = id.Revisions[v.Revision].ID
		f.score += strength(id.Revisions[v.Revision].Match)
	case p.TellsRevision(), len(p.Match) == 0:
		return f, false
	default:
		f.Choose = len(p.Firmware) > 1
	}
	return f, true
}

// certain is the strength from which conditions say what a device is; below it
// they only say that it could be.
const certain = 2

// negative reports whether all that speaks for the finding is what the device
// lacks.
func (f *Finding) negative() bool { return f.score < 1 }

// enough reports whether most of the points are there.
func (f *Finding) enough() bool { return f.Points == 0 || 2*f.Read >= f.Points }

// rank orders findings about one device: the greater the better.
func (f *Finding) rank() float64 {
	if f.Points == 0 {
		return f.score
	}
	part := float64(f.Read) / float64(f.Points)
	return f.score*part*part + 0.05*float64(f.Read)
}

// best returns the finding with the highest rank and names the others in it.
func best(all []Finding) (Finding, bool) {
	top := -1
	for i := range all {
		if all[i].enough() && (top < 0 || all[i].rank() > all[top].rank()) {
			top = i
		}
	}
	if top < 0 {
		return Finding{}, false
	}
	f := all[top]
	for i := range all {
		if i != top && all[i].enough() && all[i].Profile != f.Profile {
			f.Others = append(f.Others, all[i].Profile.ID)
		}
	}
	return f, true
}

// tally adds what a point came to.
func (f *Finding) tally(k *Known, p *profile.Profile, pt *profile.Point, value float64, text string, q telemetry.Quality) {
	f.Points++
	switch q.Reason() {
	case telemetry.ReasonNone, telemetry.ReasonNotFitted, telemetry.ReasonInvalid, telemetry.ReasonConfiguration:
		f.Read++
	}
	if q == 0 && !math.IsNaN(value) {
		f.Values = append(f.Values, Value{pt.ID, p.Catalogue(k.Quantities)[pt.Quantity].Unit, value, text})
	}
}

// canonical converts into the canonical unit of a quantity.
type canonical struct{ factor, offset float64 }

// Of implements [profile.Linear].
func (c canonical) Of(x float64) float64 { return x*c.factor + c.offset }

func convert(k *Known, p *profile.Profile, pt *profile.Point) canonical {
	f, o, ok := pt.Conversion(p.Catalogue(k.Quantities))
	if !ok {
		return canonical{1, 0}
	}
	return canonical{f, o}
}
