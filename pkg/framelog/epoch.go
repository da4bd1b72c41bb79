package framelog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/wire"
)

// The names of the small values that the log keeps for us.
const (
	instanceKey = "instance"
	startsKey   = "starts"
)

// startsSince is 2020-01-01 in ms: where start numbers made from the time count from.
const startsSince = 1577836800000

// Start is an epoch that has begun.
type Start struct {
	Epoch wire.Epoch
	// Unsaved says that the disk refused the start counter: it must be written
	// before the next start, or that one would take the same number.
	Unsaved bool
}

// Begin reads the instance's identity, or makes it at the first start, and
// gives this start an epoch that was never used, on disk before its first frame.
// A disk that refuses does not keep the agent from reading devices: the log holds
// the newest frames in memory then. Without any identity on disk it cannot start.
// While the disk refuses the counter, the next start would take the same number
// and look to the hub like one from an old disk image; now, in ms, or 0 if nobody
// knows, gives a number that no start has had.
func Begin(log *buffer.Log, now int64, logger *slog.Logger) (s Start, err error) {
	id, ok := log.Meta(instanceKey)
	if !ok || len(id) != len(s.Epoch.Instance) {
		id = make([]byte, len(s.Epoch.Instance))
		if last, ok := log.Last(); ok {
			// The small values were lost and the log was not: it is the same
			// installation, and its frames belong to its name.
			copy(id, last.Epoch[:])
		} else if _, err := rand.Read(id); err != nil {
			return s, fmt.Errorf("random numbers: %w", err)
		}
		if err := log.SetMeta(instanceKey, id); err != nil {
			return s, fmt.Errorf("identity of the log: %w", err)
		}
	}
	copy(s.Epoch.Instance[:], id)
	if b, ok := log.Meta(startsKey); ok && len(b) == 4 {
		s.Epoch.Start = binary.BigEndian.Uint32(b)
	}
	if last, ok := log.Last(); ok {
		s.Epoch.Start = max(s.Epoch.Start, wire.EpochFrom(last.Epoch).Start)
	}
	s.Epoch.Start++
	var r [4]byte
	if _, err := rand.Read(r[:]); err != nil {
		return s, fmt.Errorf("random numbers: %w", err)
	}
	s.Epoch.Random = binary.BigEndian.Uint32(r[:])
	if err := s.Save(log); err != nil {
		s.Unsaved = true
		if seconds := (now - startsSince) / 1000; seconds > int64(s.Epoch.Start) && seconds < math.MaxUint32/2 {
			s.Epoch.Start = uint32(seconds)
		}
		logger.Error("the disk refuses the start counter; readings are kept in memory until it takes them", "err", err)
	}
	if err := log.Begin(s.Epoch.Bytes()); err != nil {
		logger.Error("the disk refuses the log; the newest frames wait in memory", "err", err)
	}
	return s, nil
}

// Save makes the start counter durable.
func (s *Start) Save(log *buffer.Log) error {
	return log.SetMeta(startsKey, binary.BigEndian.AppendUint32(nil, s.Epoch.Start))
}

// End is where a log ended before this start.
type End struct {
	Pos       wire.Pos
	Watermark int64    // of the newest frame, in true time; 0: not known
	Boot      [16]byte // of the newest frame when it has no true time yet
	Untimed   int64    // its watermark, in the time of that boot
}

// EndOf looks where the log ends.
func EndOf(log *buffer.Log) (e End) {
	last, ok := log.Last()
	if !ok {
		return e
	}
	e.Pos = ToWire(last)
	found := errors.New("found")
	_ = log.Read(buffer.Pos{Epoch: last.Epoch, Seq: last.Seq - 1}, 1, func(r buffer.Record) error {
		if h, err := wire.PeekFrame(r.Payload); err == nil && r.Pos == last {
			if h.Untimed {
				e.Boot, e.Untimed = h.Boot, h.W
			} else {
				e.Watermark = h.W
			}
		}
		return found
	})
	return e
}
