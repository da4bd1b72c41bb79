package api

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/langbiang/langbiang/pkg/alert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryLog is an alert log in memory. The real one is tested in package ledger
// and, behind this API, by the end-to-end test.
type memoryLog struct {
	mu         sync.Mutex
	generation string
	first      uint64 // sequence of entries[0]
	entries    []alert.Entry
	changed    chan struct{}
	filter     Filter // of the newest List
	err        error  // what every read answers, if set
}

func newMemoryLog() *memoryLog {
	return &memoryLog{generation: "g1", first: 1, changed: make(chan struct{})}
}

func (l *memoryLog) add(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, alert.Entry{
		Generation: l.generation, Sequence: l.first + uint64(len(l.entries)),
		Transition: alert.Transition{Kind: alert.Raised, Alert: alert.Alert{ID: id, State: alert.Active, Severity: alert.Warning}},
	})
	close(l.changed)
	l.changed = make(chan struct{})
}

// trim forgets the n oldest entries.
func (l *memoryLog) trim(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.first = l.entries[n:], l.first+uint64(n)
}

func (l *memoryLog) Generations() []alert.Generation {
	return []alert.Generation{{ID: l.generation, First: 1}}
}

func (l *memoryLog) History(id string, after uint64, limit int) ([]alert.Entry, error) {
	all, err := l.Entries(after, math.MaxInt)
	out := slices.DeleteFunc(all, func(e alert.Entry) bool { return e.Alert.ID != id })
	return out[:min(limit, len(out))], err
}

func (l *memoryLog) FirstSequence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 {
		return 0
	}
	return l.first
}

func (l *memoryLog) LastSequence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 {
		return 0
	}
	return l.first + uint64(len(l.entries)) - 1
}

func (l *memoryLog) Entries(after uint64, limit int) ([]alert.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	var out []alert.Entry
	for _, e := range l.entries {
		if e.Sequence > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (l *memoryLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *memoryLog) Alert(id string) (alert.Alert, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.Alert.ID == id {
			return e.Alert, true, l.err
		}
	}
	return alert.Alert{}, false, l.err
}

func (l *memoryLog) List(f Filter, cursor string, _ int) ([]alert.Alert, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.filter = f
	if cursor != "" {
		return nil, "", ErrBadCursor
	}
	return nil, "", l.err
}

// chosen is the filter that the newest list was asked with.
func (l *memoryLog) chosen() Filter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.filter
}

type fixedFleet struct {
	sites   []Site
	edges   []Edge
	devices []Device
	series  []Series
	rules   []Rule
}

func (f fixedFleet) Sites() []Site                        { return f.sites }
func (f fixedFleet) Edges() []Edge                        { return f.edges }
func (f fixedFleet) Devices() []Device                    { return f.devices }
func (f fixedFleet) Series() []Series                     { return f.series }
func (f fixedFleet) Watched(rule string) ([]Series, bool) { return f.series[:1], rule == "r1" }
func (f fixedFleet) Rules() []Rule                        { return f.rules }

// rig is the API on a real listener, over a log and a fleet in memory.
type rig struct {
	*testing.T
	log  *memoryLog
	url  string
	done chan struct{}
}

func newRig(t *testing.T, fleet Fleet, change func(*Config)) *rig {
	t.Helper()
	r := &rig{T: t, log: newMemoryLog(), done: make(chan struct{})}
	cfg := Config{Alerts: r.log, Fleet: fleet, Logger: slog.New(slog.DiscardHandler), Done: r.done, Heartbeat: time.Hour}
	if change != nil {
		change(&cfg)
	}
	srv := httptest.NewServer(New(cfg))
	r.url = srv.URL
	t.Cleanup(func() {
		select {
		case <-r.done:
		default:
			close(r.done)
		}
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return r
}

// get decodes a JSON answer into v and returns the status.
func (r *rig) get(path string, v any) (int, http.Header) {
	r.Helper()
	resp, err := http.Get(r.url + path)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		r.Fatalf("%s: %v", path, err)
	}
	return resp.StatusCode, resp.Header
}

// problemDocument is an RFC 9457 answer.
type problemDocument struct {
	Type, Title, Detail, Instance string
	Status                        int
}

const patience = time.Minute // bounds a failure
