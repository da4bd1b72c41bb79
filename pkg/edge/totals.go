package edge

import (
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/profile"
)

// totalsKey is where counters stand in the log's small values; under
// oldTotalsKey an agent that did not count events left them, as a plain map.
const (
	totalsKey    = "totals.2"
	oldTotalsKey = "totals"
)

// smallValues are the small values that the log keeps; *buffer.Log has them.
type smallValues interface {
	Meta(key string) ([]byte, bool)
	SetMeta(key string, value []byte) error
}

// totalsLog is what is needed of the log.
type totalsLog interface {
	smallValues
	Last() (buffer.Pos, bool)
	Compare(a, b buffer.Pos) (order int, ok bool)
}

type countStates map[string]profile.CountState // by device and point

// storedTotals are the counters on the disk. They are written before the log is
// committed, and must be right whether or not that came to its end: Next holds
// once the log has the frame at Epoch and Seq, Known until then.
type storedTotals struct {
	Known countStates  `json:"known"`
	Next  countStates  `json:"next"`
	Epoch buffer.Epoch `json:"epoch"`
	Seq   uint64       `json:"seq"`
}

// totals keeps counters over a restart: how often they began anew, and events. It
// implements [driver.Totals]. A counter that never came far needs no room, so
// there are few. Safe for concurrent use.
type totals struct {
	log totalsLog

	mu        sync.Mutex
	known     countStates // as they are
	staged    countStates // as of the newest frame
	committed countStates // as of the newest frame on the disk
	dirty     bool        // known is not staged
	unsaved   bool        // staged is not on the disk
}

func newTotals(log totalsLog, logger *slog.Logger) *totals {
	t := &totals{log: log}
	data, ok := log.Meta(totalsKey)
	var err error
	if ok {
		var s storedTotals
		if err = json.Unmarshal(data, &s); err == nil {
			t.known = s.Known
			last, _ := log.Last()
			if order, ok := log.Compare(last, buffer.Pos{Epoch: s.Epoch, Seq: s.Seq}); ok && order >= 0 {
				t.known = s.Next
			}
			t.unsaved = true // the log may forget that frame
		}
	} else if data, ok = log.Meta(oldTotalsKey); ok {
		err = json.Unmarshal(data, &t.known)
	}
	if err != nil {
		logger.Error("the counters of the last run cannot be read; totals begin as the devices give them, and events from 0", "err", err)
		t.known = nil
	}
	if t.known == nil {
		t.known = countStates{}
	}
	t.staged, t.committed = maps.Clone(t.known), maps.Clone(t.known)
	return t
}

// Load implements [driver.Totals].
func (t *totals) Load(device, point string) (profile.CountState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.known[device+"/"+point]
	return s, ok
}

// Save implements [driver.Totals]. It is written with the frame that is cut next.
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

// stage says that a frame holds everything that the counters have counted.
func (t *totals) stage() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dirty {
		t.staged, t.dirty, t.unsaved = maps.Clone(t.known), false, true
	}
}

// flush writes what was staged, before the log is committed up to a frame. What
// the disk refuses is tried again at the next flush.
func (t *totals) flush(epoch buffer.Epoch, seq uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.unsaved {
		return nil
	}
	data, err := json.Marshal(storedTotals{t.committed, t.staged, epoch, seq})
	if err == nil {
		err = t.log.SetMeta(totalsKey, data)
	}
	t.unsaved = err != nil
	return err
}

// commit says that the log has the frame of the last flush on the disk.
func (t *totals) commit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.committed = t.staged
}
