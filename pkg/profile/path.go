package profile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Path says where in a JSON payload a value stands. It is made by [ParsePath],
// read-only, and safe for concurrent use; the zero Path is the payload itself.
//
// The language:
//
//	temperature               the key of an object
//	BME280.Temperature        a key below a key
//	PMS5003."PM2.5"           quotes around a key that holds a dot, a bracket or a star
//	PMS5003.PM2\.5            the same; a backslash takes the meaning from any character
//	temperature:0.tC          a colon needs no quotes
//	rxInfo[0].rssi            an element of an array, counted from 0
//	rxInfo[-1].rssi           and from the end
//	[1]                       the second column of a payload that is no JSON: 21.5;60
//	SHT3X*.Temperature        a star outside quotes stands for any characters, none included
//
// Where a star fits several keys, the first in the order of their bytes below
// which the rest of the path exists is taken.
type Path struct {
	steps []step
	text  string
}

type step struct {
	key   string
	parts []string // of a key with stars, what stands between them; nil when there are none
	index int
	array bool
}

// The bounds of a path.
const (
	maxPathLen   = 512
	maxPathSteps = 32
)

// ParsePath reads a path. The error says what is wrong and at which character.
func ParsePath(s string) (Path, error) {
	p := Path{text: s}
	if s == "" {
		return p, nil
	}
	if len(s) > maxPathLen {
		return Path{}, fmt.Errorf("path of %d bytes; at most %d", len(s), maxPathLen)
	}
	fail := func(at int, msg string) (Path, error) {
		return Path{}, fmt.Errorf("bad path %q at character %d: %s", s, len([]rune(s[:at]))+1, msg)
	}
	for i := 0; i < len(s); {
		if len(p.steps) == maxPathSteps {
			return fail(i, fmt.Sprintf("more than %d steps", maxPathSteps))
		}
		if s[i] == '[' {
			end := strings.IndexByte(s[i:], ']')
			if end < 0 {
				return fail(i, "a [ without its ]")
			}
			n, err := strconv.Atoi(s[i+1 : i+end])
			if err != nil || s[i+1] == '+' {
				return fail(i+1, "an index is a whole number, [0] or [-1]")
			}
			p.steps = append(p.steps, step{index: n, array: true})
			i += end + 1
			continue
		}
		if s[i] == '.' {
			if i == 0 {
				return fail(i, "a path does not begin with a dot")
			}
			i++
		} else if i > 0 {
			return fail(i, "a dot is missing")
		}
		st, n, problem := parseKey(s[i:])
		if problem != "" {
			return fail(i+n, problem)
		}
		p.steps = append(p.steps, st)
		i += n
	}
	return p, nil
}

// parseKey reads a key at the beginning of s and returns how much of s it took.
func parseKey(s string) (st step, n int, problem string) {
	var b strings.Builder
	quoted := strings.HasPrefix(s, `"`)
	if quoted {
		n = 1
	}
	for ; n < len(s); n++ {
		c := s[n]
		switch {
		case c == '\\':
			if n++; n == len(s) {
				return st, n, "nothing after the backslash"
			}
			b.WriteByte(s[n])
		case quoted && c == '"':
			return step{key: b.String()}, n + 1, ""
		case quoted:
			b.WriteByte(c)
		case c == '.' || c == '[':
			return finishKey(st, &b, n)
		case c == ']' || c == '"':
			return st, n, fmt.Sprintf("%c needs quotes around the key, or a backslash", c)
		case c == '*':
			st.parts = append(st.parts, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return st, n, "the quote is not closed"
	}
	return finishKey(st, &b, n)
}

func finishKey(st step, b *strings.Builder, n int) (step, int, string) {
	if n == 0 {
		return st, n, `a key is missing; an empty key is ""`
	}
	if st.parts != nil {
		st.parts = append(st.parts, b.String())
		return st, n, ""
	}
	st.key = b.String()
	return st, n, ""
}

// String returns the path as it was written.
func (p Path) String() string { return p.text }

// IsZero reports whether the path is the payload itself.
func (p Path) IsZero() bool { return len(p.steps) == 0 }

// Columns returns the values of a payload that is no JSON, for a path that begins
// with an index: those of its last line that is not empty, between semicolons or
// tabs, or between commas where there are neither. v and err are what decoding it
// as JSON gave. It is not ok for other paths and for what is, or was to be, JSON.
func Columns(p *Path, payload []byte, v any, err error) (columns []any, ok bool) {
	if len(p.steps) == 0 || !p.steps[0].array {
		return nil, false
	}
	text := strings.TrimSpace(string(payload))
	if text == "" || text[0] == '{' || text[0] == '[' || err == nil && !isScalar(v) {
		return nil, false
	}
	line := text[strings.LastIndexAny(text, "\r\n")+1:]
	separator := ","
	switch {
	case strings.Contains(line, ";"):
		separator = ";"
	case strings.Contains(line, "\t"):
		separator = "\t"
	}
	for field := range strings.SplitSeq(line, separator) {
		if columns = append(columns, strings.Trim(strings.TrimSpace(field), `"`)); len(columns) == maxColumns {
			break
		}
	}
	return columns, true
}

// maxColumns bounds a line.
const maxColumns = 1000

func isScalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

// Lookup finds the value in a document as encoding/json gives it. It is not ok
// when nothing stands there; a null that stands there is nil and ok.
func (p Path) Lookup(doc any) (any, bool) { return lookup(p.steps, doc) }

func lookup(steps []step, doc any) (any, bool) {
	for i, st := range steps {
		if st.array {
			list, ok := doc.([]any)
			at := st.index
			if at < 0 {
				at += len(list)
			}
			if !ok || at < 0 || at >= len(list) {
				return nil, false
			}
			doc = list[at]
			continue
		}
		object, ok := doc.(map[string]any)
		if !ok {
			return nil, false
		}
		if st.parts != nil {
			return lookupAny(st.parts, steps[i+1:], object)
		}
		if doc, ok = object[st.key]; !ok {
			return nil, false
		}
	}
	return doc, true
}

func lookupAny(parts []string, rest []step, object map[string]any) (any, bool) {
	var keys []string
	for k := range object {
		if fits(parts, k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if v, ok := lookup(rest, object[k]); ok {
			return v, true
		}
	}
	return nil, false
}

// fits reports whether key is parts[0], anything, parts[1], anything, ...
func fits(parts []string, key string) bool {
	last := len(parts) - 1
	key, ok := strings.CutPrefix(key, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1:last] {
		_, after, ok := strings.Cut(key, part)
		if !ok {
			return false
		}
		key = after
	}
	return strings.HasSuffix(key, parts[last])
}

// escapePath writes a parameter's value so that each of its characters stands
// for itself, in quotes or outside.
func escapePath(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`."[]*\`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
