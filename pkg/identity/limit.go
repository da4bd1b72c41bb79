package identity

import (
	"sync"
	"time"
)

// limiter bounds failed attempts by key within a window. It holds a bounded number of
// keys.
type limiter struct {
	mu     sync.Mutex
	window time.Duration
	failed map[string]*attempts
}

type attempts struct {
	n     int
	since time.Time
}

const maxLimited = 10_000

func newLimiter(window time.Duration) *limiter {
	return &limiter{window: window, failed: map[string]*attempts{}}
}

// take counts an attempt, before it is known whether it succeeds, and returns how long
// to wait when there were as many already; then it is not counted.
func (l *limiter) take(key string, most int, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.failed[key]
	if a == nil || now.Sub(a.since) >= l.window || now.Before(a.since) {
		if a == nil && len(l.failed) >= maxLimited {
			l.drop(now)
		}
		a = &attempts{since: now}
		l.failed[key] = a
	}
	if a.n >= most {
		return l.window - now.Sub(a.since)
	}
	a.n++
	return 0
}

// forgive takes the count of a key back: the attempt succeeded.
func (l *limiter) forgive(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failed, key)
}

// drop makes room: windows that are over go, and if those are few a tenth of the others.
func (l *limiter) drop(now time.Time) {
	room := maxLimited / 10
	for pass := range 2 {
		for k, a := range l.failed {
			if room == 0 {
				return
			}
			if pass == 1 || now.Sub(a.since) >= l.window {
				delete(l.failed, k)
				room--
			}
		}
	}
}
