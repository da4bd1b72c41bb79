package profile

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// PointError is one fault of a point, a revision or a parameter. Field is the
// key where it stands, dotted when it is below another: "quantity",
// "valid.max", "with.camera"; empty for the point as a whole.
type PointError struct{ Field, Msg, Hint string }

// Error returns the fault on one line.
func (e PointError) Error() string {
	s := e.Msg
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// FieldErrors are the faults of what a device asks of its profile.
type FieldErrors []PointError

// Error returns the faults, one on a line.
func (e FieldErrors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// The bounds of a point.
const (
	registers      = 65536
	maxStringWidth = 125
	maxDecimals    = 9
	maxTopicLen    = 1024
)

var (
	types  = []string{"bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bcd16", "bcd32", "string"}
	orders = []string{"abcd", "cdab", "badc", "dcba"}

	cameraWords = []string{
		CameraAnswerTime, CameraCodec, CameraFrameRate, CameraBitRate, CameraPictureSize, CameraPictureAge, CameraDark, CameraFrozen,
	}
)

// Protocol returns modbus, mqtt or camera, by where the point says it is read from, or
// "" when it says nothing.
func (p *Point) Protocol() string {
	if a, _ := p.Area(); a != AreaNone {
		return ProtocolModbus
	}
	if p.Topic != "" {
		return ProtocolMQTT
	}
	if p.Camera != "" {
		return ProtocolCamera
	}
	return ""
}

// OfStream reports whether a point of a camera comes from its stream, and not
// from its snapshot.
func (p *Point) OfStream() bool {
	switch p.Camera {
	case CameraAnswerTime, CameraCodec, CameraFrameRate, CameraBitRate:
		return true
	}
	return false
}

// Conversion returns the linear function from the point's unit to its
// quantity's canonical one. It is not ok when [CheckPoint] would object.
func (p *Point) Conversion(q telemetry.Quantities) (factor, offset float64, ok bool) {
	known, ok := q[p.Quantity]
	if !ok {
		return 0, 0, false
	}
	if p.Unit == "" {
		return 1, 0, true
	}
	return telemetry.ConvertUnit(p.Unit, known.Unit)
}

// checker gathers the faults of one point.
type checker struct {
	pt   *Point
	errs []PointError
}

func (c *checker) fail(field, hint, format string, args ...any) {
	c.errs = append(c.errs, PointError{field, fmt.Sprintf(format, args...), hint})
}

func (c *checker) among(field, what, word string, known []string) {
	if !slices.Contains(known, word) {
		hint := strictyaml.Meant(word, known)
		c.fail(field, hint, "unknown %s %q", what, word)
	}
}

// CheckPoint returns all faults of a point, of a profile or given inline in
// edge.yaml: that it has an id and a known quantity, exactly one place to be
// read from, an address within its Modbus area, a type, order, unit, scale and
// range that make sense together.
func CheckPoint(pt *Point, q telemetry.Quantities) []PointError {
	c := &checker{pt: pt}
	if msg, hint := checkName(pt.ID); msg != "" {
		c.fail("id", hint, "%s", msg)
	} else if pt.ID == telemetry.QuantityDeviceUp {
		c.fail("id", "choose another", "%q is the agent's own point", pt.ID)
	}
	c.quantity(q)
	c.source()
	c.value()
	c.further(q)
	return c.errs
}

// checkName checks an id that becomes a label value and stands in addresses.
func checkName(id string) (msg, hint string) {
	const hintName = "use a-z, 0-9, _, - and ., beginning with a letter or digit"
	switch {
	case id == "":
		return "must be set", ""
	case len(id) > telemetry.MaxNameLen:
		return fmt.Sprintf("%d characters; at most %d", len(id), telemetry.MaxNameLen), ""
	}
	for i, r := range id {
		word := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !word && (i == 0 || !strings.ContainsRune("_-.", r)) {
			return fmt.Sprintf("bad name %q", id), hintName
		}
	}
	return "", ""
}

func (c *checker) quantity(q telemetry.Quantities) {
	pt := c.pt
	if pt.Kind != "" {
		c.among("kind", "kind", pt.Kind, []string{KindNumber, KindText})
	}
	known, ok := q[pt.Quantity]
	switch {
	case pt.Quantity == "":
		c.fail("quantity", "name one of the catalogue", "must be set")
		return
	case pt.Quantity == telemetry.QuantityDeviceUp || pt.Quantity == telemetry.QuantityReadingQuality:
		c.fail("quantity", "choose another", "%q is written by Langbiang itself", pt.Quantity)
		return
	case !ok:
		c.fail("quantity", nearQuantity(pt.Quantity, q), "unknown quantity %q", pt.Quantity)
		return
	}
	if pt.Unit == "" {
		return
	}
	if pt.IsText() {
		c.fail("unit", "leave it away", "text has no unit")
		return
	}
	if _, _, ok := telemetry.ConvertUnit(pt.Unit, known.Unit); ok {
		return
	}
	hint := fmt.Sprintf("write %q", known.Unit)
	if like := telemetry.UnitsLike(known.Unit); len(like) > 1 {
		hint = "write one of " + strings.Join(like, " ")
	}
	if telemetry.KnownUnit(pt.Unit) {
		c.fail("unit", hint, "%q does not convert into %s, the unit of %s", pt.Unit, unitName(known.Unit), pt.Quantity)
		return
	}
	fitting := slices.DeleteFunc(telemetry.UnitNames(), func(u string) bool {
		_, _, ok := telemetry.ConvertUnit(u, known.Unit)
		return !ok
	})
	if near := strictyaml.Nearest(pt.Unit, fitting); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	c.fail("unit", hint, "unknown unit %q", pt.Unit)
}

func unitName(u string) string {
	if u == "" || u == "1" {
		return "a plain number"
	}
	return u
}

func nearQuantity(word string, q telemetry.Quantities) string {
	ids := make([]string, 0, len(q))
	for id := range q {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return strictyaml.Meant(word, ids)
}

// source checks where the point is read from.
func (c *checker) source() {
	pt := c.pt
	var named []string
	areas := []struct {
		name string
		addr *int
		bits bool
	}{{"coil", pt.Coil, true}, {"discrete", pt.Discrete, true}, {"holding", pt.Holding, false}, {"input", pt.Input, false}}
	for _, a := range areas {
		if a.addr == nil {
			continue
		}
		named = append(named, a.name)
		c.address(a.name, *a.addr, a.bits)
	}
	if pt.Topic != "" {
		named = append(named, "topic")
		if msg := checkFilter(pt.Topic); msg != "" {
			c.fail("topic", "", "%s", msg)
		}
	}
	if pt.Camera != "" {
		named = append(named, "camera")
		c.among("camera", "measure of a camera", pt.Camera, cameraWords)
		if text := pt.Camera == CameraCodec; text != pt.IsText() && slices.Contains(cameraWords, pt.Camera) {
			c.fail("kind", "write kind: text for codec, and for nothing else", "%s is no %s", pt.Camera, cmp.Or(pt.Kind, KindNumber))
		}
	}
	switch {
	case len(named) == 0:
		c.fail("", "name one of coil, discrete, holding, input (Modbus), topic (MQTT) or camera", "says nowhere to read it from")
		return
	case len(named) > 1:
		c.fail(named[1], "keep one", "read from %s at once", strings.Join(named, " and "))
	}
	switch pt.Protocol() {
	case ProtocolMQTT:
		c.mqttOnly()
		return
	case ProtocolCamera:
		c.noRegister("a camera")
	}
	if pt.Path != "" {
		c.fail("path", "leave it away", "a path is for a topic")
	}
}

func (c *checker) mqttOnly() {
	pt := c.pt
	if _, err := ParsePath(pt.Path); err != nil && !strings.Contains(pt.Path, "{") {
		c.fail("path", "", "%s", err)
	}
	c.noRegister("a topic")
}

// noRegister refuses what only a register has.
func (c *checker) noRegister(what string) {
	pt := c.pt
	for _, f := range []struct {
		name string
		set  bool
	}{{"type", pt.Type != ""}, {"order", pt.Order != ""}, {"bit", pt.Bit != nil}, {"length", pt.Length != 0}} {
		if f.set {
			c.fail(f.name, "leave it away", "%s is for registers, not for %s", f.name, what)
		}
	}
}

// address checks the place of a Modbus point, with its type and width.
func (c *checker) address(area string, addr int, bits bool) {
	pt := c.pt
	if addr < 0 || addr >= registers {
		hint := "addresses count from 0 to 65535, as they go on the wire"
		if addr >= 100_000 {
			hint += "; put the document's number under doc"
		}
		c.fail(area, hint, "address %d is outside the area", addr)
		return
	}
	if bits {
		if pt.Type != "" && pt.Type != TypeBool {
			c.fail("type", "leave it away", "a %s is a bool, not %s", area, pt.Type)
		}
		if pt.Bit != nil {
			c.fail("bit", "leave it away", "a %s has no bits", area)
		}
		if pt.Order != "" {
			c.fail("order", "leave it away", "a %s has no order", area)
		}
		if pt.Length != 0 {
			c.fail("length", "leave it away", "length is for the type string")
		}
		return
	}
	if pt.Type != "" {
		c.among("type", "type", string(pt.Type), types)
	}
	if pt.Order != "" {
		c.among("order", "order", string(pt.Order), orders)
		if (pt.Width() == 1 || pt.Type == TypeString) && (pt.Order == OrderCDAB || pt.Order == OrderDCBA) {
			c.fail("order", "badc swaps the bytes of each register", "%s has no order of words", pt.RawType())
		}
	}
	if pt.Type == TypeString {
		if pt.Length < 1 || pt.Length > maxStringWidth {
			c.fail("length", "", "a string has 1 to %d registers, not %d", maxStringWidth, pt.Length)
			return
		}
	} else if pt.Length != 0 {
		c.fail("length", "leave it away", "length is for the type string")
	}
	if pt.Bit != nil {
		if pt.Type != "" && pt.Type != TypeBool {
			c.fail("type", "leave it away", "a bit is a bool, not %s", pt.Type)
		} else if *pt.Bit < 0 || *pt.Bit > 15 {
			c.fail("bit", "0 is the lowest, 15 the highest", "bit %d of a register", *pt.Bit)
		}
	}
	if w := pt.Width(); addr+w > registers {
		c.fail(area, "", "%s takes %d registers from %d on, beyond the last, %d", pt.RawType(), w, addr, registers-1)
	}
}

// value checks what happens to the raw value.
func (c *checker) value() {
	pt := c.pt
	if pt.IsText() {
		c.text()
		return
	}
	if pt.Type == TypeString {
		c.fail("kind", "write text", "a string of registers is text")
	}
	if pt.Scale != nil && *pt.Scale == 0 {
		c.fail("scale", "leave it away for 1", "a scale of 0 makes every value 0")
	}
	if v := pt.Valid; v != nil {
		switch {
		case v.Min == nil && v.Max == nil:
			c.fail("valid", "write {min: 0, max: 100}", "neither min nor max")
		case v.Min != nil && v.Max != nil && *v.Min > *v.Max:
			c.fail("valid.max", "", "the greatest valid value, %v, is below the least, %v", *v.Max, *v.Min)
		}
	}
	if pt.Decimals != nil && (*pt.Decimals < 0 || *pt.Decimals > maxDecimals) {
		c.fail("decimals", "", "%d is outside 0 to %d", *pt.Decimals, maxDecimals)
	}
	low, high := pt.rawRange()
	for i, s := range pt.Sentinels {
		if x := pt.signed(s); x < low || x > high || pt.Type != TypeFloat64 && pt.Type != TypeFloat32 && pt.Protocol() == ProtocolModbus && x != math.Trunc(x) {
			c.fail(fmt.Sprintf("sentinels[%d]", i), "a sentinel is compared with the raw value, before scaling", "%v is no value of %s", s, pt.RawType())
		}
	}
	c.interval()
}

// rawRange returns which raw values the type has.
func (p *Point) rawRange() (low, high float64) {
	if p.Protocol() == ProtocolModbus {
		switch p.RawType() {
		case TypeBool:
			return 0, 1
		case TypeInt16:
			return math.MinInt16, math.MaxInt16
		case TypeUint16:
			return 0, math.MaxUint16
		case TypeInt32:
			return math.MinInt32, math.MaxInt32
		case TypeUint32:
			return 0, math.MaxUint32
		case TypeUint64:
			return 0, math.MaxUint64
		case TypeBCD16:
			return 0, 9999
		case TypeBCD32:
			return 0, 99_999_999
		}
	}
	return -math.MaxFloat64, math.MaxFloat64
}

func (c *checker) text() {
	pt := c.pt
	if pt.Protocol() == ProtocolModbus && pt.Type != TypeString {
		c.fail("kind", "write type: string and length:, or leave kind away", "text of registers has the type string")
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"before", pt.Before != 0},
		{"scale", pt.Scale != nil},
		{"offset", pt.Offset != 0},
		{"enum", len(pt.Enum) > 0},
		{"sentinels", len(pt.Sentinels) > 0},
		{"valid", pt.Valid != nil},
		{"decimals", pt.Decimals != nil},
	} {
		if f.set {
			c.fail(f.name, "leave it away, or take kind: number", "%s is for numbers", f.name)
		}
	}
	c.interval()
}

func (c *checker) interval() {
	if c.pt.Interval < 0 {
		c.fail("interval", "", "a negative interval")
	}
}

// checkFilter checks an MQTT topic filter.
func checkFilter(t string) string {
	switch {
	case len(t) > maxTopicLen:
		return fmt.Sprintf("a topic of %d bytes; at most %d", len(t), maxTopicLen)
	case strings.ContainsRune(t, 0):
		return "a topic with a NUL character"
	}
	levels := strings.Split(t, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) {
			return fmt.Sprintf("bad topic %q: # stands alone in the last level", t)
		}
		if strings.Contains(l, "+") && l != "+" {
			return fmt.Sprintf("bad topic %q: + stands alone in its level", t)
		}
	}
	return ""
}
