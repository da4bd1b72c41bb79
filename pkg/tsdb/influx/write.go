package influx

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	httpapi "github.com/influxdata/influxdb-client-go/v2/api/http"
)

// run sends batches until the store is closed.
func (s *Store) run() {
	for {
		list, ok := s.take()
		if !ok {
			return
		}
		var body strings.Builder
		for _, b := range list {
			body.Write(b.lines)
		}
		if !s.deliver(s.refused.filter(body.String())) {
			return
		}
		s.mu.Lock()
		for _, b := range list {
			delete(s.undone, b.number)
			s.waiting -= int64(len(b.lines))
		}
		s.last = time.Now()
		s.metrics.pending.Set(float64(s.waiting))
		s.notify()
		s.mu.Unlock()
	}
}

// take waits for batches and takes as many as fit into a request.
func (s *Store) take() (list []batch, ok bool) {
	err := s.await(func() bool {
		size := 0
		for len(s.queue) > 0 && (size == 0 || size+len(s.queue[0].lines) <= s.o.BatchBytes) {
			size += len(s.queue[0].lines)
			list = append(list, s.queue[0])
			s.queue[0] = batch{}
			s.queue = s.queue[1:]
		}
		return len(list) > 0
	})
	return list, err == nil
}

// deliver sends lines until the server has taken them, or refused them for
// themselves. It returns false when the store ends before.
func (s *Store) deliver(lines string) bool {
	if lines == "" {
		return true
	}
	for attempt := 0; ; attempt++ {
		err := s.write.WriteRecord(s.ctx, strings.TrimSuffix(lines, "\n"))
		if err == nil {
			s.up()
			return true
		}
		if s.ctx.Err() != nil {
			return false
		}
		if refuses(err) {
			if done, ok := s.halve(lines, err); done {
				return ok
			}
		}
		s.notUp(err)
		if !s.pause(attempt, err) {
			return false
		}
	}
}

// refuses reports whether the server has found fault with the lines, and not with
// us or with itself.
func refuses(err error) bool {
	var e *httpapi.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// halve finds the lines that the server refuses. A single line is set aside, if the
// server takes another line and then refuses this one again: one that refuses
// everything is no judge, and done is false.
func (s *Store) halve(lines string, why error) (done, ok bool) {
	half := middle(lines)
	if half > 0 {
		return true, s.deliver(lines[:half]) && s.deliver(s.refused.filter(lines[half:]))
	}
	if err := s.write.WriteRecord(s.ctx, "langbiang_store_probe value=1"); err != nil {
		return false, false
	}
	switch err := s.write.WriteRecord(s.ctx, strings.TrimSuffix(lines, "\n")); {
	case err == nil:
		s.up()
		return true, true
	case !refuses(err):
		return false, false
	}
	s.metrics.refused.Inc()
	if s.refused.add(strings.TrimSuffix(lines, "\n"), why) {
		s.o.Logger.Error("the store's server refuses a series; its samples are set aside", "series", keyOf(lines), "reason", why.Error(), "file", s.o.Refused)
	}
	return true, true
}

// middle returns where the line after half of the bytes begins, 0 for a single line.
func middle(lines string) int {
	if i := strings.IndexByte(lines[len(lines)/2:], '\n'); i >= 0 && len(lines)/2+i+1 < len(lines) {
		return len(lines)/2 + i + 1
	}
	return bytes.LastIndexByte([]byte(lines[:max(0, len(lines)-1)]), '\n') + 1
}

// pause waits before the next attempt, twice as long each time, or as long as the
// server asks for; it returns false when the store ends.
func (s *Store) pause(attempt int, err error) bool {
	wait := min(s.o.Retry<<min(attempt, 20), s.o.MaxRetry)
	wait = wait/2 + rand.N(wait/2+1)
	var e *httpapi.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		wait = max(wait, min(time.Duration(e.RetryAfter)*time.Second, s.o.MaxRetry))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *Store) up() {
	if s.down.CompareAndSwap(true, false) {
		s.metrics.down.Set(0)
		s.o.Logger.Info("the store's server takes samples again")
	}
}

func (s *Store) notUp(err error) {
	if s.down.CompareAndSwap(false, true) && !errors.Is(err, context.Canceled) {
		s.metrics.down.Set(1)
		s.o.Logger.Error("the store's server does not take samples; they wait, and nothing becomes safe", "url", s.o.URL, "err", err)
	}
}
