package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// streamBatch is how many entries are read from the log at once for a stream.
const streamBatch = 256

// streamWrite bounds one write to a consumer: one that does not read is cut
// off, and resumes where it was.
const streamWrite = 10 * time.Second

// maxWait bounds a long poll. Proxies give up on a silent answer after a minute.
const maxWait = 55 * time.Second

// maxScanned bounds the entries that one page of events looks at for those that
// its filters want.
const maxScanned = 50_000

const ndjsonType = "application/x-ndjson"

// PositionHeader names where a page of events ends: the next "after".
const PositionHeader = "Langbiang-Position"

// streamParameters are the query parameters of every way to read the log.
var streamParameters = []string{"after", "site", "group", "severity", "rule", "state", "test"}

// reading is one consumer's walk over the log.
type reading struct {
	h      *Handler
	r      *http.Request
	reader *feed.Reader
	choice feed.Choice
	hello  bool // it named no position, and begins now
}

// reading prepares a walk from what the request says: its position from the
// header Last-Event-ID or ?after=, and its filters.
func (h *Handler) reading(w http.ResponseWriter, r *http.Request, more ...string) (*reading, bool) {
	if !h.allow(w, r, append(more, streamParameters...)...) {
		return nil, false
	}
	f, ok := h.filter(w, r)
	if !ok {
		return nil, false
	}
	rd := &reading{h: h, r: r, choice: feed.Choice{
		Site: f.Site, Group: words(r.URL.Query().Get("group")), Severity: f.Severity, Rule: f.Rule, State: f.State,
	}}
	if f.Test != nil {
		rd.choice.Tests = feed.WithoutTests
		if *f.Test {
			rd.choice.Tests = feed.OnlyTests
		}
	}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("after")
	}
	pos := feed.Newest(h.cfg.Alerts)
	if rd.hello = last == ""; !rd.hello {
		var err error
		if pos, err = feed.ParsePosition(last); err != nil {
			h.problem(w, r, http.StatusBadRequest, "bad position", fmt.Sprintf("%q is not GENERATION-SEQUENCE; leave it out to start now, or give 0 to start at the oldest entry", last))
			return nil, false
		}
	}
	rd.reader = feed.NewReader(h.cfg.Alerts, pos)
	return rd, true
}

func (rd *reading) groups(site string) []string {
	if rd.h.cfg.SiteGroups == nil {
		return nil
	}
	return rd.h.cfg.SiteGroups(site)
}

// next reads the next batch and leaves in it what the filters want.
func (rd *reading) next() (feed.Batch, error) {
	b, err := rd.reader.Next(streamBatch)
	if err != nil {
		return b, err
	}
	wanted := make([]alert.Entry, 0, len(b.Entries))
	for i := range b.Entries {
		ok, err := rd.choice.Wants(&b.Entries[i], rd.groups, rd.h.cfg.Alerts)
		if err != nil {
			return b, err
		}
		if ok && sees(rd.r, b.Entries[i].Alert.Site) {
			wanted = append(wanted, b.Entries[i])
		}
	}
	b.Entries = wanted
	return b, nil
}

func (rd *reading) told(kind string) feed.Event {
	p := rd.reader.Position()
	return feed.Telling(kind, rd.h.cfg.Source, feed.Told{Generation: p.Generation, Sequence: p.Sequence}, time.Now())
}

// stream serves the alert log for as long as the consumer stays: as server-sent
// events, or, when it accepts application/x-ndjson, as one event to a line. Each
// is a CloudEvents envelope ([feed.Event]).
//
// The log is read by sequence at the consumer's own pace. Nothing is queued for
// it, so a slow consumer costs only itself.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request) {
	rd, ok := h.reading(w, r)
	if !ok {
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
	out := &lines{w: w, rc: http.NewResponseController(w), sse: !strings.Contains(r.Header.Get("Accept"), ndjsonType)}
	hd := w.Header()
	hd.Set("Content-Type", "text/event-stream; charset=utf-8")
	if !out.sse {
		hd.Set("Content-Type", ndjsonType)
	}
	hd.Set("Cache-Control", "no-store")
	hd.Set("X-Accel-Buffering", "no")
	out.begin()
	if rd.hello {
		out.event("hello", rd.reader.Position(), rd.told(feed.TypeHello))
	}
	tick := time.NewTicker(h.cfg.Heartbeat)
	defer tick.Stop()
	for out.err == nil {
		changed := h.cfg.Alerts.Changed() // before reading, so that nothing slips between
		before := rd.reader.Position()
		b, err := rd.next()
		if err != nil {
			h.cfg.Logger.Error("alert stream ends", "err", err)
			return
		}
		out.batch(&b, h.cfg.Source)
		if len(b.Entries) == 0 && rd.reader.Position() != before {
			out.position(rd.reader.Position())
		}
		out.flush()
		if b.More {
			continue
		}
		select {
		case <-changed:
		case <-tick.C:
			out.heartbeat(rd)
			out.flush()
		case <-r.Context().Done():
			return
		case <-h.cfg.Done:
			return
		}
	}
}

