package promapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

const truncated = "results truncated due to limit"

// labelNames answers which labels there are.
func (a *API) labelNames(ctx context.Context, r *http.Request) (answer, error) {
	return a.listed(ctx, r, func(q storage.Querier, hints *storage.LabelHints, where []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(ctx, hints, where...)
	})
}

// labelValues answers which values a label has.
func (a *API) labelValues(ctx context.Context, r *http.Request) (answer, error) {
	name := r.PathValue("name")
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if name == "" || !utf8.ValidString(name) {
		return answer{}, failure{badData, fmt.Errorf("invalid label name: %q", name)}
	}
	return a.listed(ctx, r, func(q storage.Querier, hints *storage.LabelHints, where []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, hints, where...)
	})
}

// listed answers with the union of what find finds for each of the selectors.
func (a *API) listed(_ context.Context, r *http.Request, find func(storage.Querier, *storage.LabelHints, []*labels.Matcher) ([]string, annotations.Annotations, error)) (answer, error) {
	limit, err := limitParam(r)
	if err != nil {
		return answer{}, err
	}
	q, selectors, _, err := a.open(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = q.Close() }()
	if len(selectors) == 0 {
		selectors = [][]*labels.Matcher{nil}
	}
	hints := &storage.LabelHints{}
	if limit > 0 {
		hints.Limit = limit + 1
	}
	found := make(map[string]bool)
	var notes annotations.Annotations
	for _, where := range selectors {
		names, more, err := find(q, hints, where)
		if err != nil {
			return answer{}, err
		}
		notes = notes.Merge(more)
		for _, n := range names {
			found[strings.Clone(n)] = true // it may lie in a mapped file
		}
	}
	names := slices.Sorted(maps.Keys(found))
	warnings, infos := notes.AsStrings("", 10, 10)
	if limit > 0 && len(names) > limit {
		names, warnings = names[:limit], append(warnings, truncated)
	}
	return answer{data: func(o *output) { o.strings(names) }, warnings: warnings, infos: infos}, nil
}

// series answers which series there are.
func (a *API) series(ctx context.Context, r *http.Request) (answer, error) {
	if len(r.Form["match[]"]) == 0 {
		return answer{}, failure{badData, errors.New("no match[] parameter provided")}
	}
	limit, err := limitParam(r)
	if err != nil {
		return answer{}, err
	}
	q, selectors, hints, err := a.open(r)
	if err != nil {
		return answer{}, err
	}
	answered := false
	defer func() {
		if !answered {
			_ = q.Close()
		}
	}()
	hints.Func = "series" // what the TSDB understands as: no samples
	if limit > 0 {
		hints.Limit = limit + 1
	}
	sets := make([]storage.SeriesSet, len(selectors))
	for i, where := range selectors {
		sets[i] = q.Select(ctx, true, hints, where...)
	}
	set := sets[0]
	if len(sets) > 1 {
		set = storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	}
	var found []labels.Labels
	cut := false
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return answer{}, err
		}
		if limit > 0 && len(found) == limit {
			cut = true
			break
		}
		if len(found) == a.options.MaxSeries {
			return answer{}, failure{failed, fmt.Errorf("more than %s series match. Try narrower selectors, or a limit", thousands(a.options.MaxSeries))}
		}
		found = append(found, set.At().Labels())
	}
	if err := set.Err(); err != nil {
		return answer{}, err
	}
	warnings, infos := set.Warnings().AsStrings("", 10, 10)
	if cut {
		warnings = append(warnings, truncated)
	}
	answered = true
	return answer{
		data: func(o *output) {
			o.list(len(found), func(i int) { o.b = appendLabels(o.b, found[i]) })
		},
		warnings: warnings, infos: infos,
		finish: func() { _ = q.Close() },
	}, nil
}

// open opens the store for the time and the selectors that the request names.
func (a *API) open(r *http.Request) (storage.Querier, [][]*labels.Matcher, *storage.SelectHints, error) {
	start, err := timeParam(r, "start", minTime)
	if err != nil {
		return nil, nil, nil, err
	}
	end, err := timeParam(r, "end", maxTime)
	if err != nil {
		return nil, nil, nil, err
	}
	selectors, err := a.parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		return nil, nil, nil, invalid("match[]", err)
	}
	for _, where := range selectors {
		if !slices.ContainsFunc(where, func(m *labels.Matcher) bool { return m != nil && !m.Matches("") }) {
			return nil, nil, nil, invalid("match[]", errors.New("match[] must contain at least one non-empty matcher"))
		}
	}
	q, err := a.store.Querier(start.UnixMilli(), end.UnixMilli())
	if err != nil {
		return nil, nil, nil, err
	}
	return q, selectors, &storage.SelectHints{Start: start.UnixMilli(), End: end.UnixMilli()}, nil
}

// metadata answers what the metrics mean, from the catalogue of quantities.
func (a *API) metadata(_ context.Context, r *http.Request) (answer, error) {
	limit := -1
	if s := r.FormValue("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return answer{}, failure{badData, errors.New("limit must be a number")}
		}
		limit = n
	}
	var ids []string
	if metric := r.FormValue("metric"); metric == "" {
		ids = slices.Sorted(maps.Keys(a.options.Quantities))
	} else if _, ok := a.options.Quantities[metric]; ok {
		ids = []string{metric}
	}
	if limit >= 0 && len(ids) > limit {
		ids = ids[:limit]
	}
	return answer{data: func(o *output) {
		b := append(o.b, '{')
		for i, id := range ids {
			q := a.options.Quantities[id]
			if i > 0 {
				b = append(b, ',')
			}
			help := q.Label.EN
			if q.Label.VI != "" && q.Label.VI != help {
				help = strings.TrimPrefix(help+" / "+q.Label.VI, " / ")
			}
			b = appendString(b, id)
			b = append(b, `:[{"type":"`...)
			b = append(b, metricType(id)...)
			b = append(b, `","help":`...)
			b = appendString(b, help)
			b = append(b, `,"unit":`...)
			b = appendString(b, q.Unit)
			b = append(b, `}]`...)
		}
		o.b = append(b, '}')
	}}, nil
}

// metricType is what Prometheus calls a quantity: one that only grows is named so.
func metricType(id string) string {
	if strings.HasSuffix(id, "_total") {
		return "counter"
	}
	return "gauge"
}

// buildInfo answers which Prometheus this is like, which is what clients ask for.
func (a *API) buildInfo(context.Context, *http.Request) (answer, error) {
	return answer{data: func(o *output) {
		b := append(o.b, `{"version":"`+engineVersion+`","revision":`...)
		b = appendString(b, "langbiang "+a.options.Version)
		b = append(b, `,"branch":"","buildUser":"","buildDate":"","goVersion":`...)
		b = appendString(b, runtime.Version())
		o.b = append(b, '}')
	}}, nil
}
