package edge

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/clock"
	"github.com/langbiang/langbiang/pkg/wire"
)

// bootsKey is where the offsets of boots stand in the log's small values.
const bootsKey = "boots"

// maxBoots is how many boots are remembered; frames of older ones keep the
// estimate of the oldest.
const maxBoots = 64

// errTimeUnknown says that a frame cannot be sent yet: nobody knows the true
// time of its boot.
var errTimeUnknown = errors.New("the true time of this boot is not known yet")

// bootTimes knows what makes the times of untimed frames true. The offset of a
// boot is decided once and kept, so that a frame that is sent again carries the
// same times. Safe for concurrent use.
type bootTimes struct {
	log   *buffer.Log
	clock *clock.Clock

	mu    sync.Mutex
	known []bootOffset // oldest first
}

type bootOffset struct {
	Boot   string `json:"boot"`
	Offset int64  `json:"offset"`
}

func newBootTimes(log *buffer.Log, c *clock.Clock) *bootTimes {
	b := &bootTimes{log: log, clock: c}
	if data, ok := log.Meta(bootsKey); ok {
		// A value that does not parse is as good as none: offsets are decided anew.
		_ = json.Unmarshal(data, &b.known)
	}
	return b
}

// retime gives an untimed frame its true times, in place. It fails with
// errTimeUnknown while they are not known.
func (b *bootTimes) retime(payload []byte) error {
	h, err := wire.PeekFrame(payload)
	if err != nil {
		return err
	}
	if !h.Untimed {
		return nil
	}
	offset, err := b.offset(h.Boot)
	if err != nil {
		return err
	}
	return wire.Retime(payload, offset)
}

func (b *bootTimes) offset(boot [16]byte) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := hex.EncodeToString(boot[:])
	if i := slices.IndexFunc(b.known, func(o bootOffset) bool { return o.Boot == name }); i >= 0 {
		return b.known[i].Offset, nil
	}
	if boot != b.clock.BootID() {
		return 0, errTimeUnknown
	}
	offset, ok := b.clock.OffsetOfBoot()
	if !ok {
		return 0, errTimeUnknown
	}
	return offset, b.keep(bootOffset{name, offset})
}

// keep makes an offset durable before it is used.
func (b *bootTimes) keep(o bootOffset) error {
	known := append(slices.Clone(b.known), o)
	if len(known) > maxBoots {
		known = known[len(known)-maxBoots:]
	}
	data, err := json.Marshal(known)
	if err != nil {
		return err
	}
	if err := b.log.SetMeta(bootsKey, data); err != nil {
		return fmt.Errorf("offset of this boot: %w", err)
	}
	b.known = known
	return nil
}
