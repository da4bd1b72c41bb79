package hub

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/ingest"
	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
)

// Bounds of a backtest that the page asks for.
const (
	maxPastReadings = 3_000_000 // over all series
	maxPastSeries   = 200
	maxPastSteps    = 20_000 // of an expression
	maxPastEpisodes = 500    // listed of each limit
	pastColumns     = 900    // of each series' plot
)

// pastRules tries rules on the readings of the hub's own store, one at a time: the
// code is that of live readings, and ingest comes first.
type pastRules struct {
	h  *Hub
	mu sync.Mutex
}

// Backtest implements [api.Backtests].
func (p *pastRules) Backtest(ctx context.Context, b api.Backtest) (api.BacktestResult, error) {
	if !p.mu.TryLock() {
		return api.BacktestResult{}, api.ErrBusy
	}
	defer p.mu.Unlock()
	out := api.BacktestResult{From: b.From.UTC(), To: b.To.UTC(), Severity: b.Severity, Series: []api.BacktestSeries{}, Results: []api.BacktestLimit{}}
	info, set, err := ruleAdmin{p.h}.rule(b.Rule)
	if err != nil {
		return out, err
	}
	switch info.Kind {
	case rules.Several:
		return out, refused(alert.Invalid, "try the rules of its members", "rule %s watches alerts, not readings", b.Rule)
	case rules.Fewer, rules.EdgeOffline:
		return out, refused(alert.Invalid, "nothing keeps that", "rule %s is judged by when the hub heard something", b.Rule)
	}
	set = set.Only(b.Rule)
	var histories []rules.History
	var found []rules.Found
	if info.Kind == rules.Expression {
		found, err = p.evaluate(ctx, info, b.From, b.To)
	} else {
		histories, err = p.histories(ctx, set, b.From.Add(-set.Memory()), b.To)
	}
	if err != nil {
		return out, err
	}
	for i := range histories {
		out.Series = append(out.Series, columns(&histories[i], b.From, b.To))
	}
	judge := func(s *rules.Set, limit *float64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		var list []rules.Episode
		if info.Kind == rules.Expression {
			list = rules.BacktestResults(s, b.Rule, found)
		} else {
			list = rules.Since(rules.Backtest(s, histories, b.To.UnixMilli()), b.From)
		}
		severity := alert.None
		if limit != nil { // what another limit changes
			severity = b.Severity
		}
		sum := rules.SummarizeAt(list, severity, b.From, b.To)
		r := api.BacktestLimit{
			Limit: limit, Episodes: sum.Episodes, PerWeek: sum.PerWeek, Standing: sum.Standing.Seconds(), Share: sum.Share,
			Median: sum.Median.Seconds(), Longest: sum.Longest.Seconds(), Open: sum.Open, List: []api.BacktestEpisode{},
		}
		for k := range list[:min(len(list), maxPastEpisodes)] {
			e := &list[k]
			ep := api.BacktestEpisode{Series: e.Series, Severity: e.Severity, Start: e.Start.UTC(), Peak: e.Peak}
			if !e.End.IsZero() {
				end := e.End.UTC()
				ep.End = &end
			}
			r.List = append(r.List, ep)
		}
		out.Results = append(out.Results, r)
		return nil
	}
	if err := judge(set, nil); err != nil {
		return out, err
	}
	for _, limit := range b.Limits {
		other, ok := set.WithLimit(b.Severity, limit)
		if !ok {
			return out, refused(alert.Invalid, "choose a severity that the rule has; its kind must be above or below", "rule %s has no limit of severity %q", b.Rule, b.Severity)
		}
		if err := judge(other, &limit); err != nil {
			return out, err
		}
	}
	return out, nil
}

// evaluate asks the store for the results of an expression at every step of the time.
func (p *pastRules) evaluate(ctx context.Context, info *rules.RuleInfo, from, to time.Time) ([]rules.Found, error) {
	if n := to.Sub(from) / info.Every; n > maxPastSteps {
		return nil, refused(alert.Invalid, "choose a shorter time, or use langbiang-hub rules backtest", "the expression has %d steps in that time; at most %d are tried here", n, maxPastSteps)
	}
	found, err := rules.EvaluateAll(ctx, querier{promapi.NewEvaluator(promapi.GiveWay(p.h.store.Queryable()), p.h.logger)}, info, from, to)
	if err != nil && ctx.Err() == nil {
		return nil, refused(alert.Invalid, "see what it says at /api/v1/rules", "%v", err)
	}
	return found, err
}

