package strictyaml

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NodeUnmarshaler is for a type that reads its own part of a document; it finds
// it with the document's methods under the path that it is given.
type NodeUnmarshaler interface {
	UnmarshalYAMLNode(d *Document, path []any) Errors
}

// Decode reads the document into what out points to and returns all faults in
// order of their places. Where there is a fault the field keeps what it had;
// everything else is set.
func (d *Document) Decode(out any) Errors {
	c := decoder{doc: d, fields: map[reflect.Type][]field{}, errs: slices.Clone(d.faults)}
	v := reflect.ValueOf(out)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic("strictyaml: Decode wants a pointer that is not nil")
	}
	c.decode(d.root, v.Elem(), false)
	if len(c.errs) == 0 {
		return nil
	}
	return c.errs.sorted()
}

// DecodeAt is Decode for what stands at a path; nothing happens when nothing
// does. It reports the faults below the path only.
func (d *Document) DecodeAt(path []any, out any) Errors {
	n, _, ok := d.find(path)
	if !ok {
		return nil
	}
	c := decoder{doc: d, fields: map[reflect.Type][]field{}, path: slices.Clone(path)}
	c.decode(n, reflect.ValueOf(out).Elem(), false)
	if len(c.errs) == 0 {
		return nil
	}
	return c.errs.sorted()
}

type decoder struct {
	doc    *Document
	path   []any
	errs   Errors
	fields map[reflect.Type][]field
}

func (c *decoder) fail(p Pos, msg, hint string) {
	if len(c.errs) < maxFaults {
		c.errs = append(c.errs, Error{Pos: p, Path: PathString(c.path...), Msg: msg, Hint: hint})
	}
}

var (
	typeDuration = reflect.TypeFor[time.Duration]()
	typeSize     = reflect.TypeFor[Size]()
	typeText     = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeNode     = reflect.TypeFor[NodeUnmarshaler]()
)

func (c *decoder) decode(n *node, v reflect.Value, text bool) {
	if n.kind == kindFaulty {
		return
	}
	if reflect.PointerTo(v.Type()).Implements(typeNode) && v.CanAddr() {
		c.errs = append(c.errs, v.Addr().Interface().(NodeUnmarshaler).UnmarshalYAMLNode(c.doc, slices.Clone(c.path))...)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if n.kind == kindNull {
			return
		}
		if v.IsNil() {
			fresh := reflect.New(v.Type().Elem())
			before := len(c.errs)
			c.decode(n, fresh.Elem(), text)
			if scalarType(v.Type().Elem()) && len(c.errs) > before {
				return
			}
			v.Set(fresh)
			return
		}
		c.decode(n, v.Elem(), text)
		return
	case reflect.Interface:
		if n.kind != kindNull && v.NumMethod() == 0 {
			if x := c.free(n); x != nil {
				v.Set(reflect.ValueOf(x))
			}
		}
		return
	}
	if scalarType(v.Type()) {
		c.scalar(n, v, text)
		return
	}
	if n.kind == kindNull {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if c.expect(n, kindMapping, "keys and values") {
			c.object(n, v)
		}
	case reflect.Map:
		if c.expect(n, kindMapping, "keys and values") {
			c.mapping(n, v, text)
		}
	case reflect.Slice:
		if c.expect(n, kindList, "a list") {
			list := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
			for i, item := range n.items {
				c.within(i, func() { c.decode(item, list.Index(i), text) })
			}
			v.Set(list)
		}
	default:
		panic("strictyaml: cannot decode into " + v.Type().String())
	}
}

