package questions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/langbiang/langbiang/pkg/wire"
)

// What callers of [Asker.Ask] branch on.
var (
	// ErrBusy says that too much is asked at a time.
	ErrBusy = errors.New("too many questions at a time")
	// ErrSilent says that nothing is heard of the edge.
	ErrSilent = errors.New("no answer")
	// ErrRefused is in the errors of questions that the agent does not answer; their
	// text says why.
	ErrRefused = errors.New("the agent refuses")
	// ErrLost says that the agent was started anew in the middle of its answer.
	ErrLost = errors.New("the agent was started anew meanwhile")
)

// Question is what is asked.
type Question struct {
	Kind string
	Args map[string]string
	For  time.Duration // most that the answer may take; bounded by MaxFor
	Who  string        // asks, for the agent's log
}

// Outcome is how an answer ended, and what it cost.
type Outcome struct {
	Failed    string // what is wrong, as the agent says; empty when nothing is
	Truncated bool   // the text was longer than an answer may be
	Metered   bool   // bytes cost money on the link of the edge
	// Messages went to and fro, with so many bytes on the link, headers estimated.
	Messages int
	Bytes    int64
	Took     time.Duration
}

// overhead is what a message takes on the link beside its payload, see package uplink.
const overhead = 150

// Pauses between two repetitions of a question of which nothing is heard.
const (
	repeatFirst = 3 * time.Second
	repeatMost  = 15 * time.Second
)

// Asker asks from the hub. Its methods are safe for concurrent use.
type Asker struct {
	publish func(edge string, payload []byte) error

	mu     sync.Mutex
	coder  wire.AnswerCoder
	open   map[wire.AskID]*asking
	limits map[string]*rate.Limiter // by edge
}

// asking is a question that waits for its answer.
type asking struct {
	edge    string
	got     chan *received
	greeted chan struct{} // of capacity 1
}

type received struct {
	wire.Answer
	size int
}

// NewAsker returns an asker that publishes on the topic ask of edges.
func NewAsker(publish func(edge string, payload []byte) error) *Asker {
	return &Asker{publish: publish, open: map[wire.AskID]*asking{}, limits: map[string]*rate.Limiter{}}
}

// Take takes a message of the topic answer of an edge. It does not block; what nobody
// asked for is dropped.
func (a *Asker) Take(edge string, payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) == 0 {
		return // not worth decoding
	}
	m := received{size: len(payload)}
	if a.coder.Decode(payload, &m.Answer) != nil {
		return
	}
	q := a.open[m.ID]
	if q == nil || q.edge != edge {
		return
	}
	select {
	case q.got <- &m:
	default: // it is asked for again
	}
}

// Greeted tells that the edge has connected anew: what was asked may be lost.
func (a *Asker) Greeted(edge string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, q := range a.open {
		if q.edge == edge {
			select {
			case q.greeted <- struct{}{}:
			default:
			}
		}
	}
}

// begin notes a question, within the bounds.
func (a *Asker) begin(edge string) (wire.AskID, *asking, error) {
	var id wire.AskID
	if _, err := rand.Read(id[:]); err != nil {
		return id, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	there := 0
	for _, q := range a.open {
		if q.edge == edge {
			there++
		}
	}
	limit := a.limits[edge]
	if limit == nil {
		limit = rate.NewLimiter(rate.Every(refill), burst/2) // within what the agent takes
		a.limits[edge] = limit
	}
	switch {
	case there >= MaxOpenAtEdge:
		return id, nil, fmt.Errorf("%w: %d wait for this edge already", ErrBusy, there)
	case len(a.open) >= MaxOpenAtAll:
		return id, nil, fmt.Errorf("%w: %d wait for edges already", ErrBusy, len(a.open))
	case !limit.Allow():
		return id, nil, fmt.Errorf("%w: this edge was asked %d times within %v", ErrBusy, burst/2, burst/2*refill)
	}
	q := &asking{edge: edge, got: make(chan *received, 2*window), greeted: make(chan struct{}, 1)}
	a.open[id] = q
	return id, q, nil
}

// Ask puts a question to an edge and hands the text of the answer to show as it comes,
// piece by piece, until the answer ends or ctx does. The errors are those of this
// package, of ctx, of show, or of publishing.
func (a *Asker) Ask(ctx context.Context, edge string, q Question, show func(text string) error) (Outcome, error) {
	id, waiting, err := a.begin(edge)
	if err != nil {
		return Outcome{}, err
	}
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.open, id)
	}()
	c := conversation{
		asker: a, edge: edge, begun: time.Now(), show: show,
		ask: wire.Ask{V: wire.Version, ID: id, Kind: q.Kind, Args: q.Args, For: uint32(min(q.For, MaxFor).Milliseconds()), Who: q.Who},
	}
	err = c.run(ctx, waiting)
	c.out.Took = time.Since(c.begun)
	return c.out, err
}

