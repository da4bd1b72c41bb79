// Package framelog is what an edge's log of frames needs beside package buffer,
// which looks into nothing: places as they stand in messages, the identity of an
// installation, an epoch that was never used, and where the log ended. Agents use
// it, and so do the pushed sources of a hub, which are edges inside of it.
//
//	log, err := buffer.Open(dir, ...)
//	end := framelog.EndOf(log)
//	begun, err := framelog.Begin(log, now, logger)
//	u, err := uplink.New(uplink.Config{Epoch: begun.Epoch, ...}, framelog.Of(log))
package framelog

import (
	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/uplink"
	"github.com/langbiang/langbiang/pkg/wire"
)

// frames shows the log to the uplink, which must not know package buffer.
type frames struct{ *buffer.Log }

// Of shows a log to an uplink.
func Of(l *buffer.Log) uplink.Log { return frames{l} }

// ToWire returns the place as it stands in messages.
func ToWire(p buffer.Pos) wire.Pos {
	if p.IsZero() {
		return wire.Pos{}
	}
	return wire.Pos{Epoch: wire.EpochFrom(p.Epoch), Seq: p.Seq}
}

// FromWire is the inverse of [ToWire].
func FromWire(p wire.Pos) buffer.Pos {
	if p == (wire.Pos{}) {
		return buffer.Pos{}
	}
	return buffer.Pos{Epoch: p.Epoch.Bytes(), Seq: p.Seq}
}

func (l frames) Read(after wire.Pos, max int, fn func(uplink.Record) error) error {
	return l.Log.Read(FromWire(after), max, func(r buffer.Record) error {
		return fn(uplink.Record{Pos: ToWire(r.Pos), Payload: r.Payload, Unsure: r.Unsure})
	})
}

func (l frames) Oldest() (wire.Pos, bool) {
	p, ok := l.Log.Oldest()
	return ToWire(p), ok
}

func (l frames) Last() (wire.Pos, bool) {
	p, ok := l.Log.Last()
	return ToWire(p), ok
}

func (l frames) SetSafe(p wire.Pos) { l.Log.SetSafe(FromWire(p)) }
