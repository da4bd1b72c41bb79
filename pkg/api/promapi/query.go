package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/prometheus/promql"
)

// query answers an instant query.
func (a *API) query(ctx context.Context, r *http.Request) (answer, error) {
	limit, err := limitParam(r)
	if err != nil {
		return answer{}, err
	}
	at, err := timeParam(r, "time", a.options.Now())
	if err != nil {
		return answer{}, err
	}
	opts, err := queryOptions(r)
	if err != nil {
		return answer{}, err
	}
	q, err := a.engine.NewInstantQuery(ctx, a.store, opts, r.FormValue("query"), at)
	if err != nil {
		return answer{}, invalid("query", err)
	}
	return execute(ctx, q, r.FormValue("query"), limit)
}

// queryRange answers a range query.
func (a *API) queryRange(ctx context.Context, r *http.Request) (answer, error) {
	limit, err := limitParam(r)
	if err != nil {
		return answer{}, err
	}
	start, err := parseTime(r.FormValue("start"))
	if err != nil {
		return answer{}, invalid("start", err)
	}
	end, err := parseTime(r.FormValue("end"))
	if err != nil {
		return answer{}, invalid("end", err)
	}
	if end.Before(start) {
		return answer{}, invalid("end", errors.New("end timestamp must not be before start time"))
	}
	step, err := parseDuration(r.FormValue("step"))
	if err != nil {
		return answer{}, invalid("step", err)
	}
	if step.Milliseconds() <= 0 {
		return answer{}, invalid("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	if end.Sub(start)/step > timeSteps(a.options.MaxPoints) {
		return answer{}, failure{badData, fmt.Errorf("exceeded maximum resolution of %s points per timeseries. Try decreasing the query resolution (?step=XX)", thousands(a.options.MaxPoints))}
	}
	opts, err := queryOptions(r)
	if err != nil {
		return answer{}, err
	}
	q, err := a.engine.NewRangeQuery(ctx, a.store, opts, r.FormValue("query"), start, end, step)
	if err != nil {
		return answer{}, invalid("query", err)
	}
	return execute(ctx, q, r.FormValue("query"), limit)
}

func queryOptions(r *http.Request) (promql.QueryOpts, error) {
	s := r.FormValue("lookback_delta")
	if s == "" {
		return promql.NewPrometheusQueryOpts(false, 0, nil), nil
	}
	d, err := parseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", s)
	}
	if err != nil {
		return nil, invalid("lookback_delta", err)
	}
	return promql.NewPrometheusQueryOpts(false, d, nil), nil
}

// execute runs the query. Its samples belong to it until finish.
func execute(ctx context.Context, q promql.Query, text string, limit int) (answer, error) {
	result := q.Exec(ctx)
	if result.Err != nil {
		return answer{finish: q.Close}, result.Err
	}
	warnings, infos := result.Warnings.AsStrings(text, 10, 10)
	slices.Sort(warnings)
	slices.Sort(infos)
	value := result.Value
	cut := false
	switch v := value.(type) {
	case promql.Vector:
		if cut = limit > 0 && len(v) > limit; cut {
			value = v[:limit]
		}
	case promql.Matrix:
		if cut = limit > 0 && len(v) > limit; cut {
			value = v[:limit]
		}
	}
	if cut {
		warnings = append(warnings, truncated)
	}
	return answer{
		data:     func(o *output) { o.result(value) },
		warnings: warnings, infos: infos, finish: q.Close,
	}, nil
}
