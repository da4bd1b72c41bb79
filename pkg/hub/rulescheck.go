package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// The commands for those who write rules. They work on files, without hub.yaml,
// and judge with the code that the hub judges with.

// ruleSources reads rule files; globs are allowed.
func ruleSources(args []string) (list []rules.Source, err error) {
	for _, pattern := range args {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			return nil, fmt.Errorf("there is no file %s", pattern)
		}
		for _, name := range names {
			if isRuleTest(name) {
				continue
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			list = append(list, rules.Source{Name: name, Data: data})
		}
	}
	return list, nil
}

// toolEnv is what rules may refer to when no hub.yaml says it: the catalogue, and
// the sites of a file, if one is named.
func toolEnv(sites string) (rules.Env, error) {
	q, err := catalogue()
	if err != nil {
		return rules.Env{}, err
	}
	plan := &Plan{Quantities: q}
	if sites != "" {
		doc, errs := strictyaml.Parse("--sites", nil)
		if len(errs) > 0 {
			return rules.Env{}, errs
		}
		c := &checker{doc: doc}
		plan.Sites = c.sites(&Config{Sites: sites})
		if err := c.errs.Err(); err != nil {
			return rules.Env{}, err
		}
	}
	return rulesEnv(plan), nil
}

// liveSeries returns the series that a hub knows now, and whether each has had a
// reading since the hub started.
func liveSeries(ctx context.Context, hub *remote) (out []telemetry.BoundSeries, known []bool, err error) {
	list, err := listAll[api.Series](ctx, hub, "/api/v1/series")
	for i := range list {
		s := &list[i]
		out = append(out, telemetry.BoundSeries{
			Site: s.Site, Edge: s.Edge, Device: s.Device, Point: s.Point, Quantity: s.Quantity, Unit: s.Unit,
			Labels: telemetry.NewLabels(s.Labels),
		})
		known = append(known, s.Time != nil)
	}
	return out, known, err
}

func checkRulesCommand() settings.Command[*Plan] {
	var hub remote
	var sites string
	return settings.Command[*Plan]{
		Use: "check FILES", Short: "say everything that is wrong with rule files, and which live series the rules match", Args: cobra.MinimumNArgs(1),
		Flags: func(f *pflag.FlagSet) {
			hub.flags(f, "", "URL of a hub whose live series are matched, for example http://127.0.0.1:8080")
			f.StringVar(&sites, "sites", "", "file of sites that rules may name")
		},
		Free: func(ctx context.Context, c settings.Call) error {
			env, err := toolEnv(sites)
			if err != nil {
				return err
			}
			sources, err := ruleSources(c.Args)
			if err != nil {
				return err
			}
			set, err := loadWithBuiltIn(sources, env)
			if err != nil {
				return err
			}
			set = set.Written()
			if hub.hub == "" {
				_, err = fmt.Fprintf(c.Stdout, "fine: %s\n", settings.Count(set.Len(), "rule"))
				return err
			}
			return printMatches(ctx, c.Stdout, set, &hub)
		},
	}
}

