package wire

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testBands() *Bands {
	return &Bands{Schema: Hash{4}, Bands: []Band{
		{0, []float64{35}}, {1, []float64{-5, 35, 40.5}}, {7, []float64{35}}, {99_999, []float64{math.Copysign(0, -1)}},
	}}
}

func TestBandsSurvive(t *testing.T) {
	for _, want := range []*Bands{testBands(), {}} {
		p, err := EncodeBands(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		var got Bands
		if err := DecodeBands(p, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want.Bands, got.Bands); d != "" || want.Schema != got.Schema {
			t.Error(d)
		}
		if BandsID(p) == 0 {
			t.Error("no id")
		}
	}
}

func TestBandsThatMeanNothingAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Bands){
		"series twice":         func(b *Bands) { b.Bands[1].Series = 0 },
		"series out of range":  func(b *Bands) { b.Bands[3].Series = 100_000 },
		"no limits":            func(b *Bands) { b.Bands[0].Limits = nil },
		"limits out of order":  func(b *Bands) { b.Bands[1].Limits = []float64{3, 2} },
		"a limit not a number": func(b *Bands) { b.Bands[0].Limits = []float64{math.NaN()} },
		"an infinite limit":    func(b *Bands) { b.Bands[0].Limits = []float64{1, math.Inf(1)} },
		"too many limits":      func(b *Bands) { b.Bands[0].Limits = make([]float64, MaxLimits+1) },
	} {
		b := testBands()
		change(b)
		if _, err := EncodeBands(nil, b); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeBands(f *testing.F) {
	p, err := EncodeBands(nil, testBands())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var b, again Bands
		if !known(t, DecodeBands(resealed(payload, KindBands), &b)) {
			return
		}
		p, err := EncodeBands(nil, &b)
		if err != nil {
			t.Fatal(err)
		}
		if err := DecodeBands(p, &again); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b.Bands, again.Bands); d != "" {
			t.Fatal(d)
		}
	})
}
