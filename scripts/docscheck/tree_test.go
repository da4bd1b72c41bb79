package docscheck

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	link    = regexp.MustCompile(`(!?)\[[^\]]*\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^(#+) (.+)$`)
	code    = regexp.MustCompile("`[^`]*`")
)

// anchor is what GitHub makes of a heading.
func anchor(title string) string {
	title = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(title, "$1")
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r), r == '_', r == '-':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

func TestLinksAndPicturesLeadSomewhere(t *testing.T) {
	all := pages(t)
	anchors := map[string]bool{}
	for _, p := range all {
		anchors[p.path] = true
		for _, l := range p.prose {
			if m := heading.FindStringSubmatch(l); m != nil {
				anchors[p.path+"#"+anchor(m[2])] = true
			}
		}
	}
	reached := map[string][]string{}
	used := map[string]bool{}
	for _, p := range all {
		for i, l := range p.prose {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(l, "``"), -1) {
				to, fragment, _ := strings.Cut(m[2], "#")
				if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
					continue
				}
				target := p.path
				if to != "" {
					target = path.Join(path.Dir(p.path), to)
				}
				if _, err := os.Stat(filepath.Join(root, target)); err != nil {
					t.Errorf("%s:%d: there is no %s", p.path, i+1, target)
				}
				if fragment != "" && strings.HasSuffix(target, ".md") && !anchors[target+"#"+fragment] {
					t.Errorf("%s:%d: %s has no heading for #%s", p.path, i+1, target, fragment)
				}
				if m[1] == "!" {
					used[target] = true
				} else {
					reached[p.path] = append(reached[p.path], target)
				}
			}
		}
	}
	seen := map[string]bool{}
	var walk func(string)
	walk = func(p string) {
		if !seen[p] {
			seen[p] = true
			for _, to := range reached[p] {
				walk(to)
			}
		}
	}
	seen["README.md"] = true // a page that only the front of the house knows is not in the index
	walk("docs/README.md")
	for _, p := range all {
		if !seen[p.path] {
			t.Errorf("%s cannot be reached from docs/README.md", p.path)
		}
	}
	pictures(t, used)
}

// picture is a name that a test of the page may give to one.
var picture = regexp.MustCompile(`"((?:edge-)?page[a-z-]*)"`)

// pictures holds that each picture is shown by a page and made by the test of the page.
func pictures(t *testing.T, used map[string]bool) {
	t.Helper()
	made := map[string]bool{}
	tests, err := filepath.Glob(filepath.Join(root, "scripts/uitest/*.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tests {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range picture.FindAllStringSubmatch(string(data), -1) {
			made["docs/images/"+m[1]+".png"] = true
		}
	}
	files, err := os.ReadDir(filepath.Join(root, "docs/images"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := "docs/images/" + f.Name()
		if !made[name] {
			t.Errorf("%s is made by no test in scripts/uitest: make test-ui SCREENSHOTS=docs/images would not renew it", name)
		}
		if !used[name] {
			t.Errorf("no page shows %s", name)
		}
	}
}

// shape is what a translation keeps: headings by level, tables with their rows,
// pictures and examples.
func shape(p *page) []string {
	var out []string
	for _, l := range p.prose {
		m := heading.FindStringSubmatch(l)
		switch {
		case m != nil:
			out = append(out, m[1])
		case strings.HasPrefix(l, "|"):
			out = append(out, "|")
		}
		for _, m := range link.FindAllStringSubmatch(l, -1) {
			if m[1] == "!" {
				out = append(out, "picture "+path.Base(m[2]))
			}
		}
	}
	for _, b := range p.blocks {
		out = append(out, b.text) // what is typed and printed is the same
	}
	return out
}

func TestPagesInVietnameseAreBuiltLikeTheEnglishOnes(t *testing.T) {
	all := map[string]*page{}
	for _, p := range pages(t) {
		all[p.path] = p
	}
	for name, vi := range all {
		if path.Dir(name) != "docs/vi" {
			continue
		}
		en := all["docs/"+path.Base(name)]
		if en == nil {
			t.Errorf("%s has no English page", name)
			continue
		}
		a, b := shape(en), shape(vi)
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || a[i] != b[i] {
				t.Errorf("%s and %s differ from part %d on: %q, %q", en.path, name, i+1, a[min(i, len(a)-1)], b[min(i, len(b)-1)])
				break
			}
		}
	}
}
