package docscheck

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// verb is a place in a format of package fmt, or in a text of the page.
var verb = regexp.MustCompile(`%[-+# 0-9.*\[\]]*[a-zA-Z]`)

// spoken is everything that the programs can say: the texts of their Go sources,
// and the words of the page and of the pages of login and gateway.
func spoken(t *testing.T) string {
	t.Helper()
	s, err := gathered()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var gathered = sync.OnceValues(gather)

func gather() (string, error) {
	var b strings.Builder
	add := func(s string) {
		s = strings.ReplaceAll(s, "%%", "\x01")
		b.WriteString(strings.ReplaceAll(verb.ReplaceAllString(s, "\x00"), "\x01", "%"))
		b.WriteByte('\n')
	}
	for _, dir := range []string{"cmd", "pkg", "firmware-profiles", "scripts/package"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "dist"):
				return filepath.SkipDir
			case d.IsDir() || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			switch filepath.Ext(path) {
			case ".go":
				f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
				if err != nil {
					return err
				}
				ast.Inspect(f, func(n ast.Node) bool {
					if s, ok := text(n); ok {
						add(s)
						return false
					}
					return true
				})
			case ".ts", ".tsx", ".html", ".js", ".sh", ".service", ".postinst":
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				add(strings.ReplaceAll(string(data), `\"`, `"`))
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// text is a literal, or several that are joined by +.
func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.BasicLit:
		if n.Kind == token.STRING {
			s, err := strconv.Unquote(n.Value)
			return s, err == nil
		}
	case *ast.BinaryExpr:
		if n.Op == token.ADD {
			a, okA := text(n.X)
			b, okB := text(n.Y)
			return a + b, okA && okB
		}
	}
	return "", false
}

// quoted are the sentences that a page puts into a program's mouth, by line.
func quoted(p *page) map[int]string {
	out := map[int]string{}
	for _, b := range p.blocks {
		if b.info == "says" {
			for i, l := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
				out[b.line+i] = l
			}
		}
	}
	says := false
	for i, l := range p.prose {
		if !strings.HasPrefix(l, "|") {
			says = false
			continue
		}
		cell := strings.Trim(strings.TrimSpace(strings.SplitN(l[1:], "|", 2)[0]), "`")
		switch {
		case cell == "it says" || cell == "máy báo":
			says = true
		case says && strings.Trim(cell, "- ") != "":
			out[i+1] = cell
		}
	}
	return out
}

// joint is where a sentence may be put together of several texts: a fault and its
// hint are joined by a semicolon.
var joint = regexp.MustCompile(`…|; `)

func TestSentencesOfTheProgramsStandInTheirSource(t *testing.T) {
	source := spoken(t)
	n := 0
	for _, p := range pages(t) {
		for line, sentence := range quoted(p) {
			n++
			for _, part := range joint.Split(sentence, -1) {
				if part = strings.Trim(part, " :"); part != "" && !strings.Contains(source, part) {
					t.Errorf("%s:%d: no program says %q", p.path, line, part)
				}
			}
			if len(strings.Trim(sentence, "… ")) < 8 {
				t.Errorf("%s:%d: %q is too short to tell anything", p.path, line, sentence)
			}
		}
	}
	t.Logf("%d sentences", n)
	if n < 100 {
		t.Errorf("%d sentences only", n)
	}
}

var italic = regexp.MustCompile(`(?:^|[^*])\*([^*]+)\*(?:$|[^*])`)

// TestTheOperatorsGuidesUseTheWordsOfThePage: what stands in italics there is on the
// page, in its Vietnamese, or is a level of the shipped tables.
func TestTheOperatorsGuidesUseTheWordsOfThePage(t *testing.T) {
	tables, err := os.ReadFile(filepath.Join(root, "configs/rules/tables.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	source := strings.ToLower(spoken(t) + string(tables))
	n := 0
	for _, p := range pages(t) {
		if filepath.Base(p.path) != "operators.md" {
			continue
		}
		for i, l := range p.prose {
			for _, m := range italic.FindAllStringSubmatch(code.ReplaceAllString(l, ""), -1) {
				if n++; m[1] != "nghiêng" && !strings.Contains(source, strings.ToLower(m[1])) {
					t.Errorf("%s:%d: the page does not say %q", p.path, i+1, m[1])
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("%d words only", n)
	}
}
