package edge

import (
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/langbiang/langbiang/pkg/profile"
)

// totalsKey is where counters stand in the log's small values.
const totalsKey = "totals"

// smallValues are the small values that the log keeps; *buffer.Log has them.
type smallValues interface {
	Meta(key string) ([]byte, bool)
	SetMeta(key string, value []byte) error
}

// totals keeps counters that are carried over their end over a restart. It
// implements [driver.Totals]. A counter that never came far needs no room, so
// there are few. Safe for concurrent use.
type totals struct {
	store  smallValues
	logger *slog.Logger

	mu    sync.Mutex
	known map[string]profile.CountState // by device and point
	dirty bool
}

func newTotals(store smallValues, logger *slog.Logger) *totals {
	t := &totals{store: store, logger: logger, known: map[string]profile.CountState{}}
	if data, ok := store.Meta(totalsKey); ok {
		if err := json.Unmarshal(data, &t.known); err != nil {
			logger.Error("the counters of the last run cannot be read; totals begin as the devices give them", "err", err)
			t.known = map[string]profile.CountState{}
		}
	}
	return t
}

// Load implements [driver.Totals].
func (t *totals) Load(device, point string) (profile.CountState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.known[device+"/"+point]
	return s, ok
}

// Save implements [driver.Totals]. It is written with the next flush.
func (t *totals) Save(device, point string, s profile.CountState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := device + "/" + point
	if s == (profile.CountState{}) {
		if _, ok := t.known[key]; !ok {
			return
		}
		delete(t.known, key)
	} else {
		t.known[key] = s
	}
	t.dirty = true
}

// forget drops the counters of a device that is other hardware.
func (t *totals) forget(device string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.known, func(key string, _ profile.CountState) bool { return strings.HasPrefix(key, device+"/") })
	t.dirty = true
}

// flush writes what changed. What the disk refuses is tried again at the next
// flush.
func (t *totals) flush() {
	t.mu.Lock()
	if !t.dirty {
		t.mu.Unlock()
		return
	}
	known := maps.Clone(t.known)
	t.dirty = false
	t.mu.Unlock()
	data, err := json.Marshal(known)
	if err == nil {
		err = t.store.SetMeta(totalsKey, data)
	}
	if err != nil {
		t.logger.Error("the counters cannot be kept over a restart", "err", err)
		t.mu.Lock()
		t.dirty = true
		t.mu.Unlock()
	}
}
