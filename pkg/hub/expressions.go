package hub

import (
	"context"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/api/promapi"
	"github.com/langbiang/langbiang/pkg/rules"
)

// checkQuery says what is wrong with a PromQL expression.
func checkQuery(query string) error {
	offset, err := promapi.Check(query)
	if err == nil || offset < 0 {
		return err
	}
	return &rules.QueryError{Offset: offset, Msg: err.Error()}
}

// querier evaluates the expressions of rules over the store.
type querier struct{ evaluator *promapi.Evaluator }

// Query implements [rules.Querier].
func (q querier) Query(ctx context.Context, query string, at time.Time, limit int) ([]rules.Sample, error) {
	list, err := q.evaluator.Evaluate(ctx, query, at, limit)
	if err != nil {
		return nil, err
	}
	out := make([]rules.Sample, len(list))
	for i := range list {
		out[i] = rules.Sample(list[i])
	}
	return out, nil
}

// overReadings evaluates expressions over readings that no hub has.
func overReadings(histories []rules.History) rules.Querier {
	var m promapi.Memory
	for i := range histories {
		h := &histories[i]
		list := make([]promapi.MemorySample, len(h.Readings))
		for k, r := range h.Readings {
			list[k] = promapi.MemorySample{Time: r.Time, Value: r.Value, Bad: r.Quality.IsBad()}
		}
		m.Add(h.Series, list)
	}
	return querier{promapi.NewEvaluator(&m, nil)}
}

// evaluate begins the expressions that are due. Each error is logged once, and again
// when it is another, or after it was over.
func (h *Hub) evaluate(ctx context.Context, now time.Time, wg *sync.WaitGroup) {
	for _, e := range h.clock.Due(now) {
		wg.Go(func() { h.noteEvaluation(e.Rule(), e.Run(ctx)) })
	}
}

// noteEvaluation logs what became of an evaluation, when that is new.
func (h *Hub) noteEvaluation(rule string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	h.failing.mu.Lock()
	was := h.failing.by[rule]
	if h.failing.by == nil {
		h.failing.by = map[string]string{}
	}
	h.failing.by[rule] = text
	h.failing.mu.Unlock()
	switch {
	case text == was:
	case err != nil:
		h.logger.Error("expression cannot be evaluated; its alerts stay as they are", "rule", rule, "err", err)
	default:
		h.logger.Info("expression can be evaluated again", "rule", rule)
	}
}

// failing are the errors of expressions that have been logged and are not over.
type failing struct {
	mu sync.Mutex
	by map[string]string
}
