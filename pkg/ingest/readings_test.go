package ingest

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

func TestLateReadingsAreStoredApartAndNotEvaluated(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		p, w := s.w, s.w+1000
		const lagging = 1
		r.send(wire.TopicFrame, s.encode(s.header(w),
			telemetry.Reading{Series: firstPlain, Time: p, Value: 1},     // late: at the old watermark
			telemetry.Reading{Series: firstPlain, Time: p + 1, Value: 2}, // on time
			telemetry.Reading{Series: firstPlain, Time: w, Value: 3},     // on time
			telemetry.Reading{Series: firstPlain, Time: w + 1, Value: 4}, // beyond the watermark: late
			telemetry.Reading{Series: lagging, Time: p - 4999, Value: 5}, // on time, by its lag
			telemetry.Reading{Series: lagging, Time: w - 4999, Value: 6}, // beyond its watermark
			telemetry.Reading{Series: 2, Time: w, Text: "49-A1 123.45"}))
		for _, tc := range []struct {
			quantity string
			late     bool
			want     map[int64]float64
		}{
			{"air_temperature", false, map[int64]float64{p + 1: 2, w: 3}},
			{"air_temperature", true, map[int64]float64{p: 1, w + 1: 4}},
			{"water_level", false, map[int64]float64{p - 4999: 5}},
			{"water_level", true, map[int64]float64{w - 4999: 6}},
			{"plate", false, map[int64]float64{}},
		} {
			got := r.store.get("e1", tc.quantity, tc.late)
			if len(got) != len(tc.want) {
				t.Errorf("%s late=%v: %v, want %v", tc.quantity, tc.late, got, tc.want)
			}
			for k, v := range tc.want {
				if got[k] != v {
					t.Errorf("%s late=%v: %v, want %v", tc.quantity, tc.late, got, tc.want)
				}
			}
		}
		want := fmt.Sprintf("map[__name__:plate device:d1 edge:e1 point:plate site:%s] %d 49-A1 123.45 good", r.status().Site, w)
		if r.mu.Lock(); len(r.texts) != 1 || r.texts[0] != want {
			t.Errorf("texts %q, want %q", r.texts, want)
		}
		r.mu.Unlock()
		if n := len(r.rules.lines("e1")); n != 4 {
			t.Errorf("the rules heard %q", r.rules.lines("e1"))
		}
		if ss := r.g.Series("e1"); ss[2].Text != "49-A1 123.45" || !ss[firstPlain].Late || ss[firstPlain].Value != 4 {
			t.Errorf("%+v", ss)
		}
		if c := r.status().Counters; c.Late != 3 || c.Text != 1 || c.Readings != 7 {
			t.Errorf("%+v", c)
		}
	})
}

func TestQualityIsItsOwnSeriesAndBadIsAMarkerOnce(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		w := s.w
		bad := telemetry.BadQuality(telemetry.ReasonNoAnswer)
		uncertain := telemetry.NewQuality(telemetry.Uncertain, telemetry.ReasonWarmUp)
		for i, q := range []telemetry.Quality{0, 0, bad, bad, telemetry.BadQuality(telemetry.ReasonException), uncertain, 0} {
			v := float64(i)
			r.send(wire.TopicFrame, s.frame(telemetry.Reading{Series: firstPlain, Time: w + int64(i+1)*1000, Value: v, Quality: q}))
			if i == 3 { // in the middle of it the hub starts anew
				r.stop()
				r.start()
			}
		}
		got := r.store.get("e1", "air_temperature", false)
		if len(got) != 5 || !math.IsNaN(got[w+3000]) || math.Float64bits(got[w+3000]) != 0x7ff0000000000002 || got[w+6000] != 5 {
			t.Errorf("%v", got)
		}
		qs := r.store.get("e1", telemetry.QuantityReadingQuality, false)
		want := map[int64]float64{w + 3000: float64(bad), w + 5000: float64(telemetry.BadQuality(telemetry.ReasonException)), w + 6000: float64(uncertain), w + 7000: 0}
		if len(qs) != len(want) {
			t.Errorf("%v, want %v", qs, want)
		}
		for k, v := range want {
			if qs[k] != v {
				t.Errorf("%v, want %v", qs, want)
			}
		}
		const labels = "__name__=reading_quality,device=d1,edge=e1,point=p0,quantity=air_temperature,site=24848,spot=market,"
		if !slices.ContainsFunc(r.seriesNames(), func(n string) bool { return n == labels }) {
			t.Errorf("series %q", r.seriesNames())
		}
	})
}

