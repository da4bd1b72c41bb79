package main

import (
	"sync"

	"github.com/langbiang/langbiang/pkg/uplink"
	"github.com/langbiang/langbiang/pkg/wire"
)

// frameLog is an edge's log, as the generator fills it.
type frameLog interface {
	uplink.Log
	append(seq uint64, payload []byte, w int64) error
	// commit makes durable what was appended.
	commit() error
	close() error
}

// memLog is a log of one epoch in memory: what is safe is forgotten at once. It
// stands in for the buffer where the disk of fifty gateways is not to be measured
// on one machine. Safe for concurrent use.
type memLog struct {
	epoch  wire.Epoch
	hash   wire.Hash
	schema []byte

	mu      sync.Mutex
	first   uint64   // number of frames[0]
	frames  [][]byte // not yet safe
	spare   [][]byte
	changed chan struct{}
}

func newMemLog(epoch wire.Epoch, hash wire.Hash, schema []byte) *memLog {
	return &memLog{epoch: epoch, hash: hash, schema: schema, first: 1, changed: make(chan struct{})}
}

func (l *memLog) append(_ uint64, payload []byte, _ int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	if n := len(l.spare); n > 0 {
		b, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	l.frames = append(l.frames, append(b[:0], payload...))
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

func (l *memLog) commit() error { return nil }
func (l *memLog) close() error  { return nil }

// Read implements [uplink.Log].
func (l *memLog) Read(after wire.Pos, limit int, fn func(uplink.Record) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.first
	if after.Epoch == l.epoch && after.Seq+1 > next {
		next = after.Seq + 1
	}
	for ; next < l.first+uint64(len(l.frames)) && limit > 0; next++ {
		p := l.frames[next-l.first]
		if err := fn(uplink.Record{Pos: wire.Pos{Epoch: l.epoch, Seq: next}, Payload: p}); err != nil {
			return err
		}
		limit -= len(p)
	}
	return nil
}

// Oldest implements [uplink.Log].
func (l *memLog) Oldest() (wire.Pos, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return wire.Pos{Epoch: l.epoch, Seq: l.first}, len(l.frames) > 0
}

// Last implements [uplink.Log].
func (l *memLog) Last() (wire.Pos, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.first + uint64(len(l.frames)) - 1
	return wire.Pos{Epoch: l.epoch, Seq: n}, n > 0
}

// Attachment implements [uplink.Log].
func (l *memLog) Attachment(key [16]byte) ([]byte, bool) { return l.schema, key == l.hash }

// SetSafe implements [uplink.Log].
func (l *memLog) SetSafe(p wire.Pos) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Epoch != l.epoch || p.Seq < l.first {
		return
	}
	n := min(int(p.Seq-l.first+1), len(l.frames))
	l.spare = append(l.spare, l.frames[:min(n, max(0, 64-len(l.spare)))]...)
	l.frames = append(l.frames[:0], l.frames[n:]...)
	l.first += uint64(n)
}

// Changed implements [uplink.Log].
func (l *memLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}
