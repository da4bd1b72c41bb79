package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/langbiang/langbiang/pkg/rules"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/tsdb"
	"github.com/langbiang/langbiang/pkg/tsdb/local"
	"github.com/prometheus/prometheus/storage"
)

// chunk is how much of a hub's store is asked for at once.
const chunk = 24 * time.Hour

// readHub reads the series that the rules watch from the store of a hub that runs.
func readHub(ctx context.Context, hub *remote, set *rules.Set, from, to time.Time) (out []rules.History, err error) {
	live, _, err := liveSeries(ctx, hub)
	if err != nil {
		return nil, err
	}
	for _, s := range live {
		if len(set.Matches(s)) == 0 {
			continue
		}
		where := fmt.Sprintf(`edge=%q,device=%q,point=%q,late=""`, s.Edge, s.Device, s.Point)
		quality := fmt.Sprintf(`%s{%s,quantity=%q}`, telemetry.QuantityReadingQuality, where, s.Quantity)
		changes, err := askHub(ctx, hub, "last_over_time("+quality+"[400d])", from)
		if err != nil {
			return nil, err
		}
		for i := range changes {
			changes[i].T = from.UnixMilli()
		}
		var samples []tsdb.Sample
		for at := from; at.Before(to); at = at.Add(chunk) {
			end := at.Add(chunk)
			if end.After(to) {
				end = to
			}
			span := fmt.Sprintf("[%dms]", end.Sub(at).Milliseconds())
			part, err := askHub(ctx, hub, s.Quantity+"{"+where+"}"+span, end)
			if err != nil {
				return nil, err
			}
			samples = append(samples, part...)
			if part, err = askHub(ctx, hub, quality+span, end); err != nil {
				return nil, err
			}
			changes = append(changes, part...)
		}
		out = append(out, pastOf(s, samples, changes))
	}
	if len(out) == 0 && !hasExpressions(set) {
		return nil, errors.New("the rules match no series of this hub; see rules check --hub")
	}
	return out, nil
}

func hasExpressions(set *rules.Set) bool {
	return slices.ContainsFunc(set.Rules(), func(r rules.RuleInfo) bool { return r.Kind == rules.Expression })
}