// conversation is one question with its answer.
type conversation struct {
	asker *Asker
	edge  string
	ask   wire.Ask
	show  func(string) error
	out   Outcome

	begun   time.Time
	answers uint32 // the run that answers
	size    int
	asked   time.Time // again, because of a hole
	repeat  time.Duration
}

func (c *conversation) run(ctx context.Context, q *asking) error {
	if err := c.send(false, false); err != nil {
		return err
	}
	heard := time.Now()
	c.repeat = repeatFirst
	timer := time.NewTimer(c.repeat)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = c.send(false, true) // it ends by itself when this is lost
			return ctx.Err()
		case m := <-q.got:
			if c.answers != 0 && m.Run != c.answers && m.Status != wire.AnswerLost {
				continue // another agent with the same id
			}
			heard, c.repeat = time.Now(), repeatFirst
			if m.Metered {
				c.repeat = repeatMost
			}
			if done, err := c.take(m); done || err != nil {
				_ = c.send(false, true)
				return err
			}
		case <-q.greeted:
			if err := c.send(true, false); err != nil {
				return err
			}
		case <-timer.C:
			if time.Since(heard) >= silence {
				_ = c.send(false, true)
				return fmt.Errorf("%w within %v", ErrSilent, silence)
			}
			if err := c.send(true, false); err != nil {
				return err
			}
			c.repeat = min(2*c.repeat, repeatMost)
		}
		timer.Reset(min(c.repeat, max(time.Millisecond, silence-time.Since(heard))))
	}
}

// send publishes the question, or what is to be said of it. An agent that has begun
// knows the rest by the id.
func (c *conversation) send(again, stop bool) error {
	m := c.ask
	m.Again, m.Stop = again, stop
	if m.Have > 0 || stop {
		m.Kind, m.Args, m.For, m.Who = "", nil, 0, ""
	}
	p, err := wire.EncodeAsk(&m)
	if err != nil {
		return err
	}
	c.count(len(p))
	return c.asker.publish(c.edge, p)
}

func (c *conversation) count(size int) {
	c.out.Messages++
	c.out.Bytes += int64(size + overhead)
}

// take takes what the agent says; done when that was all.
func (c *conversation) take(m *received) (done bool, err error) {
	c.count(m.size)
	c.out.Metered = c.out.Metered || m.Metered
	switch m.Status {
	case wire.AnswerRefused:
		return true, fmt.Errorf("%w: %s", ErrRefused, clean(m.Note))
	case wire.AnswerLost:
		return true, ErrLost
	case wire.AnswerMore, wire.AnswerDone, wire.AnswerFailed:
	}
	c.answers = m.Run
	if m.Beat() || m.Seq < c.ask.Have {
		return false, nil
	}
	if m.Seq > c.ask.Have {
		if time.Since(c.asked) < repeatFirst {
			return false, nil // it is on its way
		}
		c.asked = time.Now()
		return false, c.send(true, false)
	}
	c.ask.Have++
	c.out.Truncated = c.out.Truncated || m.Truncated
	text := m.Text
	if c.size+len(text) > MaxText {
		text, c.out.Truncated, done = text[:MaxText-c.size], true, true
	}
	c.size += len(text)
	if text != "" {
		if err := c.show(clean(text)); err != nil {
			return true, err
		}
	}
	if m.Status == wire.AnswerFailed {
		c.out.Failed = clean(m.Note)
	}
	if done || m.Status != wire.AnswerMore {
		return true, nil
	}
	return false, c.send(false, false)
}

// clean takes out of a text what is not to be printed, such as the sequences that move
// a terminal's cursor or set its title. Lines and columns stay.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == utf8.RuneError || unicode.IsPrint(r) || unicode.Is(unicode.Zs, r):
			return r
		}
		return -1
	}, text)
}
