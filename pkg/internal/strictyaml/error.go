package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Pos is a place in a file. Line and Col count from 1, Col in characters; both
// are 0 when only the file is known.
type Pos struct {
	File      string
	Line, Col int
}

// String returns file:line:col.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Error is one fault: where it stands, which setting it concerns, what is wrong,
// and how to mend it. Path and Hint may be empty.
type Error struct {
	Pos
	Path, Msg, Hint string
}

// Error returns one line, for example
//
//	edge.yaml:12:7: devices[0].interval: bad duration "5x"; write 5s, 1m or 1h30m
func (e Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.Pos.String(), e.Path} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Errors are the faults of one or several files. An empty one is no error: use
// [Errors.Err] where an error is returned.
type Errors []Error

// Error returns the faults in order of their places, one on a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e.sorted() {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.Is and errors.As the single faults.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i := range e {
		errs[i] = e[i]
	}
	return errs
}

// Err returns the faults in order of their places as an error, or nil when
// there are none.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e.sorted()
}

func (e Errors) sorted() Errors {
	s := slices.Clone(e)
	slices.SortStableFunc(s, func(a, b Error) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return s
}

// PathString writes a path as people read it: devices[0].interval. Strings are
// keys, ints are indexes.
func PathString(path ...any) string {
	var b strings.Builder
	for _, p := range path {
		switch p := p.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(p) + "]")
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(clip(fmt.Sprint(p)))
		}
	}
	return b.String()
}

// clip keeps what is quoted from a file short.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	cut := 0
	for i := range s {
		if i > most {
			break
		}
		cut = i
	}
	return s[:cut] + "..."
}
