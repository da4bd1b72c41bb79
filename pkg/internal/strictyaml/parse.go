package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a file.
const (
	maxBytes  = 1 << 20
	maxDepth  = 32
	maxKey    = 128 // bytes
	maxTokens = 500_000
	// maxNames bounds what the parser keeps: it gives every node its full path.
	maxNames  = 512 << 20
	maxFaults = 1000
)

// Document is one parsed file.
type Document struct {
	file   string
	root   *node
	faults Errors // found while the tree was made; reported by Decode
}

type nodeKind uint8

const (
	kindNull nodeKind = iota
	kindScalar
	kindMapping
	kindList
	kindFaulty // already reported
)

type node struct {
	kind   nodeKind
	quoted bool
	pos    Pos
	text   string // of a scalar
	items  []*node
	keys   []key // of a mapping, beside items
}

type key struct {
	name string
	pos  Pos
}

// Parse reads one document. File is the name that the errors give. The faults
// it returns are those that leave nothing to decode, such as bad indentation;
// then the document is nil. It never panics, whatever the data.
func Parse(file string, data []byte) (doc *Document, errs Errors) {
	defer func() {
		if r := recover(); r != nil {
			doc, errs = nil, Errors{{Pos: Pos{File: file}, Msg: "cannot be read as YAML"}}
		}
	}()
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := checkBytes(file, data); err != nil {
		return nil, Errors{*err}
	}
	tokens := lexer.Tokenize(string(data))
	if errs := checkTokens(file, tokens); len(errs) > 0 {
		return nil, errs
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, Errors{syntaxError(file, err)}
	}
	d := &Document{file: file, root: &node{pos: Pos{file, 1, 1}}}
	seen := false
	for _, part := range f.Docs {
		if part == nil || part.Body == nil {
			continue
		}
		n := d.build(part.Body, 0)
		if seen {
			d.fault(n.pos, "", "a second document begins here", "a file holds one")
			continue
		}
		d.root, seen = n, true
	}
	return d, nil
}

func checkBytes(file string, data []byte) *Error {
	if len(data) > maxBytes {
		return &Error{Pos: Pos{File: file}, Msg: fmt.Sprintf("has %d bytes; at most %d are read", len(data), maxBytes)}
	}
	pos := Pos{file, 1, 1}
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && n <= 1:
			return &Error{Pos: pos, Msg: "not UTF-8 text", Hint: "save the file as UTF-8"}
		case r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f:
			return &Error{Pos: pos, Msg: fmt.Sprintf("control character %#U", r)}
		case r == '\n':
			pos.Line, pos.Col = pos.Line+1, 0
		}
		pos.Col++
		data = data[n:]
	}
	return nil
}

// checkTokens refuses what is not supported, and what would make the parser
// recurse or remember without bound.
func checkTokens(file string, tokens token.Tokens) (errs Errors) {
	at := func(t *token.Token) Pos {
		if t == nil || t.Position == nil {
			return Pos{File: file}
		}
		return Pos{file, t.Position.Line, t.Position.Column}
	}
	flow, entries, longest := 0, 0, 0
	for i, t := range tokens {
		add := func(msg, hint string) {
			if len(errs) < maxFaults {
				errs = append(errs, Error{Pos: at(t), Msg: msg, Hint: hint})
			}
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			if flow++; flow > maxDepth {
				return append(errs, tooDeep(at(t)))
			}
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType:
			if entries++; entries > maxDepth {
				return append(errs, tooDeep(at(t)))
			}
		case token.MappingValueType:
			if i > 0 {
				n := len(tokens[i-1].Value)
				longest = max(longest, n)
				if n > maxKey {
					errs = append(errs, Error{Pos: at(tokens[i-1]), Msg: fmt.Sprintf("a key of %d bytes; at most %d", n, maxKey)})
				}
			}
		case token.AnchorType:
			add("anchors (&) are not supported", "write the value out, or quote the text")
		case token.AliasType:
			add("aliases (*) are not supported", "write the value out, or quote the text")
		case token.MergeKeyType:
			add("merge keys (<<) are not supported", "write the keys out")
		case token.TagType:
			add("tags (!) are not supported", "leave it away, or quote the text")
		case token.MappingKeyType:
			add("complex keys (?) are not supported", "write key: value")
		case token.DirectiveType:
			add("directives (%) are not supported", "leave the line away")
		}
		if t.Type != token.SequenceEntryType {
			entries = 0
		}
	}
	if len(tokens) > maxTokens || maxDepth*longest*len(tokens) > maxNames {
		errs = append(errs, Error{Pos: Pos{File: file}, Msg: "too many entries for one file"})
	}
	return errs
}

func tooDeep(p Pos) Error {
	return Error{Pos: p, Msg: fmt.Sprintf("nested more than %d deep", maxDepth)}
}

func syntaxError(file string, err error) Error {
	var at interface {
		error
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &at) {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return Error{Pos: Pos{File: file}, Msg: line}
	}
	e := Error{Pos: Pos{File: file}, Msg: at.GetMessage()}
	t := at.GetToken()
	if t != nil && t.Position != nil {
		e.Line, e.Col = t.Position.Line, t.Position.Column
	}
	// The parser's words for what technicians do most often.
	switch {
	case strings.Contains(e.Msg, `'	'`):
		e.Msg, e.Hint = "a tab where YAML wants spaces", "indent with spaces"
	case strings.Contains(e.Msg, "mapping value is not allowed"):
		e.Hint = "quote a text that holds \": \", or check the indentation"
	case strings.Contains(e.Msg, "reserved character"):
		e.Hint = "quote the text"
	case strings.Contains(e.Msg, "could not find end character"):
		e.Hint = "close the quote"
	case strings.Contains(e.Msg, "non-map value is specified"), strings.Contains(e.Msg, "value is not allowed in this context"):
		e.Hint = "check the indentation and the colon of the line before"
	}
	return e
}

