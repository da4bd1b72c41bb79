package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// everything is a handler with everything mounted.
func everything() *Handler {
	return New(Config{
		Alerts: newMemoryLog(), Acts: past{}, Rules: noRules{}, Fleet: fixedFleet{}, Edges: noEdges{}, Asking: noAsking{}, Configs: noConfigs{}, Backups: noBackups{}, Backtests: noBacktests{},
		Deliveries: &carrier{}, CAP: &CAP{}, Metrics: http.NotFoundHandler(), Export: http.NotFoundHandler(), Push: http.NotFoundHandler(),
		Prometheus: http.NotFoundHandler(), Page: http.NotFoundHandler(), Login: http.NotFoundHandler(),
		Accounts: noAccounts{}, Enrolment: noEnrolment{}, Store: noStore{}, Logger: slog.New(slog.DiscardHandler),
	})
}

type (
	noRules     struct{ RuleAdmin }
	noEdges     struct{ EdgeAdmin }
	noAsking    struct{ Asking }
	noConfigs   struct{ EdgeConfigs }
	noBackups   struct{ Backups }
	noBacktests struct{ Backtests }
	noAccounts  struct{ Accounts }
	noEnrolment struct{ Enrolment }
	noStore     struct{ Store }
)

func TestEveryRouteIsDescribed(t *testing.T) {
	routes := everything().routes
	known := operations()
	for _, r := range routes {
		if _, ok := known[r]; !ok {
			t.Errorf("%q is served and not in the OpenAPI document: describe it in operations() in openapi.go, with a value of the types of its body and its answer", r)
		}
	}
	for r := range known {
		if !slices.Contains(routes, r) {
			t.Errorf("%q is described in operations() and not served by a handler with all parts (everything() in this test): take it out, or set the part that mounts it", r)
		}
	}
	// And nothing is mounted past it.
	direct := regexp.MustCompile(`mux\.Handle(Func)?\("(GET|POST|PUT|DELETE|PATCH) /([^"]*)"`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range direct.FindAllStringSubmatch(string(b), -1) {
			if m[3] != "api" && m[3] != "api/{$}" {
				t.Errorf("%s mounts %s /%s with h.mux; mount it with h.handle, so that it is described", name, m[2], m[3])
			}
		}
	}
}

func TestTheOpenAPIDocumentHolds(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	var doc map[string]any
	if status, _ := r.get("/api/v1/openapi.json", &doc); status != http.StatusOK || doc["openapi"] != "3.1.0" {
		t.Fatalf("%d %v", status, doc["openapi"])
	}
	doc = openAPI(everything().routes)
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("openapi.json", v); err != nil {
		t.Fatal(err)
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	if len(schemas) < 20 {
		t.Errorf("%d schemas", len(schemas))
	}
	for name := range schemas {
		if !regexp.MustCompile(`^[A-Za-z0-9_]+$`).MatchString(name) {
			t.Errorf("a schema is named %q", name)
		}
		if _, err := c.Compile("openapi.json#/components/schemas/" + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ids := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			o := op.(map[string]any)
			if o["summary"] == "" || ids[path+method] {
				t.Errorf("%s %s", method, path)
			}
		}
	}
}

func TestTheDocumentCanBeReadInABrowser(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	for _, path := range []string{"/api", "/api/"} {
		resp, err := http.Get(r.url + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || resp.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
	if regexp.MustCompile(`https?://`).Match(browser) {
		t.Error("the page names another host")
	}
}
