package rules

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"
)

// What evaluations may cost. One that took longer than slowAfter runs in a lane of
// its own kind from then on, so that it keeps none of the others waiting; and none is
// begun again before it has rested for restFactor times as long as it took, so that
// no expression takes more than a part of one processor.
const (
	quickLanes   = 2
	slowLanes    = 1
	slowAfter    = time.Second
	restFactor   = 4
	maxResult    = 1000 // series of one result
	maxErrorText = 500
)

// expression is a rule of kind expression in force.
type expression struct {
	results *results
	running bool
	due     time.Time
	evaluationStats
}

// evaluationStats is what became of a rule's evaluations since the hub started.
type evaluationStats struct {
	count, failed uint64
	evaluated     time.Time // the newest, by the hub's clock
	took          time.Duration
	series        int
	err           string // of the newest; "" when it succeeded
	errAt         time.Time
}

// Evaluation is an expression that is due.
type Evaluation struct {
	clock *ByClock
	asked *expression
	rule  *rule
	at    time.Time
	slow  bool
}

// Due returns what is to be evaluated now: run each, at once or in the order given.
// What finds no free lane stays due.
func (c *ByClock) Due(now time.Time) (list []*Evaluation) {
	set := c.engine.setAt(now.UnixMilli())
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range keys(c.asked) {
		x := c.asked[id]
		i, ok := set.byID[id]
		if !ok || set.rules[i].expr == nil || x.running || now.Before(x.due) {
			continue
		}
		lane, most := &c.quick, quickLanes
		slow := x.took > slowAfter
		if slow {
			lane, most = &c.slow, slowLanes
		}
		if *lane >= most {
			continue
		}
		*lane++
		x.running = true
		list = append(list, &Evaluation{c, x, set.rules[i], now, slow})
	}
	return list
}

// Rule is the id of the rule that is evaluated.
func (e *Evaluation) Rule() string { return e.rule.id }

// Run evaluates the expression and judges what it gives; the error says why it could
// not, after the state has been told. It ends soon after ctx, and then judges nothing.
func (e *Evaluation) Run(ctx context.Context) error {
	c, x, r := e.clock, e.asked, e.rule
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, ms(r.expr.Timeout))
	samples, err := c.query.Query(limited, r.expr.Query, e.at, maxResult)
	switch {
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		err = fmt.Errorf("given up after %s; ask for less, or set expression.timeout: %w", ms(r.expr.Timeout), err)
	case err == nil && len(samples) > maxResult:
		err = fmt.Errorf("the result has %d series, at most %d are judged; sum them up, for example by (site)", len(samples), maxResult)
	}
	cancel()
	took := time.Since(began)
	if ctx.Err() == nil {
		if err != nil {
			x.results.judge(e.at.UnixMilli(), r, nil, err)
		} else {
			x.results.judgeSamples(e.at.UnixMilli(), r, samples)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.slow {
		c.slow--
	} else {
		c.quick--
	}
	x.running = false
	x.due = r.expr.next(r.id, e.at)
	if rest := e.at.Add((restFactor + 1) * took); rest.After(x.due) {
		x.due = rest
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	x.count++
	x.evaluated, x.took, x.series, x.err = e.at, took, len(samples), ""
	if err != nil {
		x.failed++
		x.series, x.errAt = 0, e.at
		x.err = err.Error()[:min(len(err.Error()), maxErrorText)]
		return fmt.Errorf("rule %s: %w", r.id, err)
	}
	return nil
}

// next is the first time after t at which the expression is due: on a grid of its own,
// so that not all are due at once.
func (e *exprOf) next(id string, t time.Time) time.Time {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	offset := int64(h.Sum64() % uint64(e.Every))
	n := (t.UnixMilli()-offset)/e.Every + 1
	return time.UnixMilli(n*e.Every + offset)
}

// describe adds what became of the evaluations.
func (c *ByClock) describe(byID map[string]*RuleInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, x := range c.asked {
		if info := byID[id]; info != nil && info.Kind == Expression {
			info.Evaluations, info.Failures = x.count, x.failed
			info.Evaluated, info.Took, info.Matched = x.evaluated, x.took, x.series
			info.Error, info.ErrorAt = x.err, x.errAt
		}
	}
}