func scalarType(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(typeText) {
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}

func (c *decoder) within(step any, f func()) {
	c.path = append(c.path, step)
	f()
	c.path = c.path[:len(c.path)-1]
}

func (c *decoder) expect(n *node, k nodeKind, what string) bool {
	if n.kind == k {
		return true
	}
	hint := ""
	if k == kindList {
		hint = `write "- " before each entry, or [a, b]`
	}
	c.fail(n.pos, "expected "+what+", here stands "+describe(n), hint)
	return false
}

// describe says what stands in the file.
func describe(n *node) string {
	switch n.kind {
	case kindNull:
		return "nothing"
	case kindMapping:
		return "a group of keys"
	case kindList:
		return "a list"
	}
	if !n.quoted {
		switch resolve(n.text) {
		case scalarInt, scalarFloat:
			return "the number " + clip(n.text)
		case scalarBool:
			return clip(n.text)
		}
	}
	return "the text " + strconv.Quote(clip(n.text))
}

func (c *decoder) object(n *node, v reflect.Value) {
	fields := c.fieldsOf(v.Type())
	for i, k := range n.keys {
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == k.name })
		c.within(k.name, func() {
			if at < 0 {
				names := make([]string, len(fields))
				for j, f := range fields {
					names[j] = f.name
				}
				hint := decimalComma(n, i)
				if hint == "" {
					hint = Meant(k.name, names)
				}
				c.fail(k.pos, "unknown key", hint)
				return
			}
			c.decode(n.items[i], v.FieldByIndex(fields[at].index), fields[at].text)
		})
	}
}

// decimalComma recognises {scale: 0,1}, which YAML reads as two keys.
func decimalComma(n *node, i int) string {
	if i == 0 || n.items[i].kind != kindNull || strings.Trim(n.keys[i].name, "0123456789") != "" {
		return ""
	}
	if before := n.items[i-1]; before.kind == kindScalar && !before.quoted && resolve(before.text) == scalarInt {
		return "the decimal sign is a point: " + clip(before.text+"."+n.keys[i].name)
	}
	return ""
}

func (c *decoder) mapping(n *node, v reflect.Value, text bool) {
	m := reflect.MakeMapWithSize(v.Type(), len(n.keys))
	for i, k := range n.keys {
		c.within(k.name, func() {
			elem := reflect.New(v.Type().Elem()).Elem()
			before := len(c.errs)
			c.decode(n.items[i], elem, text)
			if len(c.errs) == before || !scalarType(elem.Type()) {
				m.SetMapIndex(reflect.ValueOf(k.name).Convert(v.Type().Key()), elem)
			}
		})
	}
	v.Set(m)
}

type field struct {
	name  string
	text  bool
	index []int
}

func (c *decoder) fieldsOf(t reflect.Type) []field {
	fs, ok := c.fields[t]
	if !ok {
		fs = fieldsOf(t)
		c.fields[t] = fs
	}
	return fs
}

func fieldsOf(t reflect.Type) (fs []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case options == "inline" && f.Type.Kind() == reflect.Struct && (f.Anonymous || f.IsExported()):
			for _, in := range fieldsOf(f.Type) {
				fs = append(fs, field{in.name, in.text, append([]int{i}, in.index...)})
			}
		case name != "" && f.IsExported():
			fs = append(fs, field{name, options == "text", []int{i}})
		}
	}
	return fs
}

func (c *decoder) scalar(n *node, v reflect.Value, text bool) {
	want := wanted(v.Type())
	if n.kind != kindScalar {
		c.fail(n.pos, "expected "+want+", here stands "+describe(n), "")
		return
	}
	kind := scalarText
	if !n.quoted {
		kind = resolve(n.text)
	}
	wrong := func(hint string) { c.fail(n.pos, "expected "+want+", here stands "+describe(n), hint) }
	switch {
	case v.Type() == typeDuration:
		d, err := parseDuration(n.text)
		if err != nil {
			c.fail(n.pos, fmt.Sprintf("bad duration %q", clip(n.text)), hintDuration)
			return
		}
		v.SetInt(int64(d))
	case v.Type() == typeSize:
		s, err := parseSize(n.text)
		if err != nil {
			c.fail(n.pos, fmt.Sprintf("bad size %q", clip(n.text)), hintSize)
			return
		}
		v.SetInt(int64(s))
	case reflect.PointerTo(v.Type()).Implements(typeText):
		fresh := reflect.New(v.Type())
		if err := fresh.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.text)); err != nil {
			c.fail(n.pos, err.Error(), "")
			return
		}
		v.Set(fresh.Elem())
	case v.Kind() == reflect.String:
		if kind != scalarText && !text {
			wrong("quote it: " + strconv.Quote(clip(n.text)))
			return
		}
		v.SetString(n.text)
	case v.Kind() == reflect.Bool:
		if kind != scalarBool {
			wrong("write true or false")
			return
		}
		v.SetBool(strings.EqualFold(n.text, "true"))
	case v.CanFloat():
		x, ok := c.float(n, kind, wrong)
		if ok {
			v.SetFloat(x)
		}
	default:
		c.integer(n, kind, v, wrong)
	}
}

