package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// Asking puts questions of people to agents. Safe for concurrent use.
type Asking interface {
	// Ask puts the question to the edge and hands the text of the answer to show as it
	// comes, from its own goroutine, until it ends or ctx does. Refusals are
	// [*Refusal].
	Ask(ctx context.Context, edge string, q Question, show func(text string) error) (Answered, error)
}

// Question is what is asked of an agent. It changes nothing there.
type Question struct {
	// Kind is doctor, status, why, read, log or trace.
	Kind string `json:"kind"`
	// Args are its arguments: device of why; device and point of read; connection of
	// trace; lines, level, since, match and follow of log.
	Args map[string]string `json:"args,omitempty"`
	// For is how long the answer may take: a minute when not said, 10m at most.
	For string `json:"for,omitempty"`

	Length time.Duration `json:"-"` // For
	Who    string        `json:"-"`
}

// String is the question in a line, for the audit log.
func (q *Question) String() string {
	text := q.Kind
	for _, name := range slices.Sorted(maps.Keys(q.Args)) {
		text += " " + name + "=" + q.Args[name]
	}
	return fmt.Sprintf("%.200s", text)
}

// Answered is how an answer ended.
type Answered struct {
	Failed    string `json:"failed,omitempty"`    // what is wrong, as the agent says; empty when nothing is
	Truncated bool   `json:"truncated,omitempty"` // it was longer than an answer may be
	Metered   bool   `json:"metered,omitempty"`   // bytes cost money on the link of the edge
	Messages  int    `json:"messages"`            // to and fro
	Bytes     int64  `json:"bytes"`               // of these on the link, headers estimated
	TookMS    int64  `json:"took_ms"`
}

// AnswerLine is a line of the answer to a question: a piece of its text or, last, how it
// ended.
type AnswerLine struct {
	Text     string    `json:"text,omitempty"`
	Answered *Answered `json:"answered,omitempty"`
	// Error says why the answer ended before its end.
	Error string `json:"error,omitempty"`
}

// Bounds of the time of an answer.
const (
	defaultAsk = time.Minute
	maxAsk     = 10 * time.Minute
)

// ask answers with lines of JSON, as the text arrives.
func (h *Handler) ask(w http.ResponseWriter, r *http.Request) {
	edge := r.PathValue("id")
	if !h.seesEdge(r, edge, "") {
		h.problem(w, r, http.StatusForbidden, "beyond your sites", "the edge does not stand at one of your sites")
		return
	}
	var q Question
	if !h.allow(w, r) || !h.body(w, r, &q) {
		return
	}
	acting(w, q.String())
	q.Length, q.Who = defaultAsk, who(r).Name
	if q.For != "" {
		var err error
		if q.Length, err = strictyaml.ParseDuration(q.For); err != nil || q.Length <= 0 || q.Length > maxAsk {
			h.problem(w, r, http.StatusBadRequest, "bad time", fmt.Sprintf("for is %.40q; write it as 30s or 5m, 10m at most", q.For))
			return
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-h.cfg.Done:
			cancel()
		case <-ctx.Done():
		}
	})
	out := http.NewResponseController(w)
	begun := false
	say := func(l AnswerLine) error {
		if !begun {
			begun = true
			// It takes longer than a request may take to arrive; recorders in tests have no deadlines.
			_ = out.SetReadDeadline(time.Time{})
			w.Header().Set("Content-Type", ndjsonType)
			w.Header().Set("Cache-Control", "no-store")
		}
		h.encode(w, r, l)
		return out.Flush()
	}
	answered, err := h.cfg.Asking.Ask(ctx, edge, q, func(text string) error { return say(AnswerLine{Text: text}) })
	var no *Refusal
	switch {
	case err == nil:
		_ = say(AnswerLine{Answered: &answered}) // a client that has gone needs no answer
	case !begun && errors.Is(err, context.Canceled):
		h.problem(w, r, http.StatusServiceUnavailable, "the hub stops", "ask again in a moment")
	case !begun:
		h.refusal(w, r, err)
	case errors.As(err, &no):
		_ = say(AnswerLine{Answered: &answered, Error: no.What})
	case errors.Is(err, context.Canceled):
		_ = say(AnswerLine{Answered: &answered, Error: "the hub stops; ask again in a moment"})
	default:
		h.cfg.Logger.Error("a question broke", "edge", edge, "kind", q.Kind, "err", err)
		_ = say(AnswerLine{Answered: &answered, Error: "the hub could not go on; its log says why"})
	}
}
