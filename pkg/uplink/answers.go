package uplink

import (
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// answerPause is the time between two answers that go before a backlog.
const answerPause = time.Second

// next is poll, with the answers to what people ask. They go when nothing else is to be
// sent, so no reading waits for one but the time that a small message takes; only what
// is in a backlog lets one through now and then, or nobody could ask in the hours of
// one. All are paid for like frames.
func (s *session) next(now time.Time) (message, time.Duration, bool) {
	if s.cfg.Answers == nil || s.state == offline {
		return s.poll(now)
	}
	if s.backlogged() && !now.Before(s.answerAt) {
		if m, _, ok := s.answerNow(now); ok {
			return m, 0, true
		}
	}
	m, wait, ok := s.poll(now)
	if ok {
		return m, wait, ok
	}
	m, pause, ok := s.answerNow(now)
	return m, min(wait, pause), ok
}

// answerNow returns an answer, if there is one and the rate allows it; else for how
// long the rate does not.
func (s *session) answerNow(now time.Time) (message, time.Duration, bool) {
	if wait := s.throttle(now); wait > 0 {
		return message{}, wait, false
	}
	payload, ok := s.cfg.Answers.Next()
	if !ok {
		return message{}, time.Hour, false
	}
	s.counts.answers++
	s.pay(len(payload))
	s.answerAt = now.Add(answerPause)
	if s.cfg.MaxRate > 0 { // a quarter of it at most
		s.answerAt = now.Add(max(answerPause, time.Duration(4*float64(len(payload)+overhead)/float64(s.cfg.MaxRate)*float64(time.Second))))
	}
	return message{wire.TopicAnswer, payload}, 0, true
}
