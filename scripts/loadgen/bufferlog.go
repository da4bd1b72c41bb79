package main

import (
	"log/slog"
	"time"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/uplink"
	"github.com/langbiang/langbiang/pkg/wire"
)

// bufferLog is the log that a gateway has, on disk.
type bufferLog struct {
	uplink.Log
	log    *buffer.Log
	schema buffer.Attachment
}

func openBufferLog(dir string, epoch wire.Epoch, hash wire.Hash, schema []byte) (*bufferLog, error) {
	l, err := buffer.Open(dir, buffer.Options{
		MaxSize: 64 << 20, Logger: slog.New(slog.DiscardHandler), Now: func() int64 { return time.Now().UnixMilli() },
	})
	if err != nil {
		return nil, err
	}
	if err := l.Begin(epoch.Bytes()); err != nil {
		return nil, err
	}
	return &bufferLog{framelog.Of(l), l, buffer.Attachment{Key: hash, Data: schema}}, nil
}

func (l *bufferLog) append(seq uint64, payload []byte, w int64) error {
	return l.log.Append(seq, payload, w, l.schema)
}

func (l *bufferLog) commit() error { return l.log.Commit() }
func (l *bufferLog) close() error  { return l.log.Close() }
