package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert/feed"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

func record(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, http.NoBody))
	return w
}

// event is one server-sent event.
type event struct{ id, name, data string }

// consumer reads a stream as an IOC would.
type consumer struct {
	t      *testing.T
	events chan event
	cancel context.CancelFunc
	ended  chan struct{}
}

// follow opens the stream after the last event id.
func (r *rig) follow(last string) *consumer {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/api/v1/alerts/stream", http.NoBody)
	if err != nil {
		r.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "text/event-stream; charset=utf-8" {
		r.Fatalf("stream: status %d, content type %q", resp.StatusCode, ct)
	}
	c := &consumer{t: r.T, events: make(chan event, 10_000), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		var e event
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			switch key, value, _ := strings.Cut(lines.Text(), ": "); key {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "":
				switch { // the end of an event, or a comment ": TIME"
				case value != "":
					e = event{name: "comment", data: value}
					fallthrough
				case e.name != "":
					c.events <- e
				}
				e = event{}
			}
		}
	}()
	r.Cleanup(c.stop)
	return c
}

func (c *consumer) stop() {
	c.cancel()
	<-c.ended
}

func (c *consumer) next() event {
	c.t.Helper()
	select {
	case e := <-c.events:
		return e
	case <-time.After(patience):
		c.t.Fatal("no event")
		panic("unreachable")
	}
}

func (c *consumer) want(list ...event) {
	c.t.Helper()
	for i, w := range list {
		e := c.next()
		for e.name == "comment" {
			e = c.next()
		}
		var envelope feed.Event
		if w.data != "" {
			if err := json.Unmarshal([]byte(e.data), &envelope); err != nil {
				c.t.Fatal(err)
			}
		}
		if e.id != w.id || e.name != w.name || w.data != "" && string(envelope.Data) != w.data {
			c.t.Fatalf("event %d is %+v, want %+v", i, e, w)
		}
	}
}

func entry(n int) event { return event{id: fmt.Sprintf("g1-%d", n), name: "alert"} }

func TestAStreamGoesOnAfterTheLastEventItHasSeen(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	for i := range 5 {
		r.log.add(fmt.Sprint(i))
	}
	c := r.follow("g1-3")
	c.want(entry(4), entry(5))
	r.log.add("new")
	c.want(entry(6))
	c.stop()
	r.log.add("while away")
	r.follow("g1-6").want(entry(7))
}

func TestAStreamWithoutAPlaceBeginsNowAndSaysWhereThatIs(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	r.log.add("old")
	c := r.follow("")
	c.want(event{"g1-1", "hello", `{"generation":"g1","sequence":1}`})
	r.log.add("new")
	c.want(entry(2))
}

func TestAStreamFromZeroGivesTheWholeLog(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	var all []event
	for i := range 3 * streamBatch {
		r.log.add(fmt.Sprint(i))
		all = append(all, entry(i+1))
	}
	r.follow("0").want(all...)
}

func TestAConsumerIsToldWhatItCannotHave(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	for i := range 6 {
		r.log.add(fmt.Sprint(i))
	}
	r.log.trim(3)
	r.follow("g1-1").want(event{"", "trimmed", `{"generation":"g1","sequence":3,"first":4}`}, entry(4), entry(5), entry(6))
	r.follow("g1-3").want(entry(4)) // it has seen all that is gone
	for _, other := range []string{"g0-5", "g1-900"} {
		r.follow(other).want(event{"", "generation", `{"generation":"g1","sequence":3,"first":4}`}, entry(4))
	}
	r.follow("0").want(entry(4))
}

func TestALogThatIsTrimmedUnderAStreamSaysSo(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	r.log.add("1")
	c := r.follow("0")
	c.want(entry(1))
	r.log.mu.Lock() // between two reads of the stream
	r.log.first += 3
	r.log.entries = nil
	r.log.mu.Unlock()
	r.log.add("4")
	c.want(event{"", "trimmed", `{"generation":"g1","sequence":3,"first":4}`}, entry(4))
}

func TestEveryConsumerGetsEveryEntryInOrderWhileTheLogGrows(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	const entries, consumers = 2000, 8
	var all []*consumer
	for range consumers {
		all = append(all, r.follow("0"))
	}
	for i := range entries {
		r.log.add(fmt.Sprint(i))
	}
	for _, c := range all {
		for i := range entries {
			if e := c.next(); e.id != fmt.Sprintf("g1-%d", i+1) {
				t.Fatalf("event %d is %+v", i, e)
			}
		}
	}
}

// A consumer that opens a stream and does not read it holds a connection, no more.
func TestAConsumerThatDoesNotReadCostsOnlyItself(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	deaf, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = deaf.Close() })
	fmt.Fprint(deaf, "GET /api/v1/alerts/stream?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
	c := r.follow("0")
	long := strings.Repeat("x", 2000)
	for i := range 8000 { // more than the buffers of a connection hold
		r.log.add(long + fmt.Sprint(i))
		c.want(entry(i + 1))
	}
}

func TestAnIdleStreamHasAHeartbeat(t *testing.T) {
	r := newRig(t, fixedFleet{}, func(c *Config) { c.Heartbeat = 5 * time.Millisecond })
	c := r.follow("0")
	for range 3 {
		if e := c.next(); e.name != "comment" {
			t.Fatalf("want a comment, got %+v", e)
		}
	}
}