// listEvents answers one page of the log as lines of JSON, waiting for the first
// of them when asked to. The header Langbiang-Position says where it ends.
func (h *Handler) listEvents(w http.ResponseWriter, r *http.Request) {
	rd, ok := h.reading(w, r, "limit", "wait")
	if !ok {
		return
	}
	limit, ok := h.limit(w, r)
	if !ok {
		return
	}
	wait := time.Duration(0)
	if s := r.URL.Query().Get("wait"); s != "" {
		var err error
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 || wait > maxWait {
			h.problem(w, r, http.StatusBadRequest, "bad wait", fmt.Sprintf("wait is %.40q; write it as 30s, at most %s", s, maxWait))
			return
		}
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	events := []feed.Event{}
	if rd.hello {
		events = append(events, rd.told(feed.TypeHello))
	}
	end := rd.reader.Position()
	for scanned := 0; ; {
		changed := h.cfg.Alerts.Changed()
		b, err := rd.next()
		full := false
		if err == nil {
			events, end, full, err = rd.page(events, &b, end, limit)
		}
		if err != nil {
			h.internal(w, r, err)
			return
		}
		if scanned += streamBatch; b.More && !full && scanned < maxScanned {
			continue
		}
		if len(events) > 0 || wait == 0 || b.More {
			break
		}
		select {
		case <-changed:
			continue
		case <-deadline.C:
		case <-h.cfg.Done:
		case <-r.Context().Done():
			return
		}
		break
	}
	hd := w.Header()
	hd.Set("Content-Type", ndjsonType)
	hd.Set("Cache-Control", "no-store")
	hd.Set(PositionHeader, end.String())
	q := r.URL.Query()
	q.Set("after", end.String())
	hd.Set("Link", fmt.Sprintf("<%s?%s>; rel=%s", r.URL.Path, q.Encode(), strconv.Quote("next")))
	for i := range events {
		h.encode(w, r, &events[i])
	}
}

// page adds a batch to the events until there are limit of them, and says where
// the last of them stands.
func (rd *reading) page(events []feed.Event, b *feed.Batch, end feed.Position, limit int) ([]feed.Event, feed.Position, bool, error) {
	for i := range b.Notices {
		events = append(events, b.Notices[i].Event(rd.h.cfg.Source, time.Now()))
	}
	for i := range b.Entries {
		if len(events) >= limit {
			return events, end, true, nil
		}
		e, err := feed.EventOf(&b.Entries[i], rd.h.cfg.Source)
		if err != nil {
			return events, end, false, err
		}
		events = append(events, e)
		end = feed.Position{Generation: b.Entries[i].Generation, Sequence: b.Entries[i].Sequence}
	}
	return events, rd.reader.Position(), len(events) >= limit, nil
}

// lines writes events; after the first error it writes nothing more.
type lines struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	sse bool
	err error
}

func (l *lines) printf(format string, args ...any) {
	if l.err != nil {
		return
	}
	// Not every ResponseWriter has deadlines (tests record); then the server's own holds.
	_ = l.rc.SetWriteDeadline(time.Now().Add(streamWrite))
	_, l.err = fmt.Fprintf(l.w, format, args...)
}

func (l *lines) begin() {
	if l.sse {
		l.printf("retry: 2000\n\n")
	}
	l.flush()
}

// event writes one; at is empty for those that do not move the consumer on.
func (l *lines) event(name string, at feed.Position, e feed.Event) {
	b, err := json.Marshal(&e)
	if err != nil {
		l.err = err
		return
	}
	switch {
	case !l.sse:
		l.printf("%s\n", b)
	case at == (feed.Position{}):
		l.printf("event: %s\ndata: %s\n\n", name, b)
	default:
		l.printf("id: %s\nevent: %s\ndata: %s\n\n", at, name, b)
	}
}

func (l *lines) batch(b *feed.Batch, source string) {
	for i := range b.Notices {
		l.event(string(b.Notices[i].Kind), feed.Position{}, b.Notices[i].Event(source, time.Now()))
	}
	for i := range b.Entries {
		e, err := feed.EventOf(&b.Entries[i], source)
		if err != nil {
			l.err = err
			return
		}
		l.event("alert", feed.Position{Generation: b.Entries[i].Generation, Sequence: b.Entries[i].Sequence}, e)
	}
}

// position moves the last event id on over entries that the filters leave out.
// By the standard an event without data is not dispatched.
func (l *lines) position(p feed.Position) {
	if l.sse {
		l.printf("id: %s\n\n", p)
	}
}

func (l *lines) heartbeat(rd *reading) {
	if l.sse {
		l.printf(": %s\n\n", time.Now().UTC().Format(time.RFC3339))
		return
	}
	l.event("heartbeat", feed.Position{}, rd.told(feed.TypeHeartbeat))
}

// flush sends what was written. No deadline stays behind: HTTP/2 ends a stream when one
// passes, although there is nothing to write.
func (l *lines) flush() {
	if l.err == nil {
		l.err = l.rc.Flush()
		_ = l.rc.SetWriteDeadline(time.Time{})
	}
}
