package telemetry

// BoundSeries is a series at the hub, with its identity resolved: the site from
// the registry, the edge from the topic. Durations are in milliseconds, as in
// [Series].
type BoundSeries struct {
	Site, Edge, Device, Point, Quantity, Unit string
	Labels                                    Labels // what the YAML added
	Interval, Silence, MaxLag                 int64
}
