package rules

import (
	"context"
	"fmt"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Found is the result of an expression at a time.
type Found struct {
	Time    int64 // ms
	Samples []Sample
}

// past makes the engine judge what the hub's clock would have, at times of the past:
// nothing is out of sight in it.
func (e *Engine) past(from int64) *ByClock {
	c := e.ByClock(nil, at(from).Add(-2*settleIn), nil)
	c.inPast = true
	return c
}

// BacktestResults returns the alerts that the rule of kind expression would have raised
// on the results of its expression, in order of time, by start.
func BacktestResults(set *Set, id string, list []Found) []Episode {
	var es episodes
	i, ok := set.byID[id]
	if !ok || set.rules[i].expr == nil || len(list) == 0 {
		return nil
	}
	e := NewEngine([]Effective{{set, Always}}, es.take)
	k := e.past(list[0].Time).newResults(id)
	for j := range list {
		k.judgeSamples(list[j].Time, set.rules[i], list[j].Samples)
	}
	return es.sorted()
}

func (k *results) judgeSamples(t int64, r *rule, samples []Sample) {
	found := make([]result, 0, len(samples))
	for i := range samples {
		found = append(found, result{r.resultSeries(samples[i].Labels), samples[i].Value})
	}
	k.judge(t, r, found, nil)
}

// EvaluateAll asks for the result of an expression at every step of a time.
func EvaluateAll(ctx context.Context, q Querier, r *RuleInfo, from, to time.Time) (out []Found, err error) {
	for t := from; !t.After(to); t = t.Add(r.Every) {
		samples, err := q.Query(ctx, r.Query, t, maxResult)
		if err != nil {
			return nil, fmt.Errorf("rule %s at %s: %w", r.ID, t.Format(time.RFC3339), err)
		}
		out = append(out, Found{t.UnixMilli(), samples})
	}
	return out, nil
}

// EdgeSeries is the series that rules of kind edge_offline watch of an edge, for
// [Set.Matches].
func EdgeSeries(edge, site string) telemetry.BoundSeries { return edgeSeries(edge, site) }

// byClock plays what the hub's clock judges of a test.
func (r *testRun) byClock(i int, t *ruleTest, e *Engine, values [][]testValue, from, end int64) {
	step := t.Interval.Milliseconds()
	histories := make([]History, len(t.Series))
	for k := range t.Series {
		histories[k].Series = r.bound(t, k)
		for n, v := range values[k] {
			if !v.none && !v.stop && !v.isText {
				histories[k].Readings = append(histories[k].Readings, PastReading{from + int64(n)*step, v.v, v.quality})
			}
		}
	}
	c := e.past(from)
	for _, rule := range r.set.rules[:r.set.base] {
		if !rule.byClock() || !t.Only.match(rule.id) || len(t.Only) == 0 && rule.builtIn() {
			continue
		}
		k := c.newResults(rule.id)
		switch {
		case rule.fewer != nil:
			for now := from; now <= end; now += step {
				if found, ok := rule.countReports(reportedBy(histories, now), r.set, at(now), c.start); ok {
					k.judge(now, rule, found, nil)
				}
			}
		case rule.expr != nil && r.env.Over == nil:
			r.fault(fmt.Sprintf("the rule %s is an expression: nothing evaluates it here", rule.id), "leave it out with only:", "tests", i)
		case rule.expr != nil:
			info := rule.info()
			list, err := EvaluateAll(context.Background(), r.env.Over(histories), &info, at(from), at(end))
			if err != nil {
				r.fault(err.Error(), "", "tests", i)
				return
			}
			for j := range list {
				k.judgeSamples(list[j].Time, rule, list[j].Samples)
			}
		}
	}
}

// reportedBy is what the hub would have known at a time.
func reportedBy(histories []History, now int64) (out []Reported) {
	for i := range histories {
		r := Reported{BoundSeries: histories[i].Series}
		for _, x := range histories[i].Readings {
			if x.Time <= now && !x.Quality.IsBad() {
				r.Last = at(x.Time)
			}
		}
		out = append(out, r)
	}
	return out
}