func (d *Document) fault(p Pos, path, msg, hint string) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, Error{Pos: p, Path: path, Msg: msg, Hint: hint})
	}
}

func (d *Document) posOf(n ast.Node) Pos {
	if n == nil {
		return Pos{File: d.file}
	}
	switch m := n.(type) { // a block mapping's own token is its first colon
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 && m.Values[0] != nil && m.Values[0].Key != nil {
			return d.posOf(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		if m.Key != nil {
			return d.posOf(m.Key)
		}
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return Pos{d.file, t.Position.Line, t.Position.Column}
	}
	return Pos{File: d.file}
}

// build copies the parser's tree into ours.
func (d *Document) build(n ast.Node, depth int) *node {
	if depth > maxDepth {
		d.faults = append(d.faults, tooDeep(d.posOf(n)))
		return &node{kind: kindFaulty, pos: d.posOf(n)}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return d.buildMapping(n, n.Values, depth)
	case *ast.MappingValueNode:
		return d.buildMapping(n, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		list := &node{kind: kindList, pos: d.posOf(n)}
		for _, v := range n.Values {
			list.items = append(list.items, d.build(v, depth+1))
		}
		return list
	case *ast.LiteralNode:
		s := &node{kind: kindScalar, quoted: true, pos: d.posOf(n)}
		if n.Value != nil {
			s.text = n.Value.Value
		}
		return s
	case *ast.StringNode:
		t := n.GetToken()
		quoted := t != nil && (t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType)
		return d.scalar(n, n.Value, quoted)
	case *ast.NullNode:
		return &node{kind: kindNull, pos: d.posOf(n)}
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return d.scalar(n, n.GetToken().Value, false)
	case nil:
		return &node{kind: kindNull, pos: Pos{File: d.file}}
	}
	d.fault(d.posOf(n), "", fmt.Sprintf("%s is not supported here", strings.ToLower(n.Type().YAMLName())), "")
	return &node{kind: kindFaulty, pos: d.posOf(n)}
}

func (d *Document) scalar(n ast.Node, text string, quoted bool) *node {
	s := &node{kind: kindScalar, quoted: quoted, pos: d.posOf(n), text: text}
	if !quoted && resolve(text) == scalarNull {
		s.kind = kindNull
	}
	return s
}

func (d *Document) buildMapping(n ast.Node, values []*ast.MappingValueNode, depth int) *node {
	m := &node{kind: kindMapping, pos: d.posOf(n)}
	first := make(map[string]Pos, len(values))
	for _, v := range values {
		if v == nil || v.Key == nil {
			continue
		}
		at := d.posOf(v.Key)
		t := v.Key.GetToken()
		if t == nil {
			d.fault(at, "", "a key must be text", "")
			continue
		}
		name := t.Value
		if s, ok := v.Key.(*ast.StringNode); ok {
			name = s.Value
		}
		val := d.build(v.Value, depth+1)
		if was, dup := first[name]; dup {
			d.fault(at, "", fmt.Sprintf("duplicate key %q; it stands in line %d already", clip(name), was.Line), "")
			continue
		}
		first[name] = at
		if val.pos.Line == 0 {
			val.pos = at
		}
		m.keys = append(m.keys, key{name, at})
		m.items = append(m.items, val)
	}
	return m
}

// File returns the name the document was parsed under.
func (d *Document) File() string { return d.file }

// At returns the position of the value at a path; strings are keys, ints are
// indexes: d.At("devices", 3, "profile"). When it is absent, it is the position
// of the nearest ancestor that exists.
func (d *Document) At(path ...any) Pos {
	n, _, _ := d.find(path)
	return n.pos
}

// KeyAt is At for the key rather than the value. An element of a list has no
// key: then it is the element's position.
func (d *Document) KeyAt(path ...any) Pos {
	_, k, _ := d.find(path)
	return k
}

// Has reports whether something other than nothing stands at the path.
func (d *Document) Has(path ...any) bool {
	n, _, ok := d.find(path)
	return ok && n.kind != kindNull
}

// Keys returns the keys of the mapping at the path in the order of the file,
// nil when no mapping stands there.
func (d *Document) Keys(path ...any) []string {
	n, _, ok := d.find(path)
	if !ok || n.kind != kindMapping {
		return nil
	}
	names := make([]string, len(n.keys))
	for i, k := range n.keys {
		names[i] = k.name
	}
	return names
}

// Fault makes an error at the value of a path.
func (d *Document) Fault(path []any, msg, hint string) Error {
	return Error{Pos: d.At(path...), Path: PathString(path...), Msg: msg, Hint: hint}
}

func (d *Document) find(path []any) (n *node, keyPos Pos, exact bool) {
	n, keyPos = d.root, d.root.pos
	for _, p := range path {
		next := (*node)(nil)
		switch p := p.(type) {
		case string:
			for i, k := range n.keys {
				if k.name == p {
					next, keyPos = n.items[i], k.pos
					break
				}
			}
		case int:
			if n.kind == kindList && p >= 0 && p < len(n.items) {
				next = n.items[p]
				keyPos = next.pos
			}
		}
		if next == nil {
			return n, keyPos, false
		}
		n = next
	}
	return n, keyPos, true
}
