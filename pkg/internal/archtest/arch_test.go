package archtest

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/langbiang/langbiang"

// allowed is the table of docs/architecture.md: what a package (with everything
// below it) may import of ours. Beside these each may import packages below
// itself, those its own parent allows, and pkg/internal.
var allowed = map[string][]string{
	"pkg/telemetry":     {},
	"pkg/profile":       {"pkg/telemetry"},
	"pkg/driver":        {"pkg/telemetry", "pkg/profile"},
	"pkg/filter":        {"pkg/telemetry"},
	"pkg/clock":         {},
	"pkg/wire":          {"pkg/telemetry"},
	"pkg/buffer":        {},
	"pkg/uplink":        {"pkg/wire"},
	"pkg/questions":     {"pkg/wire"},
	"pkg/framelog":      {"pkg/wire", "pkg/buffer", "pkg/uplink"},
	"pkg/push":          {"pkg/wire", "pkg/telemetry", "pkg/buffer", "pkg/framelog"},
	"pkg/fleet":         {"pkg/wire"},
	"pkg/bus":           {},
	"pkg/ingest":        {"pkg/wire", "pkg/telemetry"},
	"pkg/tsdb":          {"pkg/telemetry"},
	"pkg/ledger":        {"pkg/telemetry", "pkg/alert"},
	"pkg/airindex":      {},
	"pkg/derive":        {"pkg/telemetry", "pkg/airindex"},
	"pkg/rules":         {"pkg/telemetry", "pkg/alert", "pkg/airindex"},
	"pkg/alert":         {"pkg/telemetry"},
	"pkg/identity":      {},
	"pkg/api":           {"pkg/telemetry", "pkg/alert"},
	"pkg/client":        {"pkg/telemetry", "pkg/alert"},
	"pkg/web":           {},
	"pkg/edge":          {"*"},
	"pkg/hub":           {"*"},
	"pkg/internal":      {},
	"cmd":               {"pkg/edge", "pkg/hub"},
	"firmware-profiles": {},
	"scripts":           {"*"},
}

type pkgInfo struct {
	ImportPath, Dir, Doc string
	Imports              []string
	TestImports          []string
	XTestImports         []string
}

func root(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

func packages(t *testing.T) []pkgInfo {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkgInfo
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p pkgInfo
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

// room returns the row of the table that a package belongs to.
func room(path string) string {
	best := ""
	for r := range allowed {
		if (path == r || strings.HasPrefix(path, r+"/")) && len(r) > len(best) {
			best = r
		}
	}
	return best
}

func TestPackagesImportOnlyWhatTheTableAllows(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		r := room(path)
		if r == "" {
			t.Errorf("%s is in no row of the table", path)
			continue
		}
		for _, imp := range p.Imports {
			other, ours := strings.CutPrefix(imp, module+"/")
			if !ours || room(other) == r || slices.Contains(allowed[r], "*") {
				continue
			}
			if other == "firmware-profiles" && r == "pkg/edge" || strings.HasPrefix(other, "pkg/internal/") {
				continue
			}
			if !slices.Contains(allowed[r], room(other)) {
				t.Errorf("%s imports %s: %s may import only %v", path, other, r, allowed[r])
			}
		}
	}
}

func TestTheEdgeBinaryCarriesNothingOfTheHub(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/edge")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, banned := range []string{"prometheus/prometheus", "nats-io/nats-server", "mochi-mqtt", module + "/pkg/hub"} {
		if strings.Contains(string(out), banned) {
			t.Errorf("cmd/edge depends on %s", banned)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if strings.TrimSpace(p.Doc) == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func eachFile(t *testing.T, suffix string, f func(path string)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || path == filepath.Join(top, "data") || path == filepath.Join(top, "bin")) {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, suffix) {
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var mdLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)

func TestLinksInTheDocsLeadSomewhere(t *testing.T) {
	eachFile(t, ".md", func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mdLink.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	})
}

// Tests wait for conditions, not for time; packages have no hidden start.
func TestNoSleepInTestsAndNoInit(t *testing.T) {
	eachFile(t, ".go", func(path string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s has an init function", path)
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && n.Sel.Name == "Sleep" && strings.HasSuffix(path, "_test.go") {
					t.Errorf("%s sleeps", path)
				}
			}
			return true
		})
	})
}
