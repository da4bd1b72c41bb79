package tsdb_test

import (
	"math"
	"testing"

	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/prometheus/prometheus/model/value"
)

func TestStaleMarkerIsThatOfPrometheus(t *testing.T) {
	if !value.IsStaleNaN(tsdb.StaleMarker()) || !tsdb.IsStaleMarker(math.Float64frombits(value.StaleNaN)) {
		t.Error("the staleness marker differs")
	}
	if tsdb.IsStaleMarker(math.NaN()) || tsdb.IsStaleMarker(0) {
		t.Error("other values are taken for it")
	}
}
