package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// Backtests tries rules on past readings. Safe for concurrent use.
type Backtests interface {
	// Backtest says which alerts a rule would have raised, with its limits as they
	// are and with others. Its refusals are [*alert.Refusal]; ErrBusy: another one
	// runs.
	Backtest(ctx context.Context, b Backtest) (BacktestResult, error)
}

// ErrBusy says that something runs once at a time, and does.
var ErrBusy = errors.New("another one runs")

// Bounds of a backtest.
const (
	MaxBacktestSpan   = 92 * 24 * time.Hour
	MaxBacktestLimits = 8
)

// Backtest asks for one. From and To bound the readings; without limits the rule
// is tried as it is.
type Backtest struct {
	Rule     string         `json:"-"`
	From     time.Time      `json:"from"`
	To       time.Time      `json:"to"`
	Severity alert.Severity `json:"severity"` // the level whose limit is changed
	Limits   []float64      `json:"limits"`   // in the rule's unit
}

// BacktestResult is what came of it.
type BacktestResult struct {
	From     time.Time        `json:"from"`
	To       time.Time        `json:"to"`
	Severity alert.Severity   `json:"severity"`
	Series   []BacktestSeries `json:"series"`  // what the rule watches, thinned out for a plot
	Results  []BacktestLimit  `json:"results"` // the rule as it is, then each of the limits
}

// BacktestSeries is a series in columns: for each its time (ms), the least and the
// greatest reading.
type BacktestSeries struct {
	Site     string    `json:"site"`
	Edge     string    `json:"edge"`
	Device   string    `json:"device"`
	Point    string    `json:"point"`
	Quantity string    `json:"quantity"`
	Unit     string    `json:"unit"`
	Times    []int64   `json:"times"`
	Low      []float64 `json:"low"`
	High     []float64 `json:"high"`
}

// BacktestLimit is what one limit would have done.
type BacktestLimit struct {
	Limit    *float64          `json:"limit"` // null: the rule as it is
	Episodes int               `json:"episodes"`
	PerWeek  float64           `json:"per_week"`
	Standing float64           `json:"standing_seconds"` // of all episodes
	Share    float64           `json:"share"`            // of the time; over several series it may exceed 1
	Median   float64           `json:"median_seconds"`
	Longest  float64           `json:"longest_seconds"`
	Open     int               `json:"open"` // still standing at the end
	List     []BacktestEpisode `json:"list"` // the first 500
}

// BacktestEpisode is one alert that would have been.
type BacktestEpisode struct {
	Series   string         `json:"series"` // edge/device/point
	Severity alert.Severity `json:"severity"`
	Start    time.Time      `json:"start"`
	End      *time.Time     `json:"end"`
	Peak     float64        `json:"peak"`
}

// backtestTime bounds how long one backtest may compute.
const backtestTime = 25 * time.Second

func (h *Handler) postBacktest(w http.ResponseWriter, r *http.Request) {
	var b Backtest
	if !h.allow(w, r) || !h.body(w, r, &b) {
		return
	}
	b.Rule = r.PathValue("id")
	if b.To.IsZero() {
		b.To = time.Now()
	}
	if span := b.To.Sub(b.From); b.From.IsZero() || span <= 0 || span > MaxBacktestSpan {
		h.problem(w, r, http.StatusUnprocessableEntity, "not acceptable", fmt.Sprintf("from must lie before to, by %d days at most", int(MaxBacktestSpan.Hours()/24)))
		return
	}
	if len(b.Limits) > MaxBacktestLimits {
		h.problem(w, r, http.StatusUnprocessableEntity, "not acceptable", fmt.Sprintf("%d limits; at most %d at once", len(b.Limits), MaxBacktestLimits))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), backtestTime)
	defer cancel()
	result, err := h.cfg.Backtests.Backtest(ctx, b)
	switch {
	case errors.Is(err, ErrBusy):
		w.Header().Set("Retry-After", "5")
		h.problem(w, r, http.StatusServiceUnavailable, "busy", "another backtest runs; try again in a moment")
	case errors.Is(err, context.DeadlineExceeded):
		h.problem(w, r, http.StatusUnprocessableEntity, "takes too long", fmt.Sprintf("not done within %s; choose a shorter time, or use langbiang-hub rules backtest", backtestTime))
	case err != nil:
		h.refused(w, r, err)
	default:
		h.json(w, r, result)
	}
}
