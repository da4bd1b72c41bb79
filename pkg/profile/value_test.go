package profile_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

func ptr[T any](v T) *T { return &v }

func holding(t profile.Type, more ...func(*profile.Point)) *profile.Point {
	pt := &profile.Point{ID: "p", Quantity: "voltage", Holding: ptr(0), Type: t}
	for _, f := range more {
		f(pt)
	}
	return pt
}

func TestRegistersAreDecodedInEveryTypeAndOrder(t *testing.T) {
	bit := func(n int) func(*profile.Point) { return func(pt *profile.Point) { pt.Bit = &n } }
	own := func(o profile.Order) func(*profile.Point) { return func(pt *profile.Point) { pt.Order = o } }
	length := func(n int) func(*profile.Point) { return func(pt *profile.Point) { pt.Length = n } }
	for name, c := range map[string]struct {
		pt    *profile.Point
		order profile.Order
		regs  []uint16
		raw   float64
		text  string
		err   error
	}{
		"uint16 is what holds when not said":     {pt: holding(""), regs: []uint16{0xFFFE}, raw: 65534},
		"int16":                                  {pt: holding("int16"), regs: []uint16{0xFF05}, raw: -251},
		"uint32 high word first (ORCH S4)":       {pt: holding("uint32"), regs: []uint16{1, 0x87D5}, raw: 100309},
		"uint32 low word first (PZEM)":           {pt: holding("uint32"), order: "cdab", regs: []uint16{0x0E74, 1}, raw: 69236},
		"uint32 badc":                            {pt: holding("uint32"), order: "badc", regs: []uint16{0x0201, 0x0403}, raw: 0x01020304},
		"uint32 dcba":                            {pt: holding("uint32"), order: "dcba", regs: []uint16{0x0403, 0x0201}, raw: 0x01020304},
		"the point's order before the profile's": {pt: holding("uint32", own("abcd")), order: "cdab", regs: []uint16{1, 2}, raw: 65538},
		"int32":                                  {pt: holding("int32"), regs: []uint16{0xFFFF, 0xFFFE}, raw: -2},
		"int64":                                  {pt: holding("int64"), regs: []uint16{0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD}, raw: -3},
		"uint64 low word first":                  {pt: holding("uint64"), order: "cdab", regs: []uint16{4, 3, 2, 0}, raw: 2<<32 + 3<<16 + 4},
		"float32 low word first (Vaisala HMP)":   {pt: holding("float32"), order: "cdab", regs: []uint16{0x7AE1, 0x41F4}, raw: 30.56},
		"float64":                                {pt: holding("float64"), regs: []uint16{0x4003, 0x3333, 0x3333, 0x3333}, raw: 2.4},
		"bcd16":                                  {pt: holding("bcd16"), regs: []uint16{0x1234}, raw: 1234},
		"bcd32":                                  {pt: holding("bcd32"), order: "cdab", regs: []uint16{0x5678, 0x1234}, raw: 12345678},
		"bcd with a letter":                      {pt: holding("bcd16"), regs: []uint16{0x12A4}, err: profile.ErrDigits},
		"lowest bit":                             {pt: holding("", bit(0)), regs: []uint16{0xFFFE}, raw: 0},
		"highest bit":                            {pt: holding("bool", bit(15)), regs: []uint16{0x8000}, raw: 1},
		"bool of a register":                     {pt: holding("bool"), regs: []uint16{0x0100}, raw: 1},
		"a profile's order is not for one word":  {pt: holding("uint16"), order: "badc", regs: []uint16{0x0102}, raw: 0x0102},
		"a point may swap the bytes of one":      {pt: holding("uint16", own("badc")), regs: []uint16{0x0102}, raw: 0x0201},
		"string up to NUL":                       {pt: holding("string", length(4)), order: "cdab", regs: []uint16{0x4142, 0x2043, 0x2000, 0x4444}, text: "AB C"},
		"string with swapped bytes":              {pt: holding("string", length(2), own("badc")), regs: []uint16{0x4241, 0x0043}, text: "ABC"},
		"string that is not UTF-8":               {pt: holding("string", length(1)), regs: []uint16{0x41FF}, text: "A?"},
		"too few registers":                      {pt: holding("uint32"), regs: []uint16{1}, err: profile.ErrWidth},
		"too many registers":                     {pt: holding("uint16"), regs: []uint16{1, 2}, err: profile.ErrWidth},
	} {
		t.Run(name, func(t *testing.T) {
			raw, text, err := profile.Decode(c.pt, c.order, c.regs)
			if !errors.Is(err, c.err) || raw != c.raw || text != c.text {
				t.Errorf("got %v %q %v, want %v %q %v", raw, text, err, c.raw, c.text, c.err)
			}
		})
	}
	if raw, _, err := profile.Decode(holding("float32"), "", []uint16{0x7FC0, 0}); err != nil || !math.IsNaN(raw) {
		t.Error("a NaN is a raw value", raw, err)
	}
}