// printMatches says what each rule watches of a live hub.
func printMatches(ctx context.Context, w io.Writer, set *rules.Set, hub *remote) error {
	live, known, err := liveSeries(ctx, hub)
	if err != nil {
		return err
	}
	edges, err := listAll[api.Edge](ctx, hub, "/api/v1/edges")
	if err != nil {
		return err
	}
	counts, withData := map[string]int{}, map[string]int{}
	for i := range live {
		for _, id := range set.Matches(live[i]) {
			counts[id]++
			if known[i] {
				withData[id]++
			}
		}
	}
	for i := range edges {
		for _, id := range set.Matches(rules.EdgeSeries(edges[i].ID, edges[i].Site)) {
			counts[id]++
			withData[id]++
		}
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "RULE\tKIND\tQUANTITY\tSERIES\tWITH DATA\tWHERE")
	none, silent := 0, 0
	for _, r := range set.Rules() {
		n, data := fmt.Sprint(counts[r.ID]), fmt.Sprint(withData[r.ID])
		switch {
		case r.Kind == rules.Several:
			n, data = "-", "-"
		case r.Kind == rules.Expression:
			n, data = resultNow(ctx, hub, r.Query)
		case counts[r.ID] == 0:
			n, data = "none: it never fires", "-"
			none++
		case withData[r.ID] == 0:
			data = "none since the hub started"
			silent++
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Kind, r.Quantity, n, data, r.Where)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s, %s, %d match none, %d have no data\n", settings.Count(set.Len(), "rule"), count(len(live), "live series"), none, silent)
	return err
}

// count writes a number of things whose plural is no other word.
func count(n int, what string) string { return fmt.Sprintf("%d %s", n, what) }

// resultNow says how many series an expression gives on the hub now.
func resultNow(ctx context.Context, hub *remote, query string) (series, data string) {
	var answer struct {
		Data struct {
			Type   string            `json:"resultType"`
			Result []json.RawMessage `json:"result"`
		} `json:"data"`
	}
	query, err := promapi.OnTime(query)
	if err == nil {
		err = hub.get(ctx, "/prometheus/api/v1/query", url.Values{"query": {query}}, &answer)
	}
	n := len(answer.Data.Result)
	switch {
	case err != nil:
		return "cannot be evaluated: " + err.Error(), "-"
	case answer.Data.Type == "scalar":
		n = 1
	case n == 0:
		return "none in the result now", "-"
	}
	return fmt.Sprintf("%d in the result now", n), fmt.Sprint(n)
}

func testRulesCommand() settings.Command[*Plan] {
	var sites string
	return settings.Command[*Plan]{
		Use: "test FILES", Short: "run the unit tests of rules: files NAME.test.yaml beside them", Args: cobra.MinimumNArgs(1),
		Flags: func(f *pflag.FlagSet) { f.StringVar(&sites, "sites", "", "file of sites that rules may name") },
		Free: func(_ context.Context, c settings.Call) error {
			env, err := toolEnv(sites)
			if err != nil {
				return err
			}
			var faults strictyaml.Errors
			count := 0
			for _, pattern := range c.Args {
				files, err := filepath.Glob(pattern)
				if err != nil || len(files) == 0 {
					return fmt.Errorf("there is no file %s", pattern)
				}
				for _, file := range files {
					names, err := testRules(file, env)
					var f strictyaml.Errors
					if err != nil && !errors.As(err, &f) {
						return err
					}
					faults = append(faults, f...)
					count += len(names)
				}
			}
			if len(faults) > 0 {
				return fmt.Errorf("%w\n%s, %s", faults.Err(), settings.Count(count, "test"), settings.Count(len(faults), "difference"))
			}
			_, err = fmt.Fprintf(c.Stdout, "%s passed\n", settings.Count(count, "test"))
			return err
		},
	}
}

// testRules runs one file of tests.
func testRules(file string, env rules.Env) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	src := rules.Source{Name: file, Data: data}
	names, err := rules.TestedFiles(src)
	if err != nil {
		return nil, err
	}
	for i := range names {
		names[i] = relative(filepath.Dir(file), names[i])
	}
	sources, err := ruleSources(names)
	if err != nil {
		return nil, fmt.Errorf("%s: rules: %w", file, err)
	}
	set, err := loadWithBuiltIn(sources, env)
	if err != nil {
		return nil, err
	}
	return rules.RunTests(src, set, env)
}

// loadWithBuiltIn compiles files as a hub does that says nothing of built-in rules.
func loadWithBuiltIn(sources []rules.Source, env rules.Env) (*rules.Set, error) {
	cfg := DefaultConfig()
	return rules.Load(append(sources, builtInPlan(&cfg.Offline).Source()), env)
}
