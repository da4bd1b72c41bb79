package promapi

import (
	"context"
	"fmt"
	"regexp"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

type sitesKey struct{}

// WithSites confines every query of a context to series of the sites, whatever the
// query says itself. No sites: no series.
func WithSites(ctx context.Context, sites []string) context.Context {
	return context.WithValue(ctx, sitesKey{}, sites)
}

// Confine confines what is read from q to the sites of the context, see [WithSites].
func Confine(q storage.Queryable) storage.Queryable { return marked{q} }

// marked marks the errors of opening a Querier, and confines it to the sites of its
// contexts.
type marked struct{ q storage.Queryable }

// Querier implements storage.Queryable.
func (m marked) Querier(from, to int64) (storage.Querier, error) {
	q, err := m.q.Querier(from, to)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStore, err)
	}
	return confined{q}, nil
}

// confined asks for series of some sites only.
type confined struct{ storage.Querier }

func within(ctx context.Context, ms []*labels.Matcher) []*labels.Matcher {
	sites, ok := ctx.Value(sitesKey{}).([]string)
	if !ok {
		return ms
	}
	if len(sites) == 0 {
		sites = []string{"\x00"} // no site has that
	}
	expr := ""
	for i, s := range sites {
		if i > 0 {
			expr += "|"
		}
		expr += regexp.QuoteMeta(s)
	}
	return append(append([]*labels.Matcher(nil), ms...), labels.MustNewMatcher(labels.MatchRegexp, telemetry.LabelSite, expr))
}

func (c confined) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return c.Querier.Select(ctx, sorted, hints, within(ctx, ms)...)
}

func (c confined) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return c.Querier.LabelValues(ctx, name, hints, within(ctx, ms)...)
}

func (c confined) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return c.Querier.LabelNames(ctx, hints, within(ctx, ms)...)
}
