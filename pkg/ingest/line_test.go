package ingest

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/wire"
)

func at(start, random uint32, seq uint64) wire.Pos {
	return wire.Pos{Epoch: wire.Epoch{Instance: wire.Instance{1}, Start: start, Random: random}, Seq: seq}
}

// lineAt makes a line that went through the places.
func lineAt(places ...wire.Pos) *line {
	l := &line{instance: wire.Instance{1}}
	for _, p := range places {
		l.take(&wire.Header{Epoch: p.Epoch, Seq: p.Seq, Sum: uint32(p.Seq)})
	}
	return l
}

func TestWhichFrameFollows(t *testing.T) {
	var zero wire.Pos
	for name, tc := range map[string]struct {
		line  *line
		frame wire.Pos
		prev  wire.Pos
		sum   uint32
		want  verdict
	}{
		"the very first":                          {lineAt(), at(1, 1, 1), zero, 1, next},
		"the first, but something was before":     {lineAt(), at(2, 1, 1), at(1, 1, 9), 1, hole},
		"not the first":                           {lineAt(), at(1, 1, 2), zero, 2, hole},
		"the next":                                {lineAt(at(1, 1, 5)), at(1, 1, 6), zero, 6, next},
		"one too far":                             {lineAt(at(1, 1, 5)), at(1, 1, 7), zero, 7, hole},
		"the same":                                {lineAt(at(1, 1, 5)), at(1, 1, 5), zero, 5, duplicate},
		"the same number, another frame":          {lineAt(at(1, 1, 5)), at(1, 1, 5), zero, 77, fork},
		"an old one":                              {lineAt(at(1, 1, 5)), at(1, 1, 2), zero, 77, duplicate},
		"the next epoch":                          {lineAt(at(1, 1, 5)), at(2, 4, 1), at(1, 1, 5), 1, next},
		"the next epoch, a tail was lost":         {lineAt(at(1, 1, 5)), at(2, 4, 1), at(1, 1, 3), 1, next},
		"the next epoch, frames missing":          {lineAt(at(1, 1, 5)), at(2, 4, 1), at(1, 1, 6), 1, hole},
		"an epoch later, one between":             {lineAt(at(1, 1, 5)), at(3, 4, 1), at(2, 2, 6), 1, hole},
		"an epoch was lost whole":                 {lineAt(at(1, 1, 5), at(2, 2, 3)), at(3, 3, 1), at(1, 1, 5), 1, next},
		"an epoch before":                         {lineAt(at(1, 1, 5), at(2, 2, 3)), at(1, 1, 6), zero, 6, duplicate},
		"a copy started as often":                 {lineAt(at(1, 1, 5), at(2, 2, 3)), at(2, 9, 1), at(1, 1, 5), 1, fork},
		"a copy started less often":               {lineAt(at(1, 1, 5), at(2, 2, 3), at(3, 3, 1)), at(2, 9, 4), zero, 4, fork},
		"a copy started more often":               {lineAt(at(1, 1, 5), at(2, 2, 3)), at(3, 9, 1), at(2, 9, 8), 1, fork},
		"a copy whose epochs are empty but one":   {lineAt(at(1, 1, 5), at(2, 2, 3), at(3, 3, 1)), at(4, 9, 1), at(2, 9, 8), 1, fork},
		"the log begins anew under the same name": {lineAt(at(1, 1, 5)), at(2, 2, 1), zero, 1, hole},
		"before what is remembered":               {lineAt(at(5, 1, 5)), at(3, 2, 9), zero, 9, duplicate},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.line.frame(&wire.Header{Epoch: tc.frame.Epoch, Seq: tc.frame.Seq, Prev: tc.prev, Sum: tc.sum}); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

func TestWhichGapFollows(t *testing.T) {
	var zero wire.Pos
	for name, tc := range map[string]struct {
		line        *line
		after, next wire.Pos
		want        verdict
	}{
		"nothing known, nothing before":      {lineAt(), zero, at(3, 1, 9), next},
		"nothing known, from the middle":     {lineAt(), at(1, 1, 5), at(1, 1, 9), hole},
		"from the place":                     {lineAt(at(1, 1, 5)), at(1, 1, 5), at(1, 1, 9), next},
		"from before the place":              {lineAt(at(1, 1, 5)), at(1, 1, 3), at(1, 1, 9), next},
		"from beyond the place":              {lineAt(at(1, 1, 5)), at(1, 1, 7), at(1, 1, 9), hole},
		"that ends at the place":             {lineAt(at(1, 1, 5)), at(1, 1, 3), at(1, 1, 6), duplicate},
		"into a later epoch":                 {lineAt(at(1, 1, 5)), at(1, 1, 5), at(3, 3, 1), next},
		"that begins the log":                {lineAt(at(1, 1, 5)), zero, at(2, 3, 1), next},
		"from an epoch between":              {lineAt(at(1, 1, 5)), at(2, 2, 5), at(3, 3, 1), hole},
		"of a copy":                          {lineAt(at(1, 1, 5), at(2, 2, 5)), at(2, 9, 5), at(3, 3, 1), fork},
		"into a copy":                        {lineAt(at(1, 1, 5), at(2, 2, 5)), at(1, 1, 5), at(2, 9, 9), fork},
		"over an epoch that the hub has got": {lineAt(at(1, 1, 5), at(2, 2, 5)), at(1, 1, 5), at(3, 3, 4), next},
	} {
		t.Run(name, func(t *testing.T) {
			l := tc.line
			g := &wire.Gap{After: tc.after, Next: tc.next}
			if got := l.gap(g); got != tc.want {
				t.Fatalf("%d, want %d", got, tc.want)
			}
			if tc.want != next {
				return
			}
			l.skip(g.Taken())
			if l.gap(g) != duplicate || l.frame(&wire.Header{Epoch: tc.next.Epoch, Seq: tc.next.Seq}) != next {
				t.Error("it does not go on after the gap")
			}
		})
	}
}

func TestALineForgetsOldEpochs(t *testing.T) {
	l := lineAt()
	for i := range uint32(200) {
		l.take(&wire.Header{Epoch: at(i+1, i, 1).Epoch, Seq: 1})
	}
	if len(l.runs) != maxRuns || l.runs[maxRuns-1].start != 200 {
		t.Errorf("%v", l.runs)
	}
	if v := l.frame(&wire.Header{Epoch: at(5, 99, 1).Epoch, Seq: 1}); v != duplicate {
		t.Errorf("%d", v)
	}
}

func TestStateSurvives(t *testing.T) {
	d := durable{
		line: *lineAt(at(1, 2, 3), at(4, 5, 6)), hasW: true, w: -5, wEpoch: at(4, 5, 0).Epoch, era: 7, claim: "24848", schema: wire.Hash{1, 2},
		onTime: []uint8{0, 0, 0, 128, noQuality, noQuality}, late: []uint8{noQuality, noQuality, noQuality, noQuality, noQuality, 3},
	}
	var got durable
	if err := got.decode(d.encode(nil)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d, got) {
		t.Errorf("%+v\n%+v", d, got)
	}
	b := d.encode(nil)
	b[0] = 2
	if err := got.decode(b); !errors.Is(err, errState) {
		t.Errorf("a damaged version was read: %v", err)
	}
	b[0] = refusedVersion + 1
	if err := got.decode(b); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "(format 3, this one knows up to 2)") {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzState(f *testing.F) {
	d := durable{line: *lineAt(at(1, 2, 3)), onTime: []uint8{0, 1}, late: []uint8{0, 1}}
	f.Add(d.encode(nil))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, again durable
		if d.decode(b) != nil {
			return
		}
		if err := again.decode(d.encode(nil)); err != nil || !reflect.DeepEqual(d, again) {
			t.Errorf("%v: %+v, then %+v", err, d, again)
		}
	})
}
