package telemetry

// Text is a phrase in Vietnamese and in English.
type Text struct {
	VI string `yaml:"vi" json:"vi" doc:"Vietnamese"`
	EN string `yaml:"en" json:"en" doc:"English"`
}

// In returns the phrase in the language ("vi" or "en"), or the other one when
// it is missing.
func (t Text) In(lang string) string {
	if lang == "en" && t.EN != "" || t.VI == "" {
		return t.EN
	}
	return t.VI
}

// Aggregation says how readings of a quantity are joined over a time.
type Aggregation string

// The aggregations of the catalogue.
const (
	AggregateMean       Aggregation = "mean"
	AggregateSum        Aggregation = "sum"
	AggregateMin        Aggregation = "min" // of filters only; no quantity has it
	AggregateMax        Aggregation = "max"
	AggregateLast       Aggregation = "last"
	AggregateVectorMean Aggregation = "vector_mean"
)

// Quantity is what a point measures: the entry of the one catalogue. Min and
// Max bound what is plausible on earth for it, not what is healthy; nil is
// unbounded.
type Quantity struct {
	ID        string
	Unit      string // canonical, UCUM
	Label     Text
	Category  string
	Min, Max  *float64
	Deadband  float64 // absolute, in Unit; 0: report every reading
	Aggregate Aggregation
	Decimals  int // digits after the point that people want to see
}

// Quantities is the catalogue, by id. It is read-only once made.
type Quantities map[string]Quantity
