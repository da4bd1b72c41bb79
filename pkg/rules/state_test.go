package rules

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

const rememberingKinds = `
- {id: mean, watch: {quantity: pm2_5}, window: {mean: 40ms, step: 10ms}, above: {warning: {limit: 50, clear: 45}}}
- {id: rate, watch: {quantity: pm2_5}, rate: {over: 40ms, per: 10ms, step: 10ms}, below: {info: {limit: -1}}}
- {id: flat, watch: {quantity: pm2_5}, flatline: {epsilon: 1, info: {for: 30ms}}}
- {id: silent, watch: {quantity: pm2_5}, no_data: {warning: {for: 50ms}}}
`

func rememberUpTo1101(f *Fold) {
	f.Advance(1000)
	for i := range int64(12) {
		f.Observe(0, 1001+i*9, float64(40+i*3), good)
	}
	f.Observe(1, 1005, 7.5, good)
	f.Observe(1, 1030, 7.5, telemetry.BadQuality(telemetry.ReasonNoAnswer))
	f.Advance(1101)
}

func goOnAfter1101(f *Fold) {
	f.Observe(0, 1102, 20, good)
	f.Observe(0, 1140, 20, good)
	f.Observe(1, 1135, 7.25, good)
	f.Advance(1200)
}

// Format 4 was the last that was written whole at every checkpoint.
func TestStateOfFormat4GoesOnWhereItStood(t *testing.T) {
	saved, err := os.ReadFile("testdata/state/format4")
	if err != nil {
		t.Fatal(err)
	}
	e, r := newTest(t, rememberingKinds)
	f := openFold(t, e, nil, pm("a"), pm("b"))
	rememberUpTo1101(f)
	r.take()
	goOnAfter1101(f)
	want := r.take()
	f = openFold(t, e, saved, pm("a"), pm("b"))
	goOnAfter1101(f)
	if len(want) < 5 {
		t.Errorf("only %v happens", want)
	}
	r.expect(t, want...)
}

func TestChangesAreSavedAndNowAndThenAWhole(t *testing.T) {
	e, _ := newTest(t, "- {id: mean, watch: {quantity: pm2_5}, window: {mean: 24s}, above: {warning: {limit: 50}}}\n- {id: flat, watch: {quantity: pm2_5}, flatline: {epsilon: 1, info: {for: 30s}}}\n")
	var list []telemetry.BoundSeries
	for i := range 50 {
		list = append(list, pm(fmt.Sprintf("d%d", i)))
	}
	f := openFold(t, e, nil, list...)
	f.Advance(1000)
	var saved []byte
	wholes, most := 0, 0
	size := len(f.Save(nil))
	for n := range int64(400) {
		f.Observe(uint32(n%50), 1001+n, float64(n%7), good)
		f.Advance(1001 + n)
		part, whole := f.SaveChanges(nil)
		if whole {
			saved, size = nil, len(part)
			wholes++
		} else if len(part) > size/10 {
			t.Errorf("%d bytes for one series, the whole of 50 takes %d", len(part), size)
		}
		saved = append(saved, part...)
		most = max(most, len(saved))
	}
	if wholes == 0 || wholes > 10 || most > changesAtLeast+(changesPerWhole+2)*size {
		t.Errorf("%d wholes in 400 parts, at most %d bytes, a whole takes %d", wholes, most, size)
	}
	again := openFold(t, e, saved, list...)
	if !bytes.Equal(again.Save(nil), f.Save(nil)) {
		t.Error("what was saved is not what there is")
	}
}

func TestNumbersAreSavedExactly(t *testing.T) {
	for _, v := range []float64{0, math.Copysign(0, -1), 1, -1, 21.5, 0.1, -0.001, 1013.25, 1e6, 123456.789, 1e15, 1e16, 1 << 53, -(1 << 53), math.Pi, 1e-9, 1e300, math.SmallestNonzeroFloat64, math.MaxFloat64, math.Inf(1), math.Inf(-1)} {
		b := appendNumber(nil, v)
		d := stateReader{b: b}
		if got := d.number(); d.bad || len(d.b) > 0 || math.Float64bits(got) != math.Float64bits(v) {
			t.Errorf("%v is saved as %x and read as %v", v, b, got)
		}
	}
	if n := len(appendNumber(nil, 21.5)); n > 3 {
		t.Errorf("21.5 takes %d bytes", n)
	}
}

func TestStateOfANewerProgramIsRefusedAsSuch(t *testing.T) {
	e := NewEngine(nil, func(alert.Transition) {})
	_, err := e.Open("e1", []byte{stateFormat + 1, 0, 0})
	if !errors.Is(err, ErrState) || !bytes.Contains([]byte(err.Error()), []byte("newer langbiang-hub (format")) {
		t.Errorf("error %v", err)
	}
}

func FuzzSavedParts(f *testing.F) {
	e, _ := newTest(f, rememberingKinds)
	fold := openFold(f, e, nil, pm("a"), pm("b"))
	f.Add(fold.Save(nil))
	rememberUpTo1101(fold)
	saved := fold.Save(nil)
	f.Add(bytes.Clone(saved))
	goOnAfter1101(fold)
	saved, _ = fold.SaveChanges(saved)
	f.Add(saved)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, _ := newTest(t, rememberingKinds)
		fold, err := e.Open("e1", data)
		if err != nil {
			return
		}
		fold.Bind([]telemetry.BoundSeries{pm("a"), pm("c")})
		w := max(fold.Watermark(), 0)
		fold.Observe(0, w+1, 200, good)
		fold.Advance(w + 100)
		saved := fold.Save(nil)
		fold.Observe(0, w+150, 20, good)
		fold.Advance(w + 200)
		saved, _ = fold.SaveChanges(saved)
		again, err := e.Open("e1", saved)
		if err != nil {
			t.Fatalf("what was saved cannot be opened: %v", err)
		}
		again.Bind([]telemetry.BoundSeries{pm("a")})
	})
}
