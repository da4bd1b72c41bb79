package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Rule is a rule of the hub as Prometheus' clients see it.
type Rule struct {
	Name        string
	File        string // it is grouped by
	Query       string // in words when it is not PromQL
	For         time.Duration
	KeepFiring  time.Duration
	Labels      map[string]string
	Annotations map[string]string
	Error       string // of the newest evaluation
	Evaluated   time.Time
	Took        time.Duration
}

// The answers, in Prometheus' shape.
type (
	alertJSON struct {
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		State       string            `json:"state"`
		ActiveAt    time.Time         `json:"activeAt"`
		Value       string            `json:"value"`
	}
	ruleJSON struct {
		State         string            `json:"state"`
		Name          string            `json:"name"`
		Query         string            `json:"query"`
		Duration      float64           `json:"duration"`
		KeepFiringFor float64           `json:"keepFiringFor"`
		Labels        map[string]string `json:"labels"`
		Annotations   map[string]string `json:"annotations"`
		Alerts        []alertJSON       `json:"alerts"`
		Health        string            `json:"health"`
		LastError     string            `json:"lastError,omitempty"`
		Took          float64           `json:"evaluationTime"`
		Evaluated     time.Time         `json:"lastEvaluation"`
		Type          string            `json:"type"`
	}
	groupJSON struct {
		Name      string     `json:"name"`
		File      string     `json:"file"`
		Rules     []ruleJSON `json:"rules"`
		Interval  float64    `json:"interval"`
		Limit     int        `json:"limit"`
		Took      float64    `json:"evaluationTime"`
		Evaluated time.Time  `json:"lastEvaluation"`
	}
)

// alerts answers what is active. An alert has the labels alertname (its rule),
// severity, those of its series, and those of its rule; what is provisional is
// pending.
func (a *API) alerts(ctx context.Context, _ *http.Request) (answer, error) {
	list, err := a.active(ctx)
	if err != nil {
		return answer{}, err
	}
	out := []alertJSON{}
	for i := range list {
		out = append(out, alertOf(&list[i]))
	}
	return jsonAnswer(map[string]any{"alerts": out})
}

// active are the alerts that stand, at the sites that the context is confined to.
func (a *API) active(ctx context.Context) ([]alert.Alert, error) {
	if a.options.Alerts == nil {
		return nil, nil
	}
	list, err := a.options.Alerts()
	if sites, confined := ctx.Value(sitesKey{}).([]string); confined {
		list = slices.DeleteFunc(slices.Clone(list), func(x alert.Alert) bool { return !slices.Contains(sites, x.Site) })
	}
	return list, err
}

func alertOf(x *alert.Alert) alertJSON {
	ls := map[string]string{}
	maps.Copy(ls, x.Labels)
	for name, v := range map[string]string{
		"alertname": x.Rule, "severity": x.Severity.String(), "site": x.Site, "edge": x.Edge, "device": x.Device, "point": x.Point, "quantity": x.Quantity,
	} {
		if v != "" {
			ls[name] = v
		}
	}
	notes := map[string]string{"summary": x.Message.EN, "summary_vi": x.Message.VI, "id": x.ID}
	if x.Procedure != "" {
		notes["runbook_url"] = x.Procedure
	}
	out := alertJSON{Labels: ls, Annotations: notes, State: "firing", ActiveAt: x.Start, Value: strconv.FormatFloat(x.Value, 'e', -1, 64)}
	if x.Provisional {
		out.State = "pending"
	}
	return out
}

// rules answers the rules by their files, with what they have raised.
func (a *API) rules(ctx context.Context, r *http.Request) (answer, error) {
	if t := r.FormValue("type"); t != "" && t != "alert" && t != "record" {
		return answer{}, invalid("type", errors.New("not supported value; alert or record"))
	}
	var where [][]*labels.Matcher
	for _, s := range r.Form["match[]"] {
		m, err := a.parser.ParseMetricSelector(s)
		if err != nil {
			return answer{}, invalid("match[]", err)
		}
		where = append(where, m)
	}
	names, files, groups := r.Form["rule_name[]"], r.Form["file[]"], r.Form["rule_group[]"]
	without := r.FormValue("exclude_alerts") == "true"
	list, err := a.active(ctx)
	if err != nil {
		return answer{}, err
	}
	byRule := map[string][]alertJSON{}
	for i := range list {
		byRule[list[i].Rule] = append(byRule[list[i].Rule], alertOf(&list[i]))
	}
	var rules []Rule
	if a.options.Rules != nil && r.FormValue("type") != "record" {
		rules = a.options.Rules()
	}
	out := []groupJSON{}
	at := map[string]int{}
	chosen := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	for i := range rules {
		x := &rules[i]
		group := strings.TrimSuffix(filepath.Base(x.File), filepath.Ext(x.File))
		if !chosen(names, x.Name) || !chosen(files, x.File) || !chosen(groups, group) || !matches(where, x.Labels) {
			continue
		}
		k, ok := at[x.File]
		if !ok {
			k = len(out)
			at[x.File] = k
			out = append(out, groupJSON{Name: group, File: x.File, Interval: 1})
		}
		rule := ruleJSON{
			State: "inactive", Name: x.Name, Query: x.Query, Duration: x.For.Seconds(), KeepFiringFor: x.KeepFiring.Seconds(),
			Labels: x.Labels, Annotations: x.Annotations, Alerts: byRule[x.Name], Health: "ok", LastError: x.Error, Took: x.Took.Seconds(), Evaluated: x.Evaluated, Type: "alerting",
		}
		if rule.Labels == nil {
			rule.Labels = map[string]string{}
		}
		if rule.Annotations == nil {
			rule.Annotations = map[string]string{}
		}
		if x.Error != "" {
			rule.Health = "err"
		}
		for _, al := range rule.Alerts {
			if rule.State != "firing" {
				rule.State = al.State
			}
		}
		if rule.Alerts == nil || without {
			rule.Alerts = []alertJSON{}
		}
		out[k].Rules = append(out[k].Rules, rule)
		if out[k].Evaluated.Before(x.Evaluated) {
			out[k].Evaluated = x.Evaluated
		}
	}
	return jsonAnswer(map[string]any{"groups": out})
}

func matches(where [][]*labels.Matcher, ls map[string]string) bool {
	return len(where) == 0 || slices.ContainsFunc(where, func(all []*labels.Matcher) bool {
		return !slices.ContainsFunc(all, func(m *labels.Matcher) bool { return !m.Matches(ls[m.Name]) })
	})
}

func jsonAnswer(v any) (answer, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return answer{}, err
	}
	return answer{data: func(o *output) { o.b = append(o.b, data...) }}, nil
}

// nothing answers an empty list: there are no exemplars.
func (a *API) nothing(context.Context, *http.Request) (answer, error) {
	return answer{data: func(o *output) { o.b = append(o.b, "[]"...) }}, nil
}

// formatQuery answers a query as it is written well.
func (a *API) formatQuery(_ context.Context, r *http.Request) (answer, error) {
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, invalid("query", err)
	}
	return answer{data: func(o *output) { o.b = appendString(o.b, parser.Prettify(expr)) }}, nil
}
