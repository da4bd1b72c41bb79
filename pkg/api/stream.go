package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

// streamBatch is how many entries are read from the log at once for a stream.
const streamBatch = 256

// streamWrite bounds one write to a consumer: one that does not read is cut
// off, and resumes where it was.
const streamWrite = 10 * time.Second

// stream serves the alert log as server-sent events. Each event is one entry:
//
//	id: GENERATION-SEQUENCE
//	event: alert
//	data: {"generation", "sequence", "recorded", "kind", "time", "alert": {...}}
//
// A consumer that names the last id it has seen (header Last-Event-ID or
// ?after=) gets everything after it. Without one it starts at now; "0" starts at
// the oldest entry. When what it asks for cannot be given it is told so before
// anything else: event "trimmed" (older entries are gone, with the first one
// that follows), event "generation" (the log was restored from a backup; the
// stream starts again at the oldest entry of the new generation).
//
// The log is read by sequence at the consumer's own pace. Nothing is queued for
// it, so a slow consumer costs only itself.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request) {
	if !h.allow(w, r, "after") {
		return
	}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("after")
	}
	pos, notice, ok := h.resume(last)
	if !ok {
		h.problem(w, r, http.StatusBadRequest, "bad event id", fmt.Sprintf("%q is not GENERATION-SEQUENCE; leave it out to start now, or give 0 to start at the oldest entry", last))
		return
	}
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		h.problem(w, r, http.StatusServiceUnavailable, "too many streams", fmt.Sprintf("%d are open already", cap(h.streams)))
		return
	}
	hd := w.Header()
	hd.Set("Content-Type", "text/event-stream; charset=utf-8")
	hd.Set("Cache-Control", "no-store")
	hd.Set("X-Accel-Buffering", "no")
	s := &sse{w: w, rc: http.NewResponseController(w)}
	s.printf("retry: 2000\n\n")
	s.printf("%s", notice)
	tick := time.NewTicker(h.cfg.Heartbeat)
	defer tick.Stop()
	for s.err == nil {
		changed := h.cfg.Alerts.Changed() // before reading, so that nothing slips between
		entries, err := h.cfg.Alerts.Entries(pos, streamBatch)
		if err != nil {
			h.cfg.Logger.Error("alert stream ends", "err", err)
			return
		}
		for i := range entries {
			if entries[i].Sequence != pos+1 && pos != 0 {
				s.printf("event: trimmed\ndata: {\"first\":%d}\n\n", entries[i].Sequence)
			}
			s.entry(&entries[i])
			pos = entries[i].Sequence
		}
		s.flush()
		if len(entries) == streamBatch {
			continue
		}
		select {
		case <-changed:
		case <-tick.C:
			s.printf(": %s\n\n", time.Now().UTC().Format(time.RFC3339))
			s.flush()
		case <-r.Context().Done():
			return
		case <-h.cfg.Done:
			return
		}
	}
}

// resume translates the last event id that a consumer has seen into the
// sequence to go on after, and what it must be told first.
func (h *Handler) resume(id string) (after uint64, notice string, ok bool) {
	gen := h.cfg.Alerts.Generation()
	first, newest := h.cfg.Alerts.FirstSequence(), h.cfg.Alerts.LastSequence()
	oldest := uint64(0)
	if first > 0 {
		oldest = first - 1
	}
	switch id {
	case "":
		return newest, fmt.Sprintf("id: %s-%d\nevent: hello\ndata: {\"generation\":%q,\"sequence\":%d}\n\n", gen, newest, gen, newest), true
	case "0":
		return oldest, "", true
	}
	i := strings.LastIndexByte(id, '-')
	if i < 0 {
		return 0, "", false
	}
	seq, err := strconv.ParseUint(id[i+1:], 10, 64)
	if err != nil {
		return 0, "", false
	}
	switch {
	case id[:i] != gen || seq > newest:
		return oldest, fmt.Sprintf("event: generation\ndata: {\"generation\":%q,\"first\":%d}\n\n", gen, first), true
	case seq < oldest:
		return oldest, fmt.Sprintf("event: trimmed\ndata: {\"first\":%d}\n\n", first), true
	}
	return seq, "", true
}

// sse writes events; after the first error it writes nothing more.
type sse struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (s *sse) printf(format string, args ...any) {
	if s.err != nil {
		return
	}
	// Not every ResponseWriter has deadlines (tests record); then the server's own holds.
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWrite))
	_, s.err = fmt.Fprintf(s.w, format, args...)
}

func (s *sse) entry(e *alert.Entry) {
	b, err := json.Marshal(e)
	if err != nil {
		s.err = err
		return
	}
	s.printf("id: %s-%d\nevent: alert\ndata: %s\n\n", e.Generation, e.Sequence, b)
}

func (s *sse) flush() {
	if s.err == nil {
		s.err = s.rc.Flush()
	}
}
