package docscheck

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// page is one Markdown file.
type page struct {
	path   string // from the root of the project
	lines  []string
	blocks []block
	prose  []string // the lines outside of blocks; "" in their place
}

// block is an example: fenced, or indented by four spaces.
type block struct {
	line int    // of its first line, from 1
	info string // what stands behind the fence
	text string
}

var fence = regexp.MustCompile("^( *)```(.*)$")

func parse(path, text string) *page {
	p := &page{path: path, lines: strings.Split(text, "\n")}
	p.prose = slices.Clone(p.lines)
	blank := true
	for i := 0; i < len(p.lines); i++ {
		line := p.lines[i]
		if m := fence.FindStringSubmatch(line); m != nil {
			from := i
			for i++; i < len(p.lines) && strings.TrimSpace(p.lines[i]) != "```"; i++ {
			}
			p.add(from+1, min(i, len(p.lines)), strings.TrimSpace(m[2]))
			p.prose[from] = ""
			if i < len(p.lines) {
				p.prose[i] = ""
			}
			blank = false
			continue
		}
		if blank && strings.HasPrefix(line, "    ") {
			from := i
			for i < len(p.lines) && (strings.HasPrefix(p.lines[i], "    ") || strings.TrimSpace(p.lines[i]) == "") {
				i++
			}
			for strings.TrimSpace(p.lines[i-1]) == "" {
				i--
			}
			p.add(from, i, "")
			i--
			blank = false
			continue
		}
		blank = strings.TrimSpace(line) == ""
	}
	return p
}

// add makes a block of the lines from from up to to, without their common indent.
func (p *page) add(from, to int, info string) {
	indent := 1 << 20
	for _, l := range p.lines[from:to] {
		if strings.TrimSpace(l) != "" {
			indent = min(indent, len(l)-len(strings.TrimLeft(l, " ")))
		}
	}
	out := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, p.lines[i][min(indent, len(p.lines[i])):])
		p.prose[i] = ""
	}
	p.blocks = append(p.blocks, block{line: from + 1, info: info, text: strings.Join(out, "\n") + "\n"})
}

// pages are README.md and everything below docs.
func pages(t *testing.T) []*page {
	t.Helper()
	files := []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, filepath.ToSlash(rel))
		}
	}
	var list []*page
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, parse(f, string(data)))
	}
	if len(list) < 20 {
		t.Fatalf("%d pages only", len(list))
	}
	return list
}

func TestBlocksOfAPage(t *testing.T) {
	p := parse("x.md", "# a\n\n    one\n\n      two\n\ntext\n```yaml\na: 1\n```\n- x\n  ```says\n  b …\n  ```\nend\n")
	want := []block{{3, "", "one\n\n  two\n"}, {9, "yaml", "a: 1\n"}, {13, "says", "b …\n"}}
	if !slices.Equal(p.blocks, want) {
		t.Errorf("%v", p.blocks)
	}
	if got := strings.Join(p.prose, "\n"); strings.Contains(got, "one") || strings.Contains(got, "a: 1") || !strings.Contains(got, "end") {
		t.Errorf("%q", got)
	}
}