func TestStreamsAreBoundedAndTheNextOneMayComeLater(t *testing.T) {
	r := newRig(t, fixedFleet{}, func(c *Config) { c.MaxStreams = 1 })
	first := r.follow("0")
	var p problemDocument
	if status, header := r.get("/api/v1/alerts/stream", &p); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "1 are open") {
		t.Errorf("%d %+v %v", status, p, header)
	}
	first.stop()
	testutil.Eventually(t, patience, "a place is free again", func() bool {
		resp, err := http.Get(r.url + "/api/v1/alerts/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func TestStreamsEndWhenTheHubStops(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	c := r.follow("0")
	close(r.done)
	select {
	case <-c.ended:
	case <-time.After(patience):
		t.Fatal("the stream is still open")
	}
}

// page reads one page of events and returns them with the position for the next.
func (r *rig) page(query string) (types []string, position string) {
	r.Helper()
	resp, err := http.Get(r.url + "/api/v1/alerts/events?" + query)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "application/x-ndjson" {
		r.Fatalf("%s: %d %s", query, resp.StatusCode, ct)
	}
	for dec := json.NewDecoder(resp.Body); dec.More(); {
		var e feed.Event
		if err := dec.Decode(&e); err != nil {
			r.Fatal(err)
		}
		types = append(types, strings.TrimPrefix(e.Type, feed.TypePrefix)+" "+e.Subject)
	}
	return types, resp.Header.Get(PositionHeader)
}

func TestPagesOfEventsEndWhereTheNextBegins(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	for i := range 3*streamBatch + 7 {
		r.log.add(fmt.Sprint(i))
	}
	got, at := 0, "0"
	for {
		types, next := r.page("limit=100&after=" + at)
		for _, e := range types {
			if want := fmt.Sprintf("alert.raised %d", got); e != want {
				t.Fatalf("event %d is %q", got, e)
			}
			got++
		}
		if at = next; len(types) == 0 {
			break
		}
	}
	if want := 3*streamBatch + 7; got != want || at != fmt.Sprintf("g1-%d", want) {
		t.Errorf("%d events, the last page ends at %s", got, at)
	}
	if types, at := r.page("rule=none&after=0"); len(types) != 0 || at != "g1-775" {
		t.Errorf("events nobody wants: %v, ends at %s", types, at)
	}
	if types, at := r.page(""); len(types) != 1 || types[0] != "stream.hello " || at != "g1-775" {
		t.Errorf("without a position: %v, ends at %s", types, at)
	}
	r.log.trim(10)
	if types, at := r.page("after=g1-3&limit=2"); fmt.Sprint(types) != "[stream.trimmed  alert.raised 10]" || at != "g1-11" {
		t.Errorf("trimmed: %v, ends at %s", types, at)
	}
}

func TestALongPollWaitsForTheFirstEvent(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	r.log.add("old")
	type answer struct {
		types []string
		at    string
	}
	answers := make(chan answer)
	go func() {
		types, at := r.page("after=g1-1&wait=50s")
		answers <- answer{types, at}
	}()
	testutil.Eventually(t, patience, "the poll is answered by the new entry", func() bool {
		r.log.add("new")
		select {
		case a := <-answers:
			return len(a.types) > 0 && a.types[0] == "alert.raised new" && strings.HasPrefix(a.at, "g1-")
		default:
			return false
		}
	})
	if types, at := r.page("after=g1-900000&wait=1ms"); types[0] != "stream.generation " || at == "" {
		t.Errorf("%v %s", types, at)
	}
	if types, _ := r.page("after=" + feed.Newest(r.log).String() + "&wait=1ms"); len(types) != 0 {
		t.Errorf("nothing is new, but %v", types)
	}
}

func TestAStreamOfLines(t *testing.T) {
	r := newRig(t, fixedFleet{}, func(c *Config) { c.Heartbeat = 20 * time.Millisecond })
	r.log.add("one")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/api/v1/alerts/stream?after=0", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for _, want := range []string{"alert.raised one", "stream.heartbeat "} {
		var e feed.Event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimPrefix(e.Type, feed.TypePrefix) + " " + e.Subject; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAStreamLeavesOutWhatIsNotWantedAndMovesOn(t *testing.T) {
	r := newRig(t, fixedFleet{}, nil)
	r.log.add("one")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/api/v1/alerts/stream?after=0&severity=critical&group=x", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if lines.Text() == "id: g1-1" {
			break
		}
		if strings.HasPrefix(lines.Text(), "data") {
			t.Fatal(lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
}

// deadlined is a ResponseWriter that keeps the write deadline, as HTTP/2 does for each
// stream: there it ends the stream when it passes, whether something is written or not.
type deadlined struct {
	*httptest.ResponseRecorder
	at    time.Time
	flown []time.Time // the deadlines that held when something was sent
}

func (d *deadlined) SetWriteDeadline(t time.Time) error { d.at = t; return nil }
func (d *deadlined) Flush()                             { d.flown = append(d.flown, d.at) }

func TestAQuietStreamHasNoDeadlineThatHTTP2WouldEndItBy(t *testing.T) {
	w := &deadlined{ResponseRecorder: httptest.NewRecorder()}
	l := &lines{w: w, rc: http.NewResponseController(w), sse: true}
	l.begin()
	l.position(feed.Position{Generation: "g", Sequence: 1})
	l.flush()
	if l.err != nil {
		t.Fatal(l.err)
	}
	if !w.at.IsZero() {
		t.Errorf("a deadline at %v stays although everything was sent", w.at)
	}
	for _, at := range w.flown {
		if at.IsZero() {
			t.Error("something was sent without a deadline: a client that reads nothing would hold the stream for ever")
		}
	}
	if len(w.flown) != 2 {
		t.Errorf("sent %d times", len(w.flown))
	}
}
