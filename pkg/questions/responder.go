package questions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/langbiang/langbiang/pkg/wire"
)

// Tell answers a question: it writes text for people until that is done, or ctx ends,
// or the writer takes no more. Its error is for people, too; a question that it does
// not take is a [Refusal]. It is called from several goroutines.
type Tell func(ctx context.Context, w io.Writer, kind string, args map[string]string) error

// Refusal is an error of a question that is not answered, and says why.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Pauses between two pieces of an answer that goes on, when they are not full.
const (
	pauseFirst   = time.Second
	pauseMetered = 10 * time.Second
)

// ResponderConfig says who answers.
type ResponderConfig struct {
	Tell    Tell
	Metered bool // bytes cost money on the link
	Logger  *slog.Logger
}

// Responder answers on the gateway. Its methods are safe for concurrent use; Run is
// called once.
type Responder struct {
	cfg     ResponderConfig
	begun   chan *question
	changed chan struct{} // of capacity 1

	mu      sync.Mutex
	coder   wire.AnswerCoder
	open    []*question
	turn    int          // the question whose piece is next
	replies [][]byte     // to what is no question of ours
	ended   []wire.AskID // newest last
	tokens  float64
	tokenAt time.Time
}

// question is one that is being answered. It is guarded by the responder's lock.
type question struct {
	ask    wire.Ask
	run    uint32
	heard  time.Time // of the hub
	cancel context.CancelFunc
	moved  chan struct{} // of capacity 1: the hub has more, or waits no longer

	pending []byte   // not yet a piece
	size    int      // of all text
	pieces  [][]byte // encoded; nil once the hub has them
	acked   int
	sent    int
	cut     bool // it was too long
	done    bool // all pieces are there
	beat    bool // a sign of life is due
}

// Bounds of what is kept for questions that are none.
const (
	maxReplies = 8
	maxEnded   = 64
)

// NewResponder returns a responder.
func NewResponder(cfg ResponderConfig) *Responder {
	return &Responder{cfg: cfg, begun: make(chan *question, MaxOpen), changed: make(chan struct{}, 1), tokens: burst}
}

// Run answers until ctx ends, and returns nil then.
func (r *Responder) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-r.begun:
			wg.Go(func() { r.answer(ctx, q) })
		}
	}
}

// Changed is sent to when there may be something to send.
func (r *Responder) Changed() <-chan struct{} { return r.changed }

func (r *Responder) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Ask takes a message of the topic ask. It does not block and does not keep the
// payload. What is no question is ignored.
func (r *Responder) Ask(payload []byte) {
	var a wire.Ask
	if wire.DecodeAsk(payload, &a) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if i := slices.IndexFunc(r.open, func(q *question) bool { return q.ask.ID == a.ID }); i >= 0 {
		r.heard(r.open[i], &a, now)
		return
	}
	switch {
	case a.Stop || slices.Contains(r.ended, a.ID):
	case a.Have > 0:
		r.reply(&a, wire.AnswerLost, "the agent was started anew meanwhile")
	case len(r.open) >= MaxOpen || !r.take(now):
		r.reply(&a, wire.AnswerRefused, "the agent is asked too much at a time; try again in a minute")
	default:
		a.For = min(max(a.For, 1000), uint32(MaxFor.Milliseconds()))
		q := &question{ask: a, run: rand.Uint32() | 1, heard: now, moved: make(chan struct{}, 1)}
		r.open = append(r.open, q)
		r.begun <- q // there is room for all that are open
	}
}

// heard takes the message of a question that is known.
func (r *Responder) heard(q *question, a *wire.Ask, now time.Time) {
	q.heard = now
	have := int(a.Have)
	if have > len(q.pieces) || have < q.acked {
		have = q.acked // an old one, or one that is none of ours
	}
	for ; q.acked < have; q.acked++ {
		q.pieces[q.acked] = nil
	}
	q.sent = max(q.sent, q.acked)
	if a.Again {
		q.sent = q.acked
		q.beat = q.sent == len(q.pieces)
	}
	if a.Stop && q.cancel != nil {
		q.cancel()
	}
	if a.Stop {
		q.acked, q.sent, q.done = len(q.pieces), len(q.pieces), true
	}
	select {
	case q.moved <- struct{}{}:
	default:
	}
	r.wake()
}

// take takes one of the questions that the agent is willing to answer.
func (r *Responder) take(now time.Time) bool {
	if !r.tokenAt.IsZero() {
		r.tokens = min(burst, r.tokens+float64(now.Sub(r.tokenAt))/float64(refill))
	}
	r.tokenAt = now
	if r.tokens < 1 {
		return false
	}
	r.tokens--
	return true
}

func (r *Responder) reply(a *wire.Ask, status wire.AnswerStatus, note string) {
	if len(r.replies) >= maxReplies {
		return // the hub asks again
	}
	p, err := r.coder.Encode(nil, &wire.Answer{ID: a.ID, Status: status, Metered: r.cfg.Metered, Note: note})
	if err != nil {
		return // a note is never too long
	}
	r.replies = append(r.replies, p)
	r.wake()
}

// Next returns the next message for the topic answer, if there is one to send now.
func (r *Responder) Next() ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.replies) > 0 {
		p := r.replies[0]
		r.replies = slices.Delete(r.replies, 0, 1)
		return p, true
	}
	for range r.open {
		r.turn = (r.turn + 1) % len(r.open)
		q := r.open[r.turn]
		if q.sent < len(q.pieces) && q.sent < q.acked+window {
			q.sent++
			q.beat = false
			return q.pieces[q.sent-1], true
		}
		if q.beat {
			q.beat = false
			if p, err := r.coder.Encode(nil, r.piece(q, "", wire.AnswerMore, "")); err == nil {
				return p, true
			}
		}
	}
	return nil, false
}