func TestMarksStandBetweenTheReadings(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		w := s.w
		h := s.header(w + 10_000)
		h.Marks = []wire.Mark{{Kind: wire.MarkStart, From: w - 60_000, To: w}, {Kind: wire.MarkStall, From: w + 4000, To: w + 7000}}
		r.send(wire.TopicFrame, s.encode(h,
			telemetry.Reading{Series: firstPlain, Time: w + 1000, Value: 1},
			telemetry.Reading{Series: firstPlain, Time: w + 8000, Value: 2},
			telemetry.Reading{Series: firstPlain + 1, Time: w + 4000, Value: 3},
			telemetry.Reading{Series: firstPlain + 1, Time: w + 9000, Value: 4}))
		want := []string{
			formatUnobserved(w-60_000, w),
			formatObserved("d1/p0", w+1000, 1), formatObserved("d1/p1", w+4000, 3), formatAdvance(w + 4000),
			formatUnobserved(w+4000, w+7000),
			formatObserved("d1/p0", w+8000, 2), formatObserved("d1/p1", w+9000, 4), formatAdvance(w + 10_000),
		}
		if got := r.rules.lines("e1"); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		// A new era, back in time.
		h = s.header(w + 11_000)
		h.Era, h.PrevW, h.W = 1, w-5_000, w-4_000
		h.Marks = []wire.Mark{{Kind: wire.MarkEra, From: w + 10_000, To: w - 5_000}}
		s.w = h.W
		if a := r.send(wire.TopicFrame, s.encode(h, telemetry.Reading{Series: firstPlain, Time: w - 4_500, Value: 5})); a.Status != wire.StatusOK {
			t.Errorf("%+v", a)
		}
		want = append(want, formatUnobserved(w+10_000, w-5_000), formatObserved("d1/p0", w-4_500, 5), formatAdvance(w-4_000))
		if got := r.rules.lines("e1"); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		// Within an era the watermark does not go back.
		h = s.header(s.w)
		h.Era, h.PrevW, h.W = 1, w-9_000, w-8_000
		if a := r.send(wire.TopicFrame, s.encode(h)); a.Status != wire.StatusRefused {
			t.Errorf("%+v", a)
		}
	})
}

func TestSnapshotsAreShownAndNotStored(t *testing.T) {
	scenario(t, func(t *testing.T, r *rig, s *source) {
		r.send(wire.TopicFrame, s.frame())
		now := time.Now().UnixMilli()
		sn := &wire.Snapshot{
			Epoch: s.epoch, Seq: 100, Counter: 2, Schema: s.hash, At: now,
			Readings: []telemetry.Reading{{Series: 0, Time: now, Value: 0, Quality: telemetry.NewQuality(telemetry.Good, telemetry.ReasonNoAnswer)}, {Series: firstPlain, Time: now, Value: 77}},
		}
		b, err := s.enc.EncodeSnapshot(nil, sn)
		if err != nil {
			t.Fatal(err)
		}
		before := len(r.store.samples)
		r.send(wire.TopicSnapshot, b)
		check := func(what string) {
			t.Helper()
			ss := r.g.Series("e1")
			if v := ss[firstPlain]; v.Value != 77 || !v.Live || v.Time != now {
				t.Errorf("%s: %+v", what, v)
			}
			if d := r.g.Devices("e1")[0]; !d.Known || d.Up || d.Reason != telemetry.ReasonNoAnswer {
				t.Errorf("%s: %+v", what, d)
			}
		}
		check("after the snapshot")
		// The backlog does not take the picture back in time, nor does an older snapshot.
		r.send(wire.TopicFrame, s.frame())
		sn.Counter, sn.Readings[1].Value = 1, 1
		if b, err = s.enc.EncodeSnapshot(b[:0], sn); err != nil {
			t.Fatal(err)
		}
		r.send(wire.TopicSnapshot, b)
		check("after the backlog")
		if n := len(r.store.samples); n != before+1 {
			t.Errorf("%d samples stored", n-before)
		}
		if len(r.rules.lines("e1")) != 4 {
			t.Errorf("the rules heard %q", r.rules.lines("e1"))
		}
	})
}

func TestSnapshotsAreReplacedOnceTheirFramesAreIn(t *testing.T) {
	for name, byGap := range map[string]bool{"the frames come": false, "a gap stands for them": true} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, r *rig, s *source) {
				r.send(wire.TopicFrame, s.frame())
				backlog := [][]byte{s.frame(), s.frame(), s.frame()}
				sn := &wire.Snapshot{
					Epoch: s.epoch, Seq: s.seq, Counter: 1, Schema: s.hash, At: s.w,
					Readings: []telemetry.Reading{{Series: firstPlain, Time: s.w, Value: float64(s.seq)}, {Series: firstPlain + 1, Time: s.w - 100, Value: 7}},
				}
				b, err := s.enc.EncodeSnapshot(nil, sn)
				if err != nil {
					t.Fatal(err)
				}
				r.send(wire.TopicSnapshot, b)
				live := func() int {
					n := 0
					for _, v := range r.g.Series("e1") {
						if v.Live {
							n++
						}
					}
					return n
				}
				for _, p := range backlog[:2] {
					r.send(wire.TopicFrame, p)
					if live() != 2 {
						t.Error("replaced too early")
					}
				}
				if byGap {
					r.send(wire.TopicFrame, s.gap(wire.Pos{Epoch: s.epoch, Seq: s.seq - 1}, wire.Pos{Epoch: s.epoch, Seq: s.seq + 1}))
				} else {
					r.send(wire.TopicFrame, backlog[2])
				}
				if live() != 0 || r.status().Position.Seq != s.seq {
					t.Errorf("%d values stay live at %v", live(), r.status().Position)
				}
				r.send(wire.TopicSnapshot, b) // delivered again, late
				if live() != 0 {
					t.Error("an old snapshot is shown again")
				}
				if n := len(r.store.get("e1", "air_temperature", false)); n != map[bool]int{false: 4, true: 3}[byGap] {
					t.Errorf("%d samples are stored", n)
				}
			})
		})
	}
}
