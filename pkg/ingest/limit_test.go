package ingest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// An edge that makes ever new series keeps those that it had, before a restart of the
// hub and after it; the others are refused by name, and its log goes on.
func TestAnEdgeOverTheLimitKeepsItsOtherSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.MaxSeries = firstPlain + 3
		r.start()
		s := newSource(t, 1, 1, time.Now().UnixMilli())
		r.send(wire.TopicFrame, s.raw)
		r.send(wire.TopicFrame, s.frame())
		// New series stand before the others in the schema.
		wide := testSchema(3)
		for i := range 5 {
			wide.Series = append([]telemetry.Series{{
				Device: 0, Point: fmt.Sprintf("new%d", i), Quantity: "vehicle_count", Labels: telemetry.NewLabels(map[string]string{"plate": fmt.Sprint(i), "lane": "1"}),
			}}, wide.Series...)
		}
		s.use(wide)
		all := func() []byte {
			w := s.w + 1000
			var rs []telemetry.Reading
			for i := range wide.Series {
				if wide.Series[i].Kind == telemetry.KindNumber {
					rs = append(rs, telemetry.Reading{Series: uint32(i), Time: w, Value: float64(i + 1)})
				}
			}
			return s.encode(s.header(w), rs...)
		}
		r.send(wire.TopicFrame, s.raw)
		if a := r.send(wire.TopicFrame, all()); a.Status != wire.StatusOK || a.Got.Seq != 2 {
			t.Errorf("the log goes on: %+v", a)
		}
		judge := func(refused uint64) {
			t.Helper()
			st := r.status()
			if st.Series != 11 || st.SeriesTaken != 6 || st.Counters.Limited != refused {
				t.Errorf("%d series, %d taken, %d readings refused", st.Series, st.SeriesTaken, st.Counters.Limited)
			}
			if len(st.Problems) != 1 || st.Problems[0].Kind != EventLimit ||
				!strings.Contains(st.Problems[0].Text, "has 11 series, and 6 are taken (ingest.max_series 6, in all 2000000): of vehicle_count the label plate has the most different values, 5") {
				t.Errorf("problems: %+v", st.Problems)
			}
			if n := len(r.store.get("e1", "vehicle_count", false)); n != 0 {
				t.Errorf("%d samples of refused series", n)
			}
		}
		judge(5)
		advance(2 * time.Second)
		r.stop()
		r.start()
		if a := r.send(wire.TopicFrame, all()); a.Status != wire.StatusOK || a.Got.Seq != 3 {
			t.Errorf("after the restart: %+v", a)
		}
		judge(5)
		if n := len(r.store.get("e1", "air_temperature", false)); n < 3 {
			t.Errorf("%d samples of a series that was taken", n)
		}
		s.use(testSchema(3))
		r.send(wire.TopicFrame, s.raw)
		r.send(wire.TopicFrame, s.frame())
		if st := r.status(); len(st.Problems) != 0 || st.SeriesTaken != 6 {
			t.Errorf("with the old schema: %+v", st.Problems)
		}
		r.stop()
	})
}

func TestAllEdgesShareTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.MaxSeriesAll = 8
		r.start()
		for i, edge := range []string{"e1", "e2"} {
			s := newSource(t, byte(i+1), 1, time.Now().UnixMilli())
			for _, p := range [][]byte{s.raw, s.frame()} {
				r.g.Receive(edge, wire.TopicFrame, p)
			}
			advance(time.Second)
		}
		a, _ := r.g.Edge("e1")
		b, _ := r.g.Edge("e2")
		if a.SeriesTaken != 6 || b.SeriesTaken != 2 || len(b.Problems) != 1 {
			t.Errorf("%d and %d taken, %+v", a.SeriesTaken, b.SeriesTaken, b.Problems)
		}
		r.stop()
	})
}

// A series whose labels are too large is refused by name, and its neighbours are not.
func TestALabelBombCostsItsSeriesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.MaxLabelBytes = 600
		r.start()
		s := newSource(t, 1, 1, time.Now().UnixMilli())
		bomb := testSchema(3)
		bomb.Series = append(bomb.Series, telemetry.Series{Device: 0, Point: "cam", Quantity: "vehicle_count", Labels: telemetry.NewLabels(map[string]string{
			"lane": "1", "a": strings.Repeat("x", 250), "b": strings.Repeat("y", 251), "c": strings.Repeat("z", 120),
		})})
		s.use(bomb)
		r.send(wire.TopicFrame, s.raw)
		if a := r.send(wire.TopicFrame, s.frame()); a.Status != wire.StatusOK {
			t.Errorf("the log goes on: %+v", a)
		}
		st := r.status()
		if st.SeriesTaken != len(bomb.Series)-1 || len(st.Problems) != 1 ||
			!strings.Contains(st.Problems[0].Text, "are taken; the labels of vehicle_count at point cam of device ") ||
			!strings.Contains(st.Problems[0].Text, "have 629 bytes (ingest.max_label_bytes 600), most of them has b.") {
			t.Errorf("%d taken, %+v", st.SeriesTaken, st.Problems)
		}
		if n := len(r.store.get("e1", "air_temperature", false)); n == 0 {
			t.Error("no samples of the others")
		}
		r.stop()
	})
}

// An edge that renames its series again and again has begun enough of them some time,
// and goes on the next day.
func TestAnEdgeThatRenamesItsSeriesForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.MaxNewSeries = 20
		r.start()
		s := newSource(t, 1, 1, time.Now().UnixMilli())
		r.send(wire.TopicFrame, s.raw)
		r.send(wire.TopicFrame, s.frame())
		rename := func(round int) {
			other := testSchema(3)
			for i := range other.Series {
				other.Series[i].Point = fmt.Sprintf("p%d-%d", round, i)
			}
			s.use(other)
			r.send(wire.TopicFrame, s.raw)
			if a := r.send(wire.TopicFrame, s.frame()); a.Status != wire.StatusOK {
				t.Errorf("round %d: %+v", round, a)
			}
		}
		rename(1)
		rename(2)
		if st := r.status(); st.SeriesTaken != 6 || len(st.Problems) != 0 {
			t.Errorf("%d taken, %+v", st.SeriesTaken, st.Problems)
		}
		rename(3) // 18 have begun: two more may
		st := r.status()
		if st.SeriesTaken != 2 || len(st.Problems) != 1 || !strings.Contains(st.Problems[0].Text, "20 have begun since") || !strings.Contains(st.Problems[0].Text, "ingest.max_new_series 20") {
			t.Errorf("%d taken, %+v", st.SeriesTaken, st.Problems)
		}
		advance(25 * time.Hour)
		rename(4)
		if st := r.status(); st.SeriesTaken != 6 || len(st.Problems) != 0 {
			t.Errorf("the next day: %d taken, %+v", st.SeriesTaken, st.Problems)
		}
		r.stop()
	})
}

// The state of an edge says why a message of it was refused.
func TestWhyAMessageWasRefusedIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := newSource(t, 1, 1, time.Now().UnixMilli())
		r.send(wire.TopicFrame, s.raw)
		r.send(wire.TopicFrame, s.frame())
		a := r.send(wire.TopicFrame, s.raw[:len(s.raw)-1])
		st := r.status()
		if a.Status != wire.StatusRefused || len(st.Problems) != 1 || !strings.Contains(st.Problems[0].Text, "A message of edge e1 was refused: "+a.Reason) {
			t.Errorf("%+v, %+v", a, st.Problems)
		}
		r.stop()
	})
}