// askHub returns the samples that a query of PromQL finds at a time, of whatever
// series.
func askHub(ctx context.Context, hub *remote, query string, at time.Time) (out []tsdb.Sample, err error) {
	var answer struct {
		Data struct {
			Result []struct {
				Value  *[2]any  `json:"value"`
				Values [][2]any `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := hub.get(ctx, "/prometheus/api/v1/query", url.Values{"query": {query}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)}}, &answer); err != nil {
		return nil, err
	}
	for _, r := range answer.Data.Result {
		if r.Value != nil {
			r.Values = append(r.Values, *r.Value)
		}
		for _, v := range r.Values {
			t, x, err := apiValue(v)
			if err != nil {
				return nil, err
			}
			out = append(out, tsdb.Sample{T: t, V: x})
		}
	}
	return out, nil
}

// readData reads the series that the rules watch from the data folder of a hub that
// is stopped. Nothing in it is changed.
func readData(ctx context.Context, dir string, env rules.Env, set *rules.Set, from, to time.Time) (out []rules.History, err error) {
	store := filepath.Join(dir, "tsdb")
	if _, err := os.Stat(store); err != nil {
		return nil, fmt.Errorf("--data %s: this is no data folder of a hub with a store of its own: %w", dir, err)
	}
	look, err := local.OpenLook(store, "")
	switch {
	case errors.Is(err, tsdb.ErrLocked):
		return nil, fmt.Errorf("--data %s: a hub runs on this folder; ask it with --hub", dir)
	case err != nil:
		return nil, fmt.Errorf("--data %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, look.Close()) }()
	q := look.Queryable()
	for _, id := range slices.Sorted(slices.Values(set.Quantities())) {
		found, err := tsdb.ReadSamples(ctx, q, from.UnixMilli(), to.UnixMilli(), tsdb.Match{Name: tsdb.NameLabel, Value: id}, tsdb.Match{Name: telemetry.LabelLate})
		if err != nil {
			return nil, err
		}
		for _, same := range sameSeries(found) {
			newest := same[0]
			var samples []tsdb.Sample
			for _, one := range same {
				if one.Samples[len(one.Samples)-1].T > newest.Samples[len(newest.Samples)-1].T {
					newest = one
				}
				for _, x := range one.Samples {
					if x.V == x.V { // the others mark where bad readings begin
						samples = append(samples, x)
					}
				}
			}
			s := boundOf(newest.Labels, env.Quantities[id].Unit)
			if len(set.Matches(s)) == 0 {
				continue
			}
			changes, err := qualities(ctx, q, &s, from.UnixMilli(), to.UnixMilli())
			if err != nil {
				return nil, err
			}
			out = append(out, pastOf(s, samples, changes))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("--data %s: the rules match no series that has samples then", dir)
	}
	return out, nil
}

// sameSeries puts together what is of one point: a site or a label may have changed.
func sameSeries(found []tsdb.Series) (out [][]tsdb.Series) {
	at := map[[3]string]int{}
	for _, s := range found {
		key := [3]string{s.Labels.Get(telemetry.LabelEdge), s.Labels.Get(telemetry.LabelDevice), s.Labels.Get(telemetry.LabelPoint)}
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	return out
}

// qualities reads when the quality of a series changed, beginning with that which
// holds at from.
func qualities(ctx context.Context, q storage.Queryable, s *telemetry.BoundSeries, from, to int64) (out []tsdb.Sample, err error) {
	found, err := tsdb.ReadSamples(ctx, q, 0, to,
		tsdb.Match{Name: tsdb.NameLabel, Value: telemetry.QuantityReadingQuality}, tsdb.Match{Name: "quantity", Value: s.Quantity}, tsdb.Match{Name: telemetry.LabelLate},
		tsdb.Match{Name: telemetry.LabelEdge, Value: s.Edge}, tsdb.Match{Name: telemetry.LabelDevice, Value: s.Device}, tsdb.Match{Name: telemetry.LabelPoint, Value: s.Point})
	for _, one := range found {
		out = append(out, one.Samples...)
	}
	slices.SortStableFunc(out, func(a, b tsdb.Sample) int { return cmp.Compare(a.T, b.T) })
	for len(out) > 1 && out[1].T <= from {
		out = out[1:]
	}
	if len(out) > 0 {
		out[0].T = max(out[0].T, from)
	}
	return out, err
}

// boundOf is the series of a label set in the store.
func boundOf(labels telemetry.Labels, unit string) telemetry.BoundSeries {
	s := telemetry.BoundSeries{
		Site: labels.Get(telemetry.LabelSite), Edge: labels.Get(telemetry.LabelEdge), Device: labels.Get(telemetry.LabelDevice),
		Point: labels.Get(telemetry.LabelPoint), Quantity: labels.Get(tsdb.NameLabel), Unit: unit,
	}
	for _, l := range labels {
		switch l.Name {
		case tsdb.NameLabel, telemetry.LabelSite, telemetry.LabelEdge, telemetry.LabelDevice, telemetry.LabelPoint, telemetry.LabelLate:
		default:
			s.Labels = append(s.Labels, l)
		}
	}
	return s
}

// pastOf puts samples and changes of quality together. Series that had other labels
// before are one.
func pastOf(s telemetry.BoundSeries, samples, changes []tsdb.Sample) rules.History {
	sorted := func(list []tsdb.Sample) (out []rules.PastReading) {
		slices.SortStableFunc(list, func(a, b tsdb.Sample) int { return cmp.Compare(a.T, b.T) })
		for _, x := range list {
			if n := len(out); n == 0 || out[n-1].Time < x.T {
				out = append(out, rules.PastReading{Time: x.T, Value: x.V})
			}
		}
		return out
	}
	readings, qualities := sorted(samples), sorted(changes)
	for i := range qualities {
		qualities[i].Quality, qualities[i].Value = telemetry.Quality(qualities[i].Value), 0
	}
	return rules.History{Series: s, Readings: rules.Requalify(readings, qualities)}
}
