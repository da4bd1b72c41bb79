package edge

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// hardwareKey is where the hardware of devices stands in the log's small values.
const hardwareKey = "hardware"

// piece is one piece of hardware that a device has been.
type piece struct {
	Serial string `json:"serial"`
	Note   string `json:"note,omitempty"`
	Since  int64  `json:"since"` // log time in milliseconds; 0: not known
	// Untimed says that Since is of the boot in which it was noted, whose true time
	// was not known.
	Untimed bool `json:"untimed,omitempty"`
}

// hardware knows what each device has been. It survives a restart. Safe for
// concurrent use.
type hardware struct {
	store  smallValues
	logger *slog.Logger

	mu     sync.Mutex
	pieces map[string][]piece // by device id, oldest first
	dirty  bool
}

type storedHardware struct {
	Version int                `json:"version"` // 1; older agents want to see it
	Devices map[string][]piece `json:"devices"`
}

func newHardware(store smallValues, logger *slog.Logger) *hardware {
	h := &hardware{store: store, logger: logger, pieces: map[string][]piece{}}
	data, ok := store.Meta(hardwareKey)
	if !ok {
		return h
	}
	var s storedHardware
	switch err := json.Unmarshal(data, &s); {
	case err != nil:
		logger.Error("which hardware the devices have been cannot be read; it is noted anew from now on", "err", err)
	default:
		h.pieces = s.Devices
		if h.pieces == nil {
			h.pieces = map[string][]piece{}
		}
		for _, list := range h.pieces {
			for i := range list {
				if list[i].Untimed { // of a boot that ended before it knew the time
					list[i].Since, list[i].Untimed = 0, false
				}
			}
		}
	}
	return h
}

// note writes down what a device is from now on. An error says that a restart would
// forget it; it is known until then.
func (h *hardware) note(device string, p piece) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := append(slices.Clone(h.pieces[device]), p)
	slices.SortStableFunc(list, func(a, b piece) int { return int(min(1, max(-1, a.Since-b.Since))) })
	h.pieces = maps.Clone(h.pieces)
	h.pieces[device] = list[max(0, len(list)-telemetry.MaxHardware):]
	return h.save()
}

func (h *hardware) save() error {
	data, err := json.Marshal(storedHardware{1, h.pieces})
	if err != nil {
		return err
	}
	return h.store.SetMeta(hardwareKey, data)
}

// of returns what a device has been.
func (h *hardware) of(device string) (list []telemetry.Hardware) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pieces[device] {
		since := p.Since
		if p.Untimed {
			since = 0
		}
		list = append(list, telemetry.Hardware{Serial: p.Serial, Note: p.Note, Since: since})
	}
	return list
}

// shift follows times that got another name: that of this boot became true time. It
// reports whether there were any, which are written with the next flush.
func (h *hardware) shift(offset int64) (any bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range h.pieces {
		for i := range list {
			if list[i].Untimed {
				list[i].Since, list[i].Untimed = list[i].Since+offset, false
				any = true
			}
		}
	}
	h.dirty = h.dirty || any
	return any
}

// flush writes what shift changed. What the disk refuses is tried again.
func (h *hardware) flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dirty {
		return nil
	}
	if err := h.save(); err != nil {
		return err
	}
	h.dirty = false
	return nil
}

// equip describes the hardware of the devices.
func (l *layout) equip(h *hardware) {
	for i := range l.schema.Devices {
		d := &l.schema.Devices[i]
		d.Hardware = h.of(d.ID)
	}
}

// hardwareLine is how a person reads it.
func hardwareLine(h telemetry.Hardware) string {
	since := "at a time that is not known"
	if h.Since > 0 {
		since = time.UnixMilli(h.Since).Local().Format(time.DateTime)
	}
	if h.Note == "" {
		return fmt.Sprintf("%s  serial %s", since, h.Serial)
	}
	return fmt.Sprintf("%s  serial %s  %s", since, h.Serial, h.Note)
}
