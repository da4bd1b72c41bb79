package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// alertWatch listens to the hub's alert stream and takes the time from the append
// of a frame to the event about the probe's reading in it. Safe for concurrent use.
type alertWatch struct {
	mu      sync.Mutex
	open    map[alertKey]time.Time
	took    []float32       // milliseconds
	alarmed map[string]bool // edges whose probe was alarmed by the frame before
}

// alertKey names a transition of the probe: the event time of its reading.
type alertKey struct {
	edge string
	time int64
}

func newAlertWatch() *alertWatch {
	return &alertWatch{open: map[alertKey]time.Time{}, alarmed: map[string]bool{}}
}

// sent notes a frame that raises the alert of the probe, or that clears it.
func (a *alertWatch) sent(edge string, t int64, alarm bool, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if alarm != a.alarmed[edge] {
		a.alarmed[edge] = alarm
		a.open[alertKey{edge, t}] = now
	}
}

// listen reads the stream until ctx ends.
func (a *alertWatch) listen(ctx context.Context, page string, ready chan<- struct{}) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"/api/v1/alerts/stream", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("alert stream: %s", resp.Status)
	}
	close(ready)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		now := time.Now()
		var event feed.Event
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return fmt.Errorf("alert stream: %w", err)
		}
		e, _, err := event.Entry()
		if err != nil {
			return fmt.Errorf("alert stream: %w", err)
		}
		if e.Alert.Rule == probeRule {
			a.came(alertKey{e.Alert.Edge, e.Time.UnixMilli()}, now)
		}
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // asked to end
	}
	return fmt.Errorf("alert stream ended: %w", lines.Err())
}

func (a *alertWatch) came(k alertKey, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.open[k]; ok {
		delete(a.open, k)
		a.took = append(a.took, float32(now.Sub(at).Seconds()*1000))
	}
}

// forget drops the times taken so far.
func (a *alertWatch) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.took = a.took[:0]
}

// some reports whether a time was taken since forget.
func (a *alertWatch) some() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.took) > 0
}

// times returns the times taken since forget, and how many transitions are older
// than a while and did not come.
func (a *alertWatch) times(now time.Time, while time.Duration) (took []float32, missing int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.open {
		if now.Sub(at) > while {
			missing++
		}
	}
	return append([]float32(nil), a.took...), missing
}
