package edge

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// maxLogRing bounds the lines of its own log that the agent remembers, in bytes: a
// few hundred lines to a thousand.
const maxLogRing = 128 << 10

// logRing are the newest lines of the agent's log, for those who ask over the socket or
// from the hub. Safe for concurrent use.
type logRing struct {
	mu      sync.Mutex
	lines   []keptLine
	bytes   int
	first   uint64 // number of lines[0]; they count from 0
	changed chan struct{}
	now     keptLine // what is being written
}

// keptLine is a line of the log.
type keptLine struct {
	at    time.Time
	level slog.Level
	text  string
}

// lineOverhead is what a line takes beside its text.
const lineOverhead = 64

func newLogRing() *logRing { return &logRing{changed: make(chan struct{})} }

// Write takes a line from the text handler, under the lock of [ringHandler.Handle].
func (r *logRing) Write(p []byte) (int, error) {
	line := r.now
	line.text = string(p)
	r.lines = append(r.lines, line)
	r.bytes += len(p) + lineOverhead
	drop := 0
	for ; r.bytes > maxLogRing && drop < len(r.lines); drop++ {
		r.bytes -= len(r.lines[drop].text) + lineOverhead
		r.lines[drop].text = ""
	}
	r.lines, r.first = r.lines[drop:], r.first+uint64(drop)
	close(r.changed)
	r.changed = make(chan struct{})
	return len(p), nil
}

// logFilter chooses lines.
type logFilter struct {
	level slog.Level // at least
	since time.Time
	match string // somewhere in the line, in upper or lower case; empty: any
}

func (f *logFilter) wants(l *keptLine) bool {
	return l.level >= f.level && !l.at.Before(f.since) && (f.match == "" || strings.Contains(strings.ToLower(l.text), f.match))
}

// last returns the newest lines that are wanted, at most n, oldest first, and the number
// to go on with.
func (r *logRing) last(n int, f *logFilter) (text string, next uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := len(r.lines)
	for left := n; from > 0 && left > 0; from-- {
		if f.wants(&r.lines[from-1]) {
			left--
		}
	}
	return r.wanted(from, f), r.first + uint64(len(r.lines))
}

// after returns the lines from a number on, the number to go on with, and what is closed
// once there are more.
func (r *logRing) after(from uint64, f *logFilter) (text string, next uint64, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := 0
	if from > r.first {
		i = int(from - r.first)
	}
	return r.wanted(i, f), r.first + uint64(len(r.lines)), r.changed
}

func (r *logRing) wanted(from int, f *logFilter) string {
	var b strings.Builder
	for i := range r.lines[from:] {
		if l := &r.lines[from+i]; f.wants(l) {
			b.WriteString(l.text)
		}
	}
	return b.String()
}

// kept returns the number of lines, and the time of the oldest.
func (r *logRing) kept() (n int, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) > 0 {
		since = r.lines[0].at
	}
	return len(r.lines), since
}

// ringHandler hands lines on, and remembers those of level info and above as well,
// when they are not to be shown.
type ringHandler struct {
	ring *logRing
	show slog.Handler
	text slog.Handler // writes into the ring
}

// handler returns a handler that remembers what goes to show.
func (r *logRing) handler(show slog.Handler) slog.Handler {
	return &ringHandler{ring: r, show: show, text: slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})}
}

// Enabled implements [slog.Handler].
func (h *ringHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.show.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h *ringHandler) Handle(ctx context.Context, rec slog.Record) error {
	h.ring.mu.Lock()
	h.ring.now = keptLine{at: rec.Time, level: rec.Level}
	_ = h.text.Handle(ctx, rec) // memory does not refuse
	h.ring.mu.Unlock()
	if !h.show.Enabled(ctx, rec.Level) {
		return nil
	}
	return h.show.Handle(ctx, rec)
}

// WithAttrs implements [slog.Handler].
func (h *ringHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &ringHandler{h.ring, h.show.WithAttrs(attrs), h.text.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h *ringHandler) WithGroup(name string) slog.Handler {
	return &ringHandler{h.ring, h.show.WithGroup(name), h.text.WithGroup(name)}
}
