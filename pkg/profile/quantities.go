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
	Quantities map[string]quantityEntry `yaml:"quantities" doc:"what can be measured, by id"`
}

type quantityEntry struct {
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
	aggregations := []string{
		string(telemetry.AggregateMean), string(telemetry.AggregateSum), string(telemetry.AggregateMax),
		string(telemetry.AggregateLast), string(telemetry.AggregateVectorMean),
	}
	q := make(telemetry.Quantities, len(f.Quantities))
	for _, id := range slices.Sorted(maps.Keys(f.Quantities)) {
		e := f.Quantities[id]
		fail := func(field, msg, hint string) {
			path := []any{"quantities", id}
			if field != "" {
				path = append(path, field)
			}
			errs = append(errs, doc.Fault(path, msg, hint))
		}
		if !metricName.MatchString(id) || len(id) > telemetry.MaxNameLen {
			fail("", fmt.Sprintf("bad name %q", id), "use a-z, 0-9 and _, beginning with a letter")
		}
		if !telemetry.KnownUnit(e.Unit) {
			fail("unit", fmt.Sprintf("unknown unit %q", e.Unit), strictyaml.Meant(e.Unit, telemetry.UnitNames()))
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
		unit := e.Unit
		if unit == "1" {
			unit = ""
		}
		q[id] = telemetry.Quantity{
			ID: id, Unit: unit, Label: e.Label, Category: e.Category, Min: e.Min, Max: e.Max,
			Deadband: e.Deadband, Aggregate: telemetry.Aggregation(e.Aggregate), Decimals: e.Decimals,
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return q, nil
}
