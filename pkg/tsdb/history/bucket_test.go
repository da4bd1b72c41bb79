package history

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// A bucket made of buckets is the bucket of their samples.
func TestBucketsJoinToTheBucketOfTheirSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, how := range []telemetry.Aggregation{
		telemetry.AggregateMean, telemetry.AggregateSum, telemetry.AggregateMax, telemetry.AggregateMin, telemetry.AggregateLast, "",
	} {
		for range 200 {
			var whole, joined bucket
			for range 1 + rng.IntN(12) {
				var part bucket
				for range 1 + rng.IntN(30) {
					v := math.Round(rng.NormFloat64()*1e4) / 100
					part.add(how, 1, v, v, v)
					whole.add(how, 1, v, v, v)
				}
				part.finish(how)
				joined.add(how, part.n, part.value, part.min, part.max)
			}
			whole.finish(how)
			joined.finish(how)
			if joined.n != whole.n || joined.min != whole.min || joined.max != whole.max || math.Abs(joined.value-whole.value) > 1e-5*max(1, math.Abs(whole.max), math.Abs(whole.min)) {
				t.Fatalf("%s: joined %+v, of the samples %+v", how, joined, whole)
			}
			if how == telemetry.AggregateMean && (whole.value < whole.min || whole.value > whole.max) {
				t.Fatalf("mean outside of %+v", whole)
			}
		}
	}
}

func TestWindAroundNorthHasItsMeanInTheNorth(t *testing.T) {
	var b bucket
	for _, v := range []float64{350, 355, 5, 10} {
		b.add(telemetry.AggregateVectorMean, 1, v, v, v)
	}
	if b.finish(telemetry.AggregateVectorMean); math.Min(b.value, 360-b.value) > 1e-4 {
		t.Errorf("mean direction %v", b.value)
	}
	b = bucket{}
	for _, v := range []float64{0, 180} {
		b.add(telemetry.AggregateVectorMean, 1, v, v, v)
	}
	if b.finish(telemetry.AggregateVectorMean); b.value != 0 {
		t.Errorf("no direction prevails, and the value is %v", b.value)
	}
}

func TestPeriodsAndTheirNames(t *testing.T) {
	at := time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC).UnixMilli() // midnight belongs to the day before
	d, m := dayOf(at), monthOf(at)
	if d.name() != "20280229" || m.name() != "202802" || !m.covers(d) || d.end != at || m.end != at || m.isMonth() == d.isMonth() {
		t.Errorf("%v %s, %v %s", d, d.name(), m, m.name())
	}
	if dayOf(-1).end != 0 || dayOf(1).start != 0 || floor(-1, 10) != -10 || floor(-10, 10) != -10 {
		t.Error("times before 1970")
	}
	for _, p := range []period{d, m, dayOf(at + 1), monthOf(at + 1)} {
		got, _, err := parseName(p.name() + "-" + ulid.Make().String())
		if err != nil || got != p {
			t.Errorf("%s is read as %v: %v", p.name(), got, err)
		}
	}
	for _, name := range []string{"", "2028", "202802", "202802-x", "20281301-" + ulid.Make().String(), "x-" + ulid.Make().String()} {
		if p, _, err := parseName(name); err == nil {
			t.Errorf("%q is read as %v", name, p)
		}
	}
}
