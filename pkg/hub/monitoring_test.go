package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/edge"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

const monitoring = "../../configs/monitoring"

// asked is an expression and where it stands.
type asked struct{ where, expr string }

type alertRule struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func alertRules(t *testing.T) []alertRule {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(monitoring, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []alertRule }
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	var all []alertRule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func panels(t *testing.T, file string) []asked {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(monitoring, file))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Templating struct {
			List []struct {
				Name, Type string
				Query      json.RawMessage
			}
		}
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	var all []asked
	for _, p := range board.Panels {
		for _, x := range p.Targets {
			all = append(all, asked{"panel " + p.Title, strings.NewReplacer("$__rate_interval", "5m", "$site", ".*").Replace(x.Expr)})
		}
	}
	values := regexp.MustCompile(`^label_values\((.*), *\w+\)$`)
	for _, v := range board.Templating.List {
		if v.Type != "query" {
			continue
		}
		var q struct{ Query string }
		if err := json.Unmarshal(v.Query, &q); err != nil {
			t.Fatal(err)
		}
		m := values.FindStringSubmatch(q.Query)
		if m == nil {
			t.Fatalf("variable %s: %s is not understood", v.Name, q.Query)
		}
		all = append(all, asked{"variable " + v.Name, m[1]})
	}
	return all
}

// watched is a hub with a rule that evaluates and a target, and an edge that sends.
func watched(t *testing.T) (h *Hub, edgeURL string) {
	t.Helper()
	field := &drivertest.Field{}
	field.Holding(1, 4, 7)
	h = runHub(t, map[string]string{
		"hub.yaml": `
rules: [rules.yaml]
deliver:
  webhooks:
    - {name: ioc, url: "http://127.0.0.1:1/hook", allow_private: true}
`,
		"rules.yaml": `
- id: dry
  expression: {query: 'water_level', every: 1s}
  below:
    warning: {limit: 0}
  message: {vi: "Cạn", en: "Dry"}
`,
	})
	dir, address := t.TempDir(), testutil.FreeAddress(t)
	text := fmt.Sprintf(`
edge: {id: a-01}
data_dir: ./edge
hub: {url: "mqtt://%s", send_every: 50ms}
clock: {trust: always}
http: {listen: %q}
connections:
  - {id: line, modbus: {address: %q}}
devices:
  - {id: tank, connection: line, unit: 1, interval: 1s, points: [{id: level, quantity: water_level, holding: 4, type: uint16, unit: m}]}
`, h.BusAddr(), address, field.ServeTCP(t).Address)
	if err := os.WriteFile(filepath.Join(dir, "edge.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, err := edge.Load(filepath.Join(dir, "edge.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	agent, err := edge.Open(plan, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := agent.Run(ctx); err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := agent.Close(); err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	return h, "http://" + address
}

// families are what an agent exports; none when it has only begun.
func families(t *testing.T, url string) []*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	p := expfmt.NewTextParser(model.UTF8Validation)
	byName, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(maps.Values(byName))
}

// samplesOf adds the names of the samples of families, each with its labels.
func samplesOf(list []*dto.MetricFamily, to map[string]map[string]bool) {
	for _, f := range list {
		has := map[string]bool{"instance": true, "job": true}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				has[l.GetName()] = true
			}
		}
		name := f.GetName()
		if f.GetType() == dto.MetricType_HISTOGRAM {
			to[name+"_count"], to[name+"_sum"] = has, has
			has = maps.Clone(has)
			has["le"] = true
			name += "_bucket"
		}
		to[name] = has
	}
}

// missing returns what an expression asks for that nobody exports.
func missing(expr string, has map[string]map[string]bool) (string, error) {
	node, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return "", err
	}
	var lacks string
	parser.Inspect(node, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		known, ok := has[v.Name]
		if !ok {
			lacks = v.Name
			return nil
		}
		for _, m := range v.LabelMatchers {
			if m.Name != model.MetricNameLabel && !known[m.Name] {
				lacks = v.Name + " with the label " + m.Name
			}
		}
		return nil
	})
	return lacks, nil
}

// A dashboard that asks for a metric which is gone shows nothing, and an alert on it
// never fires: both look like health.
func TestWhatIsWatchedIsExported(t *testing.T) {
	h, edgeURL := watched(t)
	list := panels(t, "dashboard.json")
	for _, r := range alertRules(t) {
		list = append(list, asked{"alert " + r.Alert, r.Expr})
	}
	if len(list) < 50 {
		t.Errorf("%d expressions were found; is the format read right?", len(list))
	}
	// What drivers and expressions export comes a moment after the start; of what is
	// still missing after the limit every name is said.
	var lacking []string
	all := func() bool {
		has := map[string]map[string]bool{"up": {"job": true, "instance": true}}
		own, err := h.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		samplesOf(own, has)
		samplesOf(families(t, edgeURL), has)
		lacking = nil
		for _, a := range list {
			switch lacks, err := missing(a.expr, has); {
			case err != nil:
				t.Fatalf("%s: %s: %v", a.where, a.expr, err)
			case lacks != "":
				lacking = append(lacking, fmt.Sprintf("%s: nobody exports %s", a.where, lacks))
			}
		}
		return len(lacking) == 0
	}
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !all() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal(strings.Join(lacking, "\n"))
		}
	}
}

// Who is woken by an alert finds what to do under its name.
func TestEveryAlertSaysWhatToDo(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := alertRules(t)
	for _, r := range rules {
		if !strings.Contains(string(page), "\n### "+r.Alert+"\n") {
			t.Errorf("docs/operations.md has no section %s", r.Alert)
		}
		if s := r.Labels["severity"]; s != "warning" && s != "critical" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" || r.Annotations["runbook"] != "docs/operations.md#"+strings.ToLower(r.Alert) {
			t.Errorf("%s: annotations %v", r.Alert, r.Annotations)
		}
	}
	if n := strings.Count(string(page), "\n### Langbiang"); n != len(rules) {
		t.Errorf("docs/operations.md has %d sections of alerts, and there are %d alerts", n, len(rules))
	}
}