func wanted(t reflect.Type) string {
	switch {
	case t == typeDuration:
		return "a duration such as 5s"
	case t == typeSize:
		return "a size such as 64MiB"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "a number"
	case reflect.PointerTo(t).Implements(typeText):
		return "a value"
	}
	return "a whole number"
}

func (c *decoder) float(n *node, kind scalarKind, wrong func(string)) (float64, bool) {
	if kind != scalarInt && kind != scalarFloat {
		hint := ""
		if n.quoted && resolve(n.text) >= scalarInt {
			hint = "take the quotes away"
		} else if strings.Count(n.text, ",") == 1 && resolve(strings.Replace(n.text, ",", ".", 1)) == scalarFloat {
			hint = "the decimal sign is a point: " + clip(strings.Replace(n.text, ",", ".", 1))
		}
		wrong(hint)
		return 0, false
	}
	if leadingZero(n.text) && kind == scalarInt {
		c.fail(n.pos, "a number with a leading zero", "write "+strings.TrimLeft(n.text, "+0"))
		return 0, false
	}
	var x float64
	var err error
	if kind == scalarInt {
		var i int64
		i, err = strconv.ParseInt(n.text, 0, 64)
		x = float64(i)
	}
	if kind == scalarFloat || err != nil {
		x, err = strconv.ParseFloat(n.text, 64)
	}
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		c.fail(n.pos, "expected a finite number, here stands "+clip(n.text), "")
		return 0, false
	}
	return x, true
}

func (c *decoder) integer(n *node, kind scalarKind, v reflect.Value, wrong func(string)) {
	if kind != scalarInt {
		hint := ""
		if n.quoted && resolve(n.text) == scalarInt {
			hint = "take the quotes away"
		}
		wrong(hint)
		return
	}
	if leadingZero(n.text) {
		c.fail(n.pos, "a number with a leading zero", "write "+strings.TrimLeft(n.text, "+0"))
		return
	}
	bits := v.Type().Bits()
	if v.CanUint() {
		u, err := strconv.ParseUint(strings.TrimPrefix(n.text, "+"), 0, bits)
		if err != nil {
			c.fail(n.pos, fmt.Sprintf("%s is outside 0 to %d", clip(n.text), uint64(math.MaxUint64)>>(64-bits)), "")
			return
		}
		v.SetUint(u)
		return
	}
	i, err := strconv.ParseInt(n.text, 0, bits)
	if err != nil {
		c.fail(n.pos, fmt.Sprintf("%s is outside %d to %d", clip(n.text), int64(-1)<<(bits-1), int64(1)<<(bits-1)-1), "")
		return
	}
	v.SetInt(i)
}

// free decodes without a type to go by, as encoding/json would.
func (c *decoder) free(n *node) any {
	switch n.kind {
	case kindMapping:
		m := make(map[string]any, len(n.keys))
		for i, k := range n.keys {
			c.within(k.name, func() { m[k.name] = c.free(n.items[i]) })
		}
		return m
	case kindList:
		l := make([]any, len(n.items))
		for i, item := range n.items {
			c.within(i, func() { l[i] = c.free(item) })
		}
		return l
	case kindScalar:
		kind := scalarText
		if !n.quoted {
			kind = resolve(n.text)
		}
		switch kind {
		case scalarBool:
			return strings.EqualFold(n.text, "true")
		case scalarInt, scalarFloat:
			if x, ok := c.float(n, kind, func(string) {}); ok {
				return x
			}
			return nil
		}
		return n.text
	}
	return nil
}
