package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// serverLog gives the server's words to slog. What clients can provoke is held to
// a few lines a second, so that a noisy one cannot fill the disk.
type serverLog struct {
	log    *slog.Logger
	limit  *rate.Limiter
	muted  atomic.Uint64
	mu     sync.Mutex
	failed error
}

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log, limit: rate.NewLimiter(2, 20)}
}

// fatal returns what the server gave up for while starting, or nil.
func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Fatalf implements [server.Logger]; the server's own would end the process.
func (l *serverLog) Fatalf(format string, v ...any) {
	err := errors.New(sprint(format, v))
	for _, a := range v {
		if e, ok := a.(error); ok {
			err = e
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
}

// Noticef implements [server.Logger].
func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug("bus: " + sprint(format, v)) }

// Warnf implements [server.Logger].
func (l *serverLog) Warnf(format string, v ...any) { l.limited(slog.LevelWarn, format, v) }

// Errorf implements [server.Logger]. Nearly all of the server's errors are about
// what one client did, so they are warnings of ours.
func (l *serverLog) Errorf(format string, v ...any) { l.limited(slog.LevelWarn, format, v) }

// Debugf implements [server.Logger].
func (l *serverLog) Debugf(string, ...any) {}

// Tracef implements [server.Logger].
func (l *serverLog) Tracef(string, ...any) {}

func (l *serverLog) limited(level slog.Level, format string, v []any) {
	if !l.limit.Allow() {
		l.muted.Add(1)
		return
	}
	msg := "bus: " + sprint(format, v)
	if n := l.muted.Swap(0); n > 0 {
		l.log.Log(context.Background(), level, msg, "not_shown", n)
		return
	}
	l.log.Log(context.Background(), level, msg)
}

func sprint(format string, v []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, v...))
}
