package uplink

import (
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// ack takes an acknowledgement. Those for other instances are not ours.
func (s *session) ack(now time.Time, a *wire.Ack) {
	if a.Instance != s.cfg.Epoch.Instance || s.state == offline {
		return
	}
	answers := a.Nonce != 0 && a.Nonce == s.nonce && s.state == greeting
	if a.Nonce != 0 && !answers {
		return // to a hello that has been answered, or was given up
	}
	if answers && s.cfg.ObserveHub != nil {
		rtt := now.Sub(s.helloAt)
		s.cfg.ObserveHub(time.UnixMilli(a.HubTime).Sub(now.Round(0))+rtt/2, rtt)
	}
	if !a.Need.IsZero() {
		s.wanted(now, a.Need)
	}
	switch a.Status {
	case wire.StatusOK, wire.StatusHole:
	default:
		s.hold(now, a)
		return
	}
	s.credit = int(min(a.Credit, 1<<30))
	if answers {
		s.answered(now, a)
		return
	}
	if s.state != streaming {
		return // only the answer counts now
	}
	s.moveSafe(a.Safe)
	switch {
	case !a.Got.SameLine(s.acked) || a.Got.Compare(s.acked) < 0:
		// Late, or the hub stands further back than it did. Only an answer tells.
		s.probe(now)
	case a.Got.Compare(s.cursor) > 0:
		// It has got what was sent before the last rewind.
		s.settle(now, a.Got)
		if s.ahead(a.Got) {
			s.probe(now)
			return
		}
		s.rewind(a.Got)
	default:
		s.settle(now, a.Got)
		if a.Status == wire.StatusHole && s.cursor != a.Got {
			s.hole(now, a.Got)
		}
	}
}

// answered takes the answer to a hello: the truth about where the hub stands.
func (s *session) answered(now time.Time, a *wire.Ack) {
	s.nonce = 0
	if s.ahead(a.Got) {
		fork := *a
		fork.Status = wire.StatusFork
		fork.Reason = "the hub has more of this edge's log than the edge: was its disk restored from an older image?"
		s.hold(now, &fork)
		if s.forks < forkHellos {
			s.forks++ // the hub believes it only when it was told several times
			s.holdUntil = now.Add(s.jitter(s.cfg.AnswerTimeout))
		}
		return
	}
	s.forks = 0
	s.state = streaming
	s.retry = s.cfg.AnswerTimeout
	if s.status == wire.StatusFork || s.status == wire.StatusClone {
		s.accepted() // hellos are refused for these, too
	}
	if s.cursor != a.Got {
		s.counts.rewinds++
	}
	if s.acked != a.Got {
		s.answer = s.cfg.answerWithin() // something has moved
	}
	s.rewind(a.Got)
	s.acked = a.Got
	s.progress = now
	s.rewound, s.rewoundAt = a.Got, now
	if a.Safe != s.safe {
		s.safe = a.Safe
		s.log.SetSafe(a.Safe)
	}
}

// ahead reports whether the hub stands at a place that this log cannot have led
// to: beyond its end, or in an epoch that is not older than the current one.
func (s *session) ahead(got wire.Pos) bool {
	if got.IsZero() || got.Epoch.Instance != s.cfg.Epoch.Instance {
		return false
	}
	if got.Epoch == s.cfg.Epoch {
		last, ok := s.log.Last()
		return got.Seq > 0 && (!ok || last.Epoch != got.Epoch || got.Seq > last.Seq)
	}
	return got.Epoch.Start >= s.cfg.Epoch.Start
}

// moveSafe moves the safe place forward; only an answer moves it back.
func (s *session) moveSafe(p wire.Pos) {
	if p.IsZero() || !p.SameLine(s.safe) || p.Compare(s.safe) <= 0 || p.Epoch.Instance != s.cfg.Epoch.Instance {
		return
	}
	s.safe = p
	s.log.SetSafe(p)
}

// wanted notes that the hub lacks a schema.
func (s *session) wanted(now time.Time, h wire.Hash) {
	if h == s.given && now.Sub(s.givenAt) < rewindPause {
		return // it is on its way
	}
	if _, ok := s.log.Attachment(h); ok {
		s.need = h
		return
	}
	s.lost[h] = true
}

// hole sends again from a place, but not on each of the many acknowledgements that
// one lost frame causes.
func (s *session) hole(now time.Time, got wire.Pos) {
	if got == s.rewound && now.Sub(s.rewoundAt) < s.pause {
		s.again = s.rewoundAt.Add(s.pause)
		return
	}
	s.resend(now)
}

// resend goes back to what is acknowledged.
func (s *session) resend(now time.Time) {
	if s.acked == s.rewound {
		s.pause = min(2*s.pause, maxAnswerTimeout)
	}
	s.rewound, s.rewoundAt = s.acked, now
	s.progress = now
	s.counts.rewinds++
	s.rewind(s.acked)
}

// probe asks where the hub stands, with pauses.
func (s *session) probe(now time.Time) {
	if now.Sub(s.lastProbe) < probePause {
		return
	}
	s.lastProbe = now
	s.greet(now)
}

// hold stops sending. The log keeps everything, and a hello asks again later.
func (s *session) hold(now time.Time, a *wire.Ack) {
	pause := holdOther
	if a.Status == wire.StatusClock {
		pause = holdClock
		if !a.Got.IsZero() && a.Got.SameLine(s.acked) && a.Got.Compare(s.acked) >= 0 {
			s.settle(now, a.Got)
			s.moveSafe(a.Safe)
		}
	}
	if s.state != held || !now.Before(s.holdUntil) {
		s.holdUntil = now.Add(s.jitter(pause))
	}
	s.state = held
	s.nonce = 0
	if s.status == a.Status {
		return
	}
	s.status, s.reason = a.Status, a.Reason
	s.cfg.Logger.Error("the hub refuses this edge's frames; they are kept",
		"status", a.Status.String(), "reason", a.Reason, "hint", hint(a.Status))
}

// accepted notes that the hub takes frames.
func (s *session) accepted() {
	if s.status != wire.StatusOK {
		s.status, s.reason = wire.StatusOK, ""
		s.cfg.Logger.Info("the hub accepts frames again")
	}
}

func hint(s wire.Status) string {
	switch s {
	case wire.StatusClock:
		return "a reading lies in the hub's future: check the clocks of both"
	case wire.StatusFork:
		return "the hub has other frames under the same numbers: was this disk restored from an image? An operator must decide at the hub"
	case wire.StatusClone:
		return "another agent uses the same edge id: give one of them another id, or stop it"
	case wire.StatusVersion:
		return "the hub cannot read this format: update the hub first"
	}
	return "see the reason"
}