// histories reads what the rule watches, day by day, so that the bound is met
// before the memory is taken.
func (p *pastRules) histories(ctx context.Context, set *rules.Set, from, to time.Time) ([]rules.History, error) {
	var out []rules.History
	for _, e := range p.h.ingest.Edges() {
		for _, s := range p.h.ingest.Series(e.Edge) {
			if b := bound(&s); len(set.Matches(b)) > 0 {
				out = append(out, rules.History{Series: b})
			}
		}
	}
	switch {
	case len(out) == 0:
		return nil, refused(alert.Invalid, "see what it watches at /api/v1/rules", "the rule matches no series")
	case len(out) > maxPastSeries:
		return nil, refused(alert.Invalid, "use langbiang-hub rules backtest", "the rule watches %d series; at most %d are tried here", len(out), maxPastSeries)
	}
	total := 0
	for at := from; at.Before(to); at = at.Add(chunk) {
		end := min(at.Add(chunk).UnixMilli(), to.UnixMilli()+1) - 1
		for i := range out {
			h := &out[i]
			s := &h.Series
			got, err := tsdb.ReadSamples(ctx, promapi.GiveWay(p.h.store.Queryable()), at.UnixMilli(), end,
				tsdb.Match{Name: tsdb.NameLabel, Value: s.Quantity}, tsdb.Match{Name: "edge", Value: s.Edge},
				tsdb.Match{Name: "device", Value: s.Device}, tsdb.Match{Name: "point", Value: s.Point}, tsdb.Match{Name: "late"})
			if err != nil {
				return nil, fmt.Errorf("store: %w", err)
			}
			for _, g := range got {
				for _, x := range g.Samples {
					if n := len(h.Readings); n > 0 && h.Readings[n-1].Time >= x.T {
						continue // the same point under other labels
					}
					r := rules.PastReading{Time: x.T, Value: x.V}
					if tsdb.IsStaleMarker(x.V) {
						r = rules.PastReading{Time: x.T, Quality: telemetry.BadQuality(telemetry.ReasonNoAnswer)}
					}
					h.Readings = append(h.Readings, r)
					total++
				}
			}
			if total > maxPastReadings {
				return nil, refused(alert.Invalid, "choose a shorter time, or use langbiang-hub rules backtest", "there are more than %d readings", maxPastReadings)
			}
		}
	}
	return out, nil
}

func bound(s *ingest.SeriesStatus) telemetry.BoundSeries {
	return telemetry.BoundSeries{
		Site: s.Site, Edge: s.Edge, Device: s.Device, Point: s.Point, Quantity: s.Quantity, Unit: s.Unit, Labels: s.Labels,
	}
}

// columns thins a history out for a plot.
func columns(h *rules.History, from, to time.Time) api.BacktestSeries {
	s := &h.Series
	out := api.BacktestSeries{
		Site: s.Site, Edge: s.Edge, Device: s.Device, Point: s.Point, Quantity: s.Quantity, Unit: s.Unit,
		Times: []int64{}, Low: []float64{}, High: []float64{},
	}
	width := max((to.UnixMilli()-from.UnixMilli())/pastColumns, 1)
	last := int64(math.MinInt64)
	for i := range h.Readings {
		r := &h.Readings[i]
		if r.Quality.IsBad() || r.Time < from.UnixMilli() {
			continue
		}
		at := r.Time - (r.Time-from.UnixMilli())%width
		if at != last {
			last = at
			out.Times, out.Low, out.High = append(out.Times, at), append(out.Low, r.Value), append(out.High, r.Value)
			continue
		}
		n := len(out.Times) - 1
		out.Low[n], out.High[n] = min(out.Low[n], r.Value), max(out.High[n], r.Value)
	}
	return out
}
