package edge

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/langbiang/langbiang/pkg/framelog"
)

// bootsKey is where the offsets of boots stand in the log's small values.
const bootsKey = "boots"

// maxBoots is how many boots are remembered. A boot is forgotten long after its
// frames have left the log.
const maxBoots = 256

// errTimeUnknown says that a frame cannot be sent yet: nobody knows the true
// time of its boot.
var errTimeUnknown = errors.New("the true time of this boot is not known yet")

// bootLog keeps small values durably; *buffer.Log does.
type bootLog interface {
	Meta(key string) ([]byte, bool)
	SetMeta(key string, value []byte) error
}

// bootClock is the clock as bootTimes sees it; *clock.Clock is one.
type bootClock interface {
	BootID() [16]byte
	OffsetOfBoot() (int64, bool)
}

// bootTimes knows what makes the times of untimed frames true. The offset of a
// boot is decided once and kept, so that a frame that is sent again carries the
// same times. Safe for concurrent use.
type bootTimes struct {
	log   bootLog
	clock bootClock

	mu    sync.Mutex
	known []bootTime // oldest first
	open  bool       // something may be left to settle
}

// bootTime is what is known of a boot that has untimed frames in the log.
type bootTime struct {
	Boot string `json:"boot"`
	// Offset makes its times true; nil while nobody knows it.
	Offset *int64 `json:"offset,omitempty"`
	// Estimated: power went before the true time was known. The offset puts the
	// boot's end at the beginning of the boot after it.
	Estimated bool `json:"estimated,omitempty"`
	// End is the last watermark of the boot, in its own time.
	End int64 `json:"end,omitempty"`
}

// newBootTimes reads what earlier starts knew. end is where the log ended: when
// that was in the time of another boot, nobody will ever know its true time, and
// its end is noted for an estimate.
func newBootTimes(log bootLog, c bootClock, end framelog.End) (*bootTimes, error) {
	b := &bootTimes{log: log, clock: c}
	if data, ok := log.Meta(bootsKey); ok {
		if err := json.Unmarshal(data, &b.known); err != nil {
			return nil, fmt.Errorf("times of earlier boots: %w", err)
		}
	}
	_, trusted := c.OffsetOfBoot()
	b.open = !trusted || end.Untimed != 0 || slices.ContainsFunc(b.known, func(t bootTime) bool { return t.Offset == nil })
	if end.Untimed == 0 || end.Boot == c.BootID() {
		return b, nil
	}
	name := hex.EncodeToString(end.Boot[:])
	if b.find(name) == nil {
		t := bootTime{Boot: name, Estimated: true, End: end.Untimed}
		if b.keep(t) != nil {
			b.known = append(b.known, t) // the disk refuses: it goes along with the next
		}
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
	if t := b.find(name); t != nil && t.Offset != nil {
		return *t.Offset, t.Estimated, nil
	}
	mine, ok := b.clock.OffsetOfBoot() // the true time at which this boot began
	if !ok {
		return 0, false, errTimeUnknown
	}
	if boot == b.clock.BootID() {
		return mine, false, b.keep(bootTime{Boot: name, Offset: &mine})
	}
	if b.find(name) == nil {
		// Untimed frames of a boot that no start has noted: they lie further back
		// than what is remembered.
		return mine, true, b.keep(bootTime{Boot: name, Offset: &mine, Estimated: true})
	}
	if err := b.estimate(mine); err != nil {
		return 0, false, err
	}
	return *b.find(name).Offset, true, nil
}

// settle decides what is open once the true time is known: the offset of this
// boot, which may have written untimed frames, and the estimates. That must not
// wait until the hub is there: if power went meanwhile, nobody would know any more.
func (b *bootTimes) settle() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return nil
	}
	mine, ok := b.clock.OffsetOfBoot()
	if !ok {
		return nil
	}
	if err := b.estimate(mine); err != nil {
		return err
	}
	if name := hex.EncodeToString(b.current()); b.find(name) == nil {
		if err := b.keep(bootTime{Boot: name, Offset: &mine}); err != nil {
			return err
		}
	}
	b.open = false
	return nil
}

// estimate gives every boot that nobody will know the time of its place: it ends
// where the next one begins, the newest where this boot begins.
func (b *bootTimes) estimate(mine int64) error {
	if !slices.ContainsFunc(b.known, func(t bootTime) bool { return t.Offset == nil }) {
		return nil
	}
	known := slices.Clone(b.known)
	next, current := mine, hex.EncodeToString(b.current())
	for i := len(known) - 1; i >= 0; i-- {
		switch t := &known[i]; {
		case t.Boot == current:
		case t.Offset != nil:
			next = *t.Offset
		default:
			guess := next - t.End
			t.Offset, next = &guess, guess
		}
	}
	return b.write(known)
}

func (b *bootTimes) current() []byte {
	id := b.clock.BootID()
	return id[:]
}

// keep adds what is known of a boot, after those before it.
func (b *bootTimes) keep(t bootTime) error {
	known := append(slices.Clone(b.known), t)
	if len(known) > maxBoots {
		known = known[len(known)-maxBoots:]
	}
	return b.write(known)
}

// write makes offsets durable before they are used.
func (b *bootTimes) write(known []bootTime) error {
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
