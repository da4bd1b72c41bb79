package edge

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

// epochStart is an epoch that has begun.
type epochStart struct {
	epoch wire.Epoch
	// unsaved says that the disk refused the start counter: it must be written
	// before the next start, or that one would take the same number.
	unsaved bool
}

// beginEpoch reads the instance's identity, or makes it at the first start, and
// gives this start an epoch that was never used, on disk before its first frame.
// A disk that refuses does not keep the agent from reading devices: the log holds
// the newest frames in memory then. Without any identity on disk it cannot start.
// While the disk refuses the counter, the next start would take the same number
// and look to the hub like one from an old disk image; now, in ms, or 0 if nobody
// knows, gives a number that no start has had.
func beginEpoch(log *buffer.Log, now int64, logger *slog.Logger) (s epochStart, err error) {
	id, ok := log.Meta(instanceKey)
	if !ok || len(id) != len(s.epoch.Instance) {
		id = make([]byte, len(s.epoch.Instance))
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
	copy(s.epoch.Instance[:], id)
	if b, ok := log.Meta(startsKey); ok && len(b) == 4 {
		s.epoch.Start = binary.BigEndian.Uint32(b)
	}
	if last, ok := log.Last(); ok {
		s.epoch.Start = max(s.epoch.Start, wire.EpochFrom(last.Epoch).Start)
	}
	s.epoch.Start++
	var r [4]byte
	if _, err := rand.Read(r[:]); err != nil {
		return s, fmt.Errorf("random numbers: %w", err)
	}
	s.epoch.Random = binary.BigEndian.Uint32(r[:])
	if err := s.save(log); err != nil {
		s.unsaved = true
		if seconds := (now - startsSince) / 1000; seconds > int64(s.epoch.Start) && seconds < math.MaxUint32/2 {
			s.epoch.Start = uint32(seconds)
		}
		logger.Error("the disk refuses the start counter; readings are kept in memory until it takes them", "err", err)
	}
	if err := log.Begin(s.epoch.Bytes()); err != nil {
		logger.Error("the disk refuses the log; the newest frames wait in memory", "err", err)
	}
	return s, nil
}

// save makes the start counter durable.
func (s *epochStart) save(log *buffer.Log) error {
	return log.SetMeta(startsKey, binary.BigEndian.AppendUint32(nil, s.epoch.Start))
}

// logEnd is where a log ended before this start.
type logEnd struct {
	pos       wire.Pos
	watermark int64    // of the newest frame, in true time; 0: not known
	boot      [16]byte // of the newest frame when it has no true time yet
	untimed   int64    // its watermark, in the time of that boot
}

func endOf(log *buffer.Log) (e logEnd) {
	last, ok := log.Last()
	if !ok {
		return e
	}
	e.pos = toWire(last)
	found := errors.New("found")
	_ = log.Read(buffer.Pos{Epoch: last.Epoch, Seq: last.Seq - 1}, 1, func(r buffer.Record) error {
		if h, err := wire.PeekFrame(r.Payload); err == nil && r.Pos == last {
			if h.Untimed {
				e.boot, e.untimed = h.Boot, h.W
			} else {
				e.watermark = h.W
			}
		}
		return found
	})
	return e
}
