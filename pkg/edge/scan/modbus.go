package scan

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Prober asks a unit for what stands at a point; *modbus.Probe is one.
type Prober interface {
	Read(ctx context.Context, unit int, pt *profile.Point, order profile.Order) (profile.Raw, error)
	Patience(d time.Duration)
}

// ModbusOptions bound a scan of a line. Zero fields mean the default.
type ModbusOptions struct {
	Units   []int         // in the order in which they are asked
	Timeout time.Duration // for each question while nobody has answered; 300 ms
	// Asked is called after each unit, Found for each that answers, with what is
	// known of it.
	Asked func(unit, asked int)
	Found func(Finding)
}

// AllUnits are the unit ids of a serial line.
func AllUnits() []int {
	units := make([]int, 247)
	for i := range units {
		units[i] = i + 1
	}
	return units
}

// The bounds of what is asked of one unit.
const (
	maxKnocks  = 6  // questions to find out whether it is there
	maxAsked   = 40 // points of a profile that are tried
	maxSilent  = 8  // questions without an answer until no more guesses are made
	maxGuesses = 3  // that are named
	manyTimes  = 3  // how much longer a unit that is there may think
)

// Modbus asks every unit whether it is there, and what it is. It returns what was
// found so far together with the error when the line fails or ctx ends.
func Modbus(ctx context.Context, p Prober, k Known, o ModbusOptions) (found []Finding, err error) {
	if o.Timeout <= 0 {
		o.Timeout = 300 * time.Millisecond
	}
	s := &line{p: p, k: k, o: o}
	s.ask = func(pt *profile.Point, order profile.Order) (profile.Raw, error) { return p.Read(ctx, s.at, pt, order) }
	for i, unit := range o.Units {
		f, there, err := s.unit(unit)
		if there {
			found = append(found, f)
			if o.Found != nil {
				o.Found(f)
			}
		}
		if err != nil {
			return found, err
		}
		if o.Asked != nil {
			o.Asked(unit, i+1)
		}
	}
	return found, nil
}

// line is a scan under way.
type line struct {
	p   Prober
	ask func(*profile.Point, profile.Order) (profile.Raw, error)
	k   Known
	o   ModbusOptions

	at     int // unit
	seen   map[string]profile.Raw
	silent int
	err    error
}

// unit finds out whether a unit is there and what it is.
func (s *line) unit(unit int) (f Finding, there bool, err error) {
	s.at, s.seen, s.silent, s.err = unit, map[string]profile.Raw{}, 0, nil
	s.p.Patience(s.o.Timeout)
	there, damaged := s.knock(unit)
	if s.err != nil || !there && !damaged {
		return f, false, s.err
	}
	if !there {
		return Finding{Unit: unit, Damaged: true}, true, nil
	}
	s.p.Patience(manyTimes * s.o.Timeout)
	clear(s.seen) // what was missed in haste is asked again
	var all, perhaps []Finding
	for _, p := range s.k.Profiles {
		if p.Protocol != profile.ProtocolModbus {
			continue
		}
		if f, ok := verdict(p, nil, s.place(p)); ok && s.err == nil {
			s.try(&f, f.Revision)
			if f.negative() {
				perhaps = append(perhaps, f)
			} else {
				all = append(all, f)
			}
		}
		if s.err != nil {
			return Finding{Unit: unit}, true, s.err
		}
	}
	f, ok := best(all)
	if !ok || f.score < certain {
		guesses := s.guess(perhaps)
		switch {
		case !ok:
			f = Finding{Guesses: guesses}
		case len(guesses) > 0 && guesses[0].Read > f.Read:
			f = Finding{Guesses: append(guesses[:min(len(guesses), maxGuesses-1)], f)}
		default:
			for i := range guesses {
				f.Others = append(f.Others, guesses[i].Profile.ID)
			}
		}
	}
	f.Unit = unit
	for i := range f.Guesses {
		f.Guesses[i].Unit = unit
	}
	return f, true, s.err
}