func TestNumbersGoThroughSentinelScaleRangeAndUnit(t *testing.T) {
	bad := telemetry.BadQuality
	same := driver.Linear{Factor: 1}
	for name, c := range map[string]struct {
		pt   profile.Point
		conv driver.Linear
		raw  float64
		want float64
		q    telemetry.Quality
	}{
		"decimal scale leaves decimal numbers":    {profile.Point{Scale: ptr(0.1)}, same, 283, 28.3, 0},
		"WS90: offset before scale":               {profile.Point{Before: -400, Scale: ptr(0.1)}, same, 613, 21.3, 0},
		"offset after scale":                      {profile.Point{Scale: ptr(0.5), Offset: -40}, same, 10, -35, 0},
		"kPa to hPa":                              {profile.Point{Scale: ptr(0.1)}, driver.Linear{Factor: 10}, 913, 913, 0},
		"sentinel":                                {profile.Point{Sentinels: []float64{32767}}, same, 32767, 0, bad(telemetry.ReasonNotFitted)},
		"sentinel as printed, on a signed one":    {profile.Point{Type: "int16", Sentinels: []float64{0x8000}}, same, -32768, 0, bad(telemetry.ReasonNotFitted)},
		"32-bit sentinel, Lambrecht":              {profile.Point{Type: "int32", Sentinels: []float64{0xFF676981}}, same, -9999999, 0, bad(telemetry.ReasonNotFitted)},
		"too high, in the unit before conversion": {profile.Point{Valid: &profile.Range{Max: ptr(120.0)}}, driver.Linear{Factor: 10}, 130, 1300, bad(telemetry.ReasonOutOfRange)},
		"at the edge of the range":                {profile.Point{Scale: ptr(0.1), Valid: &profile.Range{Min: ptr(0.0), Max: ptr(28.3)}}, same, 283, 28.3, 0},
		"NaN":                                     {profile.Point{}, same, math.NaN(), 0, bad(telemetry.ReasonNonFinite)},
		"NaN with a range":                        {profile.Point{Valid: &profile.Range{Min: ptr(0.0)}}, same, math.NaN(), 0, bad(telemetry.ReasonNonFinite)},
		"infinite by scaling":                     {profile.Point{Scale: ptr(1e308)}, same, 1e10, 0, bad(telemetry.ReasonNonFinite)},
		"rounded":                                 {profile.Point{Decimals: ptr(1)}, same, 27.3499, 27.3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, q := profile.Number(&c.pt, c.conv, c.raw)
			if got != c.want || q != c.q {
				t.Errorf("got %v %v, want %v %v", got, q, c.want, c.q)
			}
		})
	}
}

