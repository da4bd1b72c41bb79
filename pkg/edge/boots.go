package edge

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/langbiang/langbiang/pkg/buffer"
)

// bootsKey is where the offsets of boots stand in the log's small values.
const bootsKey = "boots"

// maxBoots is how many boots are remembered. A boot is forgotten long after its
// frames have left the log.
const maxBoots = 64

// errTimeUnknown says that a frame cannot be sent yet: nobody knows the true
// time of its boot.
var errTimeUnknown = errors.New("the true time of this boot is not known yet")

// bootClock is the clock as bootTimes sees it; *clock.Clock is one.
type bootClock interface {
	BootID() [16]byte
	OffsetOfBoot() (int64, bool)
}

// bootTimes knows what makes the times of untimed frames true. The offset of a
// boot is decided once and kept, so that a frame that is sent again carries the
// same times. Safe for concurrent use.
type bootTimes struct {
	log   *buffer.Log
	clock bootClock

	mu    sync.Mutex
	known []bootTime // oldest first
}

// bootTime is what is known of a boot that has untimed frames in the log.
type bootTime struct {
	Boot string `json:"boot"`
	// Offset makes its times true; nil while nobody knows it.
	Offset *int64 `json:"offset,omitempty"`
	// Estimated: power went before the true time was known. The offset puts the
	// boot's end at the beginning of the boot in which it was decided.
	Estimated bool `json:"estimated,omitempty"`
	// End is the last watermark of the boot, in its own time.
	End int64 `json:"end,omitempty"`
}

// newBootTimes reads what earlier starts knew. end is where the log ended: when
// that was in the time of another boot, nobody will ever know its true time, and
// its end is noted for an estimate.
func newBootTimes(log *buffer.Log, c bootClock, end logEnd) (*bootTimes, error) {
	b := &bootTimes{log: log, clock: c}
	if data, ok := log.Meta(bootsKey); ok {
		if err := json.Unmarshal(data, &b.known); err != nil {
			return nil, fmt.Errorf("times of earlier boots: %w", err)
		}
	}
	if end.untimed == 0 || end.boot == c.BootID() {
		return b, nil
	}
	name := hex.EncodeToString(end.boot[:])
	if b.find(name) == nil {
		return b, b.keep(bootTime{Boot: name, Estimated: true, End: end.untimed})
	}
	return b, nil
}

func (b *bootTimes) find(name string) *bootTime {
	i := slices.IndexFunc(b.known, func(t bootTime) bool { return t.Boot == name })
	if i < 0 {
		return nil
	}
	return &b.known[i]
}

// offset returns what must be added to the times of a boot, and whether that is
// an estimate. It fails with errTimeUnknown while nobody knows.
func (b *bootTimes) offset(boot [16]byte) (offset int64, estimated bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := hex.EncodeToString(boot[:])
	t := b.find(name)
	if t != nil && t.Offset != nil {
		return *t.Offset, t.Estimated, nil
	}
	mine, ok := b.clock.OffsetOfBoot() // the true time at which this boot began
	switch {
	case !ok:
		return 0, false, errTimeUnknown
	case boot == b.clock.BootID():
		return mine, false, b.keep(bootTime{Boot: name, Offset: &mine})
	case t == nil:
		// Untimed frames of a boot that no start has noted: they lie further back
		// than what is remembered.
		t = &bootTime{Boot: name, Estimated: true}
	}
	guess := mine - t.End
	return guess, true, b.keep(bootTime{Boot: name, Offset: &guess, Estimated: true, End: t.End})
}

// keep makes an offset durable before it is used.
func (b *bootTimes) keep(t bootTime) error {
	known := slices.DeleteFunc(slices.Clone(b.known), func(k bootTime) bool { return k.Boot == t.Boot })
	known = append(known, t)
	if len(known) > maxBoots {
		known = known[len(known)-maxBoots:]
	}
	data, err := json.Marshal(known)
	if err != nil {
		return err
	}
	if err := b.log.SetMeta(bootsKey, data); err != nil {
		return fmt.Errorf("offset of a boot: %w", err)
	}
	b.known = known
	return nil
}