// knock asks until something answers: first what devices with this factory
// address have, then registers that most have.
func (s *line) knock(unit int) (there, damaged bool) {
	var doors []profile.Point
	door := func(pt profile.Point) {
		if pt.Protocol() != profile.ProtocolModbus || pt.SideEffect || len(doors) >= maxKnocks {
			return
		}
		if !slices.ContainsFunc(doors, func(d profile.Point) bool { return key(&d, "") == key(&pt, "") }) {
			doors = append(doors, pt)
		}
	}
	for _, p := range s.k.Profiles {
		if unit > 1 && p.Modbus.Unit == unit && len(p.Points) > 0 {
			door(p.Points[0])
		}
	}
	zero, one := 0, 1
	door(profile.Point{ID: "holding 0", Holding: &zero})
	door(profile.Point{ID: "input 1", Input: &one})
	for i := range doors {
		r := s.read(&doors[i], "")
		switch r.Quality.Reason() {
		case telemetry.ReasonNone, telemetry.ReasonException, telemetry.ReasonMalformed:
			return true, false
		case telemetry.ReasonBadFrame:
			damaged = true
		}
		if s.err != nil {
			return false, false
		}
	}
	return false, damaged
}

func key(pt *profile.Point, order profile.Order) string {
	area, address := pt.Area()
	bit := -1
	if pt.Bit != nil {
		bit = *pt.Bit
	}
	if pt.Order != "" {
		order = pt.Order
	}
	if pt.Width() == 1 && pt.Order == "" {
		order = ""
	}
	return fmt.Sprint(area, address, pt.RawType(), order, bit, pt.Width())
}

// read asks for a point, once per unit.
func (s *line) read(pt *profile.Point, order profile.Order) profile.Raw {
	at := key(pt, order)
	r, known := s.seen[at]
	if known || s.err != nil {
		return r
	}
	r, s.err = s.ask(pt, order)
	s.seen[at] = r
	if reason := r.Quality.Reason(); reason == telemetry.ReasonNoAnswer || reason == telemetry.ReasonBadFrame {
		s.silent++
	}
	return r
}

// place reads the places of a profile's conditions.
func (s *line) place(p *profile.Profile) func(*profile.Place) profile.Raw {
	return func(pl *profile.Place) profile.Raw {
		pt := pl.Point(pl.String())
		return s.read(&pt, p.Modbus.Order)
	}
}

// try reads the points of a profile, in a revision or the first one.
func (s *line) try(f *Finding, revision string) {
	p := f.Profile
	points, _, _, err := p.Resolve(revision, nil)
	if err != nil {
		return
	}
	for i := range points {
		pt := &points[i]
		if pt.SideEffect || i >= maxAsked || s.err != nil {
			continue
		}
		r := s.read(pt, p.Modbus.Order)
		if r.Quality.IsBad() {
			f.tally(&s.k, p, pt, 0, "", r.Quality)
			continue
		}
		if pt.IsText() {
			f.tally(&s.k, p, pt, 0, r.Text, 0)
			continue
		}
		var refs []profile.Raw
		for _, pl := range pt.Refs() {
			refs = append(refs, s.place(p)(pl))
		}
		value, q, _ := profile.Measure(pt, convert(&s.k, p, pt), nil, r.Number, refs, 0)
		f.tally(&s.k, p, pt, value, "", q)
	}
}

// guess returns profiles that cannot be told, or only by what the device lacks
// (perhaps), all of whose points can be read and make sense: those with the most
// points first.
func (s *line) guess(perhaps []Finding) (fits []Finding) {
	add := func(f Finding) {
		if f.Read == f.Points && len(f.Values) > 0 {
			fits = append(fits, f)
		}
	}
	for _, f := range perhaps {
		add(f)
	}
	for _, p := range s.k.Profiles {
		if p.Protocol != profile.ProtocolModbus || p.Identification(nil) != nil || s.silent >= maxSilent || s.err != nil {
			continue
		}
		points, _, _, err := p.Resolve("", nil)
		if err != nil || len(points) == 0 {
			continue
		}
		if r := s.read(&points[0], p.Modbus.Order); r.Quality.IsBad() {
			continue // the others need not be asked for
		}
		f := Finding{Profile: p, Choose: len(p.Firmware) > 1}
		s.try(&f, "")
		add(f)
	}
	slices.SortStableFunc(fits, func(a, b Finding) int { return len(b.Values) - len(a.Values) })
	return fits[:min(len(fits), maxGuesses)]
}