func (r *Responder) piece(q *question, text string, status wire.AnswerStatus, note string) *wire.Answer {
	return &wire.Answer{
		ID: q.ask.ID, Run: q.run, Seq: uint32(len(q.pieces)), Text: text, Status: status, Note: note,
		Metered: r.cfg.Metered, Truncated: q.cut,
	}
}

// answer is the life of a question: it is answered, and kept until the hub has all.
func (r *Responder) answer(ctx context.Context, q *question) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(q.ask.For)*time.Millisecond)
	defer cancel()
	r.mu.Lock()
	q.cancel = cancel
	if q.done { // nobody waits any more
		cancel()
	}
	r.mu.Unlock()
	r.cfg.Logger.Info("asked from the hub", "kind", q.ask.Kind, "args", q.ask.Args, "who", q.ask.Who)
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { ended <- r.tell(ctx, q) })
	pause := time.NewTimer(pauseFirst)
	defer pause.Stop()
	running := true
	for running || !r.finished(q) {
		select {
		case err := <-ended:
			running = false
			r.end(q, err)
		case <-pause.C:
			r.cutLast(q)
			pause.Reset(r.pause(running))
		case <-q.moved:
		}
		if r.unheard(q) {
			cancel()
			if !running {
				break
			}
		}
	}
	r.forget(q)
}

// pause is the time between pieces that are not full, or between looks whether the
// hub has all of them.
func (r *Responder) pause(running bool) time.Duration {
	if running && r.cfg.Metered {
		return pauseMetered
	}
	return pauseFirst
}

// tell runs the question. What breaks in it must not end the agent.
func (r *Responder) tell(ctx context.Context, q *question) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.cfg.Logger.Error("a question from the hub broke", "kind", q.ask.Kind, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errors.New("the agent could not answer; its log says why")
		}
	}()
	return r.cfg.Tell(ctx, &answerWriter{r, q}, q.ask.Kind, q.ask.Args)
}

var errFull = errors.New("the answer is longer than an answer may be")

// answerWriter takes the text of an answer.
type answerWriter struct {
	r *Responder
	q *question
}

// Write implements [io.Writer]. It fails once the answer is as long as it may be.
func (w *answerWriter) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	q := w.q
	if q.done || q.cut {
		return 0, errFull
	}
	take := min(len(p), MaxText-q.size)
	q.pending = append(q.pending, p[:take]...)
	q.size += take
	q.cut = take < len(p)
	for len(q.pending) >= wire.MaxAnswerText/2 {
		w.r.cutPiece(q, wire.AnswerMore, "")
	}
	if q.cut {
		return take, errFull
	}
	return take, nil
}

// cutPiece makes a piece of what is pending, or of as much of it as a piece may be.
func (r *Responder) cutPiece(q *question, status wire.AnswerStatus, note string) {
	n := len(q.pending)
	most := min(n, wire.MaxAnswerText/2)
	for {
		n = boundary(q.pending, min(n, most))
		last := n == len(q.pending)
		a := r.piece(q, string(q.pending[:n]), wire.AnswerMore, "")
		if last {
			a.Status, a.Note = status, note
		}
		p, err := r.coder.Encode(nil, a)
		if err != nil || len(p) > pieceSize && n > pieceSize/2 {
			most = n / 2
			continue
		}
		q.pieces = append(q.pieces, p)
		q.pending = q.pending[:copy(q.pending, q.pending[n:])]
		r.wake()
		return
	}
}

// boundary returns at most n, so that no character and, if it can be, no line is cut.
func boundary(b []byte, n int) int {
	if n >= len(b) {
		return len(b)
	}
	if i := strings.LastIndexByte(string(b[:n]), '\n'); i >= n/2 {
		return i + 1
	}
	for i := n; i > n-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(b[i]) {
			return i
		}
	}
	return n
}

// cutLast makes a piece of what is pending while the answer goes on, and a sign of life
// when the hub has heard nothing yet.
func (r *Responder) cutLast(q *question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case q.done:
	case len(q.pending) > 0:
		r.cutPiece(q, wire.AnswerMore, "")
	case len(q.pieces) == 0 && !q.beat && time.Since(q.heard) < 2*pauseFirst:
		q.beat = true
		r.wake()
	}
}

// end makes the last piece.
func (r *Responder) end(q *question, err error) {
	status, note := wire.AnswerDone, ""
	var no Refusal
	switch {
	case errors.As(err, &no):
		status, note = wire.AnswerRefused, string(no)
	case err == nil, errors.Is(err, errFull), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
	default:
		status, note = wire.AnswerFailed, err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.done {
		return
	}
	for r.cutPiece(q, status, note); len(q.pending) > 0; {
		r.cutPiece(q, status, note)
	}
	q.done = true
}

// finished reports whether the hub has everything.
func (r *Responder) finished(q *question) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return q.done && q.acked == len(q.pieces)
}

// unheard reports whether the hub has said nothing of the question for long.
func (r *Responder) unheard(q *question) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(q.heard) > forgotten
}

// forget takes the question away, but for its id.
func (r *Responder) forget(q *question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = slices.DeleteFunc(r.open, func(x *question) bool { return x == q })
	r.ended = append(r.ended, q.ask.ID)
	r.ended = slices.Delete(r.ended, 0, max(0, len(r.ended)-maxEnded))
	r.turn = 0
	if len(r.open) == 0 {
		r.coder = wire.AnswerCoder{} // its memory is for those who ask
	}
}
