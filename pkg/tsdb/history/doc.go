// Package history keeps what is left of samples when they themselves have become
// too many: of every series, for each five minutes and later for each hour, how
// many samples there were, the smallest, the largest, and their value as the
// quantity's aggregation says: the mean of temperatures, the sum of rain, the last
// of states, the vector mean of wind directions.
//
//	h, err := history.Open(dir, history.Options{...})
//	go h.Run(ctx, raw)                // computes what is settled, corrects what came late
//	q := h.Queryable(raw)             // one Queryable over both
//	h.Mark(slice)                     // samples were appended to a time that is computed
//
// # What is kept
//
// A bucket that ends at e is made of the samples with a time in (e-R, e], as a
// range selector of PromQL looks at them, and stands at e. Staleness markers are no
// samples. Buckets are kept in sets: one of a day (UTC), and once nothing can come
// late any more the days of a month become one set, and the hours are made of it.
// A set has four blocks of the Prometheus TSDB, with the same series under the
// same labels: value, min, max and count.
//
//	state.json                     version; slices that late samples have changed
//	5m/20261127-01J.../value/      a set of a day: index, chunks, meta.json
//	                   min/ max/ count/
//	5m/202610-01J.../              a set of a month
//	1h/202610-01J.../
//
// A set never changes. It is written beside its place, fsynced and renamed, and
// replaces an older one of the same period; of two the newer name counts, and the
// older one goes at the next start. So every step may be broken off and done again.
//
// # Corrections
//
// A set is a function of the samples of its period. When samples come late, the
// slice of two hours that they fall into is noted, durably before they are safe,
// and the period is computed anew. The samples of a part of it may have left the
// store by then: of two buckets, the one made of more samples stands.
//
// # Queries
//
// For a time whose samples are gone the buckets answer. For a time that has both,
// they answer when the query looks at steps of a bucket or more, if that gives what
// the query asks for: see choose. So min_over_time is a minimum of minima, over
// exactly the samples that it would have looked at; what cannot be made of buckets,
// as a quantile, is made of samples where there are any, and the answer says in a
// warning that it leaves the older time out.
//
// All methods may be called from any goroutine; Run is called once.
package history
