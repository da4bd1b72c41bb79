package promapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// evaluatorSamples bounds what one evaluation holds in memory: about 80 MB.
const evaluatorSamples = 5_000_000

// Evaluator evaluates expressions for rules, with an engine of its own: dashboards and
// rules do not take each other's place. It is safe for concurrent use; how many
// evaluations run at once, and for how long, is the caller's to bound.
//
// A selector that does not speak of the label late leaves late readings out.
type Evaluator struct {
	engine *promql.Engine
	store  storage.Queryable
}

// Sample is one series of a result, without the metric's name.
type Sample struct {
	Labels telemetry.Labels
	Value  float64
}

// NewEvaluator makes one over the store. The logger may be nil.
func NewEvaluator(store storage.Queryable, logger *slog.Logger) *Evaluator {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	p := parser.NewParser(parser.Options{})
	return &Evaluator{store: marked{store}, engine: promql.NewEngine(promql.EngineOpts{
		Logger: logger, MaxSamples: evaluatorSamples, Timeout: 2 * time.Minute, LookbackDelta: 5 * time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: p,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})}
}

// Check says what is wrong with an expression, and at which byte of it; the offset is
// -1 when that is not known.
func Check(query string) (offset int, err error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	var list parser.ParseErrors
	switch {
	case errors.As(err, &list) && len(list) > 0:
		return int(list[0].PositionRange.Start), list[0].Err
	case err != nil:
		return -1, err
	case expr.Type() != parser.ValueTypeVector && expr.Type() != parser.ValueTypeScalar:
		return 0, fmt.Errorf("the result is a %s; an instant vector or a scalar can be judged", parser.DocumentedType(expr.Type()))
	}
	return 0, nil
}

// Evaluate returns the result of an instant query, and an error instead when it has
// more series than the limit.
func (e *Evaluator) Evaluate(ctx context.Context, query string, at time.Time, limit int) ([]Sample, error) {
	query, err := OnTime(query)
	if err != nil {
		return nil, err
	}
	q, err := e.engine.NewInstantQuery(ctx, e.store, promql.NewPrometheusQueryOpts(false, 0, nil), query, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	switch v := result.Value.(type) {
	case promql.Scalar:
		return []Sample{{Value: v.V}}, nil
	case promql.Vector:
		if len(v) > limit {
			return nil, fmt.Errorf("the result has %d series, at most %d are judged; sum them up, for example by (site)", len(v), limit)
		}
		out := make([]Sample, 0, len(v))
		for i := range v {
			if v[i].H != nil {
				return nil, errors.New("the result has histograms; only numbers can be judged")
			}
			out = append(out, Sample{labelsOf(v[i].Metric), v[i].F})
		}
		return out, nil
	}
	return nil, fmt.Errorf("the result is a %s; an instant vector or a scalar can be judged", result.Value.Type())
}

// OnTime returns the query with late readings left out of every selector that does not
// speak of them.
func OnTime(query string) (string, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return "", err
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			onTime(s)
		}
		return nil
	})
	return expr.String(), nil
}

// onTime makes a selector leave late readings out.
func onTime(s *parser.VectorSelector) {
	for _, m := range s.LabelMatchers {
		if m.Name == telemetry.LabelLate {
			return
		}
	}
	s.LabelMatchers = append(s.LabelMatchers, labels.MustNewMatcher(labels.MatchEqual, telemetry.LabelLate, ""))
}

func labelsOf(metric labels.Labels) (out telemetry.Labels) {
	metric.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel {
			out = append(out, telemetry.Label{Name: l.Name, Value: l.Value})
		}
	})
	return out
}