func TestPayloadValuesBecomeNumbersOrText(t *testing.T) {
	missing, malformed := telemetry.BadQuality(telemetry.ReasonMissing), telemetry.BadQuality(telemetry.ReasonMalformed)
	enum := profile.Point{Enum: map[string]float64{"online": 1, "offline": 0, "true": 7}}
	text := profile.Point{Kind: profile.KindText}
	for name, c := range map[string]struct {
		pt   profile.Point
		in   any
		want float64
		text string
		q    telemetry.Quality
	}{
		"number":                   {in: 2.5, want: 2.5},
		"json.Number":              {in: json.Number("1e3"), want: 1000},
		"text that is a number":    {in: " 19.2\n", want: 19.2},
		"true":                     {in: true, want: 1},
		"false":                    {in: false},
		"word":                     {pt: enum, in: "online", want: 1},
		"true as a word":           {pt: enum, in: true, want: 7},
		"a word that is not known": {pt: enum, in: "stopped", q: malformed},
		"nothing":                  {in: nil, q: missing},
		"empty payload":            {in: "", q: malformed},
		"object":                   {in: map[string]any{}, q: malformed},
		"list":                     {in: []any{1.0}, q: malformed},
		"hexadecimal":              {in: "0x10", q: malformed},
		"underscore":               {in: "1_0", q: malformed},
		"decimal comma":            {in: "1,5", q: malformed},
		"NaN in text":              {in: "nan", q: telemetry.BadQuality(telemetry.ReasonNonFinite)},
		"beyond float64":           {in: json.Number("1e999"), q: telemetry.BadQuality(telemetry.ReasonNonFinite)},
		"text":                     {pt: text, in: "3.1.4", text: "3.1.4"},
		"text of a number":         {pt: text, in: json.Number("1.10"), text: "1.10"},
		"text of a truth value":    {pt: text, in: true, text: "true"},
		"text of an object":        {pt: text, in: map[string]any{}, q: malformed},
		"long text":                {pt: text, in: strings.Repeat("a", 1023) + "é", text: strings.Repeat("a", 1023)},
	} {
		t.Run(name, func(t *testing.T) {
			got, txt, q := profile.Value(&c.pt, driver.Linear{Factor: 1}, c.in)
			if got != c.want || txt != c.text || q != c.q {
				t.Errorf("got %v %q %v", got, txt, q)
			}
		})
	}
}

func TestThePipelineAllocatesNothing(t *testing.T) {
	pt := holding("float32", func(pt *profile.Point) { pt.Scale = ptr(0.1) })
	regs := []uint16{0x41F4, 0x7AE1}
	if n := testing.AllocsPerRun(100, func() {
		raw, _, _ := profile.Decode(pt, "", regs)
		_, _ = profile.Number(pt, driver.Linear{Factor: 1}, raw)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecodeAndNumber(b *testing.B) {
	pt := holding("int16", func(pt *profile.Point) { pt.Scale = ptr(0.1) })
	regs := []uint16{283}
	for b.Loop() {
		raw, _, _ := profile.Decode(pt, "", regs)
		_, _ = profile.Number(pt, driver.Linear{Factor: 1}, raw)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("float32", "cdab", 0, []byte{0x7A, 0xE1, 0x41, 0xF4}, 0.1)
	f.Add("bcd32", "", 0, []byte{0x12, 0x3A, 0, 0}, 1.0)
	f.Add("string", "badc", 2, []byte("abcd"), 1.0)
	f.Add("uint16", "dcba", 0, []byte{1, 2}, -1e300)
	f.Fuzz(func(t *testing.T, typ, order string, length int, data []byte, scale float64) {
		pt := holding(profile.Type(typ))
		pt.Length, pt.Scale = length, &scale
		regs := make([]uint16, len(data)/2)
		for i := range regs {
			regs[i] = uint16(data[2*i])<<8 | uint16(data[2*i+1])
		}
		raw, _, err := profile.Decode(pt, profile.Order(order), regs)
		if err != nil {
			return
		}
		v, q := profile.Number(pt, driver.Linear{Factor: 10, Offset: 1}, raw)
		if (math.IsNaN(v) || math.IsInf(v, 0)) || q.IsBad() && q.Reason() == telemetry.ReasonNone {
			t.Fatalf("%v %v", v, q)
		}
	})
}
