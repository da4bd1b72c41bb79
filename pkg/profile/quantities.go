package profile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

type quantityFile struct {
	Quantities map[string]OwnQuantity `yaml:"quantities" doc:"what can be measured, by id"`
}

// OwnQuantity is an entry of the catalogue, or a quantity that a profile brings
// along because the catalogue lacks it.
type OwnQuantity struct {
	Unit      string         `yaml:"unit,text" doc:"canonical unit, UCUM; 1 for a plain number"`
	Label     telemetry.Text `yaml:"label" doc:"its name in vi and en"`
	Category  string         `yaml:"category" doc:"where it belongs"`
	Min       *float64       `yaml:"min" doc:"least plausible value"`
	Max       *float64       `yaml:"max" doc:"greatest plausible value"`
	Deadband  float64        `yaml:"deadband" doc:"change, in unit, below which nothing is reported; 0: every reading"`
	Aggregate string         `yaml:"aggregate" doc:"mean, sum, max, last or vector_mean"`
	Decimals  int            `yaml:"decimals" doc:"digits after the point that people want to see"`
}

// A quantity's id is its metric name at the hub.
var metricName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// ParseQuantities reads the catalogue. The error is a strictyaml.Errors with all
// faults.
func ParseQuantities(file string, data []byte) (telemetry.Quantities, error) {
	doc, errs := strictyaml.Parse(file, data)
	if len(errs) > 0 {
		return nil, errs.Err()
	}
	var f quantityFile
	errs = doc.Decode(&f)
	q := make(telemetry.Quantities, len(f.Quantities))
	for _, id := range slices.Sorted(maps.Keys(f.Quantities)) {
		e := f.Quantities[id]
		for _, x := range e.faults(id, false) {
			path := []any{"quantities", id}
			if x.Field != "" {
				path = append(path, x.Field)
			}
			errs = append(errs, doc.Fault(path, x.Msg, x.Hint))
		}
		q[id] = e.quantity(id)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return q, nil
}

var aggregations = []string{
	string(telemetry.AggregateMean), string(telemetry.AggregateSum), string(telemetry.AggregateMax),
	string(telemetry.AggregateLast), string(telemetry.AggregateVectorMean),
}

func (e *OwnQuantity) quantity(id string) telemetry.Quantity {
	unit := e.Unit
	if unit == "1" {
		unit = ""
	}
	return telemetry.Quantity{
		ID: id, Unit: unit, Label: e.Label, Category: e.Category, Min: e.Min, Max: e.Max,
		Deadband: e.Deadband, Aggregate: telemetry.Aggregation(e.Aggregate), Decimals: e.Decimals,
	}
}

// faults are those of an entry. A profile's own quantity may have a unit that
// nothing converts into.
func (e *OwnQuantity) faults(id string, own bool) (errs []PointError) {
	fail := func(field, msg, hint string) { errs = append(errs, PointError{field, msg, hint}) }
	if !metricName.MatchString(id) || len(id) > telemetry.MaxNameLen {
		fail("", fmt.Sprintf("bad name %q", id), "use a-z, 0-9 and _, beginning with a letter")
	}
	switch {
	case e.Unit == "":
		fail("unit", "must be set", `write "1" for a plain number`)
	case !own && !telemetry.KnownUnit(e.Unit):
		fail("unit", fmt.Sprintf("unknown unit %q", e.Unit), strictyaml.Meant(e.Unit, telemetry.UnitNames()))
	case len(e.Unit) > 32:
		fail("unit", "is longer than 32 bytes", "")
	}
	if e.Label.VI == "" || e.Label.EN == "" {
		fail("label", "must be set in vi and en", "")
	}
	if !slices.Contains(categories, e.Category) {
		fail("category", fmt.Sprintf("unknown category %q", e.Category), strictyaml.Meant(e.Category, categories))
	}
	if !slices.Contains(aggregations, e.Aggregate) {
		fail("aggregate", fmt.Sprintf("unknown aggregation %q", e.Aggregate), strictyaml.Meant(e.Aggregate, aggregations))
	}
	if e.Min != nil && e.Max != nil && *e.Min >= *e.Max {
		fail("max", "the greatest plausible value is not above the least", "")
	}
	if e.Deadband < 0 {
		fail("deadband", "a negative deadband", "")
	}
	if e.Decimals < 0 || e.Decimals > maxDecimals {
		fail("decimals", fmt.Sprintf("%d is outside 0 to %d", e.Decimals, maxDecimals), "")
	}
	return errs
}

// Catalogue returns the quantities that the profile's points use: those of the
// catalogue, and the profile's own.
func (p *Profile) Catalogue(q telemetry.Quantities) telemetry.Quantities {
	if len(p.Own) == 0 {
		return q
	}
	all := maps.Clone(q)
	if all == nil {
		all = telemetry.Quantities{}
	}
	for id, e := range p.Own {
		all[id] = e.quantity(id)
	}
	return all
}
