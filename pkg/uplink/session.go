package uplink

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/langbiang/langbiang/pkg/wire"
)

// The pauses of a session. Those that grow are doubled up to their maximum, and
// jittered.
const (
	maxAnswerTimeout = time.Minute
	holdClock        = 30 * time.Second
	holdOther        = time.Minute
	probePause       = time.Second // between hellos that a strange ack caused
	rewindPause      = time.Second // between rewinds to the same place
	idleProbe        = time.Minute // ask when nothing is under way and not all is safe
	maxIdleProbe     = 10 * time.Minute
	untimedPoll      = time.Second
	maxFlights       = 8192
	forkHellos       = 3 // quick ones, so that an operator sees a fork within seconds
	// overhead is what a message takes on the link beside its payload: topic, TLS
	// record, TCP and IP headers, and the acknowledgement of the segment.
	overhead = 150
)

type state uint8

const (
	offline state = iota
	greeting
	streaming
	held
)

// message is what the session wants published.
type message struct {
	topic   string // last part, such as frame or hello
	payload []byte // valid until the next call of the session
}

// flight is something sent and not yet acknowledged.
type flight struct {
	pos  wire.Pos // where the hub stands once it has taken it
	size int
}

// session decides what an edge says. It is pure but for the log that it reads:
// time comes as an argument, randomness from a seeded source. It is not for
// concurrent use.
type session struct {
	cfg *Config
	log Log
	rng *rand.Rand

	state state
	// cursor is the place after which the next message comes; acked is the
	// highest place that the hub is known to have got, as far as it stands by it.
	cursor, acked, safe wire.Pos
	flights             []flight
	inFlight            int
	credit              int
	upcoming            upcoming
	join                joiner

	// What is at or before due is sent; the rest waits for the period to end, at
	// periodAt, or for a flush.
	due      wire.Pos
	periodAt time.Time

	snapshotAt time.Time
	snapshot   []byte

	nonce     uint64
	helloAt   time.Time
	greetFrom time.Time     // since when the hub is asked
	greetDue  time.Time     // when to say hello (again)
	retry     time.Duration // wait for the answer to a hello
	answer    time.Duration // wait for an acknowledgement of frames
	lastProbe time.Time
	progress  time.Time // last time that something was sent into an empty window or acknowledged
	rewound   wire.Pos
	rewoundAt time.Time
	pause     time.Duration // until a rewind to the same place is allowed
	again     time.Time     // when it is due, if one is wanted
	holdUntil time.Time
	forks     int // answers in a row by which the hub is ahead of the log
	idleAt    time.Time
	idle      time.Duration
	pollAt    time.Time // untimed frames wait until then

	status wire.Status
	reason string

	known map[wire.Hash]bool // schemas sent in this connection
	lost  map[wire.Hash]bool // schemas that the log no longer has
	need  wire.Hash
	// The schema that the hub was sent last because it asked.
	given   wire.Hash
	givenAt time.Time

	answerAt time.Time // an answer may go before a backlog then

	tokens   float64
	tokensAt time.Time

	counts counts
	out    []byte
}

// counts is what the session did since it was made.
type counts struct {
	frames, frameBytes, joined, resent, gaps, skipped, schemas, snapshots, hellos, rewinds, answers uint64
	highest                                                                                         wire.Pos // last place ever sent
}

func newSession(cfg *Config, log Log, seed uint64) *session {
	s := &session{
		cfg: cfg, log: log, rng: rand.New(rand.NewPCG(seed, 0x75706c696e6b)),
		known: map[wire.Hash]bool{}, lost: map[wire.Hash]bool{},
		retry: cfg.AnswerTimeout, answer: cfg.answerWithin(), pause: rewindPause, idle: idleProbe,
	}
	s.upcoming = upcoming{log: log, failed: func(err error) { cfg.Logger.Warn("the log cannot be read", "error", err) }}
	s.join.log = log
	return s
}

// connected tells that messages can be published and acknowledgements arrive.
func (s *session) connected(now time.Time) {
	s.need, s.given = wire.Hash{}, wire.Hash{}
	s.retry, s.answer = s.cfg.AnswerTimeout, s.cfg.answerWithin()
	s.periodAt, s.snapshotAt = now, now
	s.greet(now)
}

// disconnected tells that the connection is gone.
func (s *session) disconnected() {
	s.state = offline
	s.nonce = 0
	// The connection may still hold the last message.
	s.upcoming.forget()
	s.join.forget()
	s.out, s.snapshot = nil, nil
}

// deafAfter is how long nothing may be heard although the hub was asked. A connection
// may be open at one end alone, and MQTT's keepalive is longer on a link that costs.
const deafAfter = time.Minute

// deaf reports whether the connection is of no use any more.
func (s *session) deaf(now time.Time) bool {
	return s.state == greeting && s.nonce != 0 && now.Sub(s.greetFrom) >= deafAfter
}

// greet asks the hub where it stands; nothing else is sent until it answers.
func (s *session) greet(now time.Time) {
	if s.state != greeting {
		s.greetFrom = now
	}
	s.state = greeting
	s.nonce = 0
	s.greetDue = now
}

func (s *session) jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(s.rng.Int64N(int64(d/2)+1))
}

// poll returns the next message to publish. When there is none it returns for how
// long to wait if nothing else happens.
func (s *session) poll(now time.Time) (message, time.Duration, bool) {
	switch s.state {
	case offline:
		return message{}, time.Hour, false
	case held:
		if wait := s.holdUntil.Sub(now); wait > 0 {
			return message{}, wait, false
		}
		s.greet(now)
	case streaming:
		if len(s.flights) > 0 && now.Sub(s.progress) >= s.answer {
			s.answer = min(2*s.answer, maxAnswerTimeout)
			s.greet(now)
		}
	}
	if s.state == greeting {
		if wait := s.greetDue.Sub(now); wait > 0 {
			return message{}, wait, false
		}
		return s.hello(now), 0, true
	}
	if !s.again.IsZero() && !now.Before(s.again) {
		s.again = time.Time{}
		s.resend(now)
	}
	m, wait, ok := s.stream(now)
	if !ok && !s.again.IsZero() {
		wait = min(wait, s.again.Sub(now))
	}
	return m, wait, ok
}

// hello makes the greeting. An answer to an earlier one no longer counts.
func (s *session) hello(now time.Time) message {
	s.nonce = s.rng.Uint64() | 1
	s.helloAt = now
	s.greetDue = now.Add(s.jitter(s.retry))
	s.retry = min(2*s.retry, maxAnswerTimeout)
	s.counts.hellos++
	h := wire.Hello{V: wire.Version, Instance: s.cfg.Epoch.Instance, Epoch: s.cfg.Epoch, Nonce: s.nonce}
	if s.cfg.Hello != nil {
		s.cfg.Hello(&h)
	}
	h.AckWithin = uint32(min(s.cfg.AckWithin, time.Hour).Milliseconds())
	h.V, h.Instance, h.Epoch, h.Nonce = wire.Version, s.cfg.Epoch.Instance, s.cfg.Epoch, s.nonce
	h.Oldest, _ = s.log.Oldest()
	h.Newest, _ = s.log.Last()
	if safe := s.safe; !safe.IsZero() {
		h.Safe = &safe
	}
	payload, err := wire.EncodeHello(&h)
	if err != nil {
		// Only what the callback filled in can be too long.
		payload, _ = wire.EncodeHello(&wire.Hello{
			V: h.V, Instance: h.Instance, Epoch: h.Epoch, Nonce: h.Nonce, Oldest: h.Oldest, Newest: h.Newest, Safe: h.Safe,
		})
	}
	return message{wire.TopicHello, payload}
}

// stream returns the next snapshot, schema, gap or frames.
func (s *session) stream(now time.Time) (message, time.Duration, bool) {
	live, ok := s.lastValues(now)
	if ok {
		return message{wire.TopicSnapshot, s.snapshot}, 0, true
	}
	m, wait, ok := s.fromLog(now)
	return m, min(wait, live), ok
}

// lastValues makes a snapshot when one is due, whatever the rate: what is must not
// wait behind what was. It returns for how long to wait for the next.
func (s *session) lastValues(now time.Time) (time.Duration, bool) {
	if s.cfg.Snapshot == nil || !s.backlogged() {
		return time.Hour, false
	}
	if wait := s.snapshotAt.Sub(now); wait > 0 {
		return wait, false
	}
	s.snapshotAt = now.Add(s.cfg.SnapshotEvery)
	var ok bool
	if s.snapshot, ok = s.cfg.Snapshot(s.snapshot[:0]); ok {
		s.counts.snapshots++
		s.pay(len(s.snapshot))
	}
	return s.cfg.SnapshotEvery, ok
}

// fromLog returns the next schema, gap or frames.
func (s *session) fromLog(now time.Time) (message, time.Duration, bool) {
	if wait := s.throttle(now); wait > 0 {
		return message{}, wait, false
	}
	if !s.need.IsZero() {
		s.given, s.givenAt = s.need, now
		if m, ok := s.schema(s.need); ok {
			return m, 0, true
		}
	}
	for {
		if len(s.flights) >= maxFlights {
			return message{}, s.patience(now), false
		}
		next := s.upcoming.peek(s.cursor)
		if len(next) == 0 {
			s.join.forget()
			return s.idling(now)
		}
		if wait := s.period(now, next[0].pos); wait > 0 {
			m, idle, ok := s.idling(now)
			return m, min(wait, idle), ok
		}
		e := &next[0]
		h, err := wire.PeekFrame(e.payload)
		switch {
		case len(e.payload) > wire.MaxFrame:
			return s.skip(now, e.pos, "the frame is too large to be sent")
		case err != nil || h.Pos() != e.pos:
			return s.skip(now, e.pos, "the frame is damaged")
		case s.lost[h.Schema]:
			return s.skip(now, e.pos, "the schema of the frame is lost")
		case !h.Follows(s.cursor):
			return s.gap(now, wire.Gap{After: s.cursor, Next: e.pos, Reason: "no longer in the edge's log"})
		case e.unsure && s.cursor.Epoch != e.pos.Epoch:
			return s.gap(now, wire.Gap{After: s.cursor, Next: e.pos, Reason: "a part of the edge's log was damaged, and nobody knows how far it went"})
		}
		if s.credit == 0 || s.inFlight > 0 && s.inFlight+len(e.payload) > s.credit && len(next) == 1 {
			return message{}, s.patience(now), false
		}
		if h.Untimed {
			if now.Before(s.pollAt) {
				return message{}, s.pollAt.Sub(now), false
			}
			if !s.retime(e, h.Boot) {
				s.pollAt = now.Add(untimedPoll)
				return message{}, untimedPoll, false
			}
			continue
		}
		if !s.known[h.Schema] {
			s.known[h.Schema] = true
			if m, ok := s.schema(h.Schema); ok {
				return m, 0, true
			}
			continue // the hub may have it
		}
		payload, n := s.joined(next, &h)
		if s.inFlight > 0 && s.inFlight+len(payload) > s.credit {
			return message{}, s.patience(now), false
		}
		s.sent(now, next[n-1].pos, len(payload))
		s.counts.frames += uint64(n)
		s.counts.frameBytes += uint64(len(payload))
		if n > 1 {
			s.counts.joined += uint64(n)
		}
		s.upcoming.took(n)
		return message{wire.TopicFrame, payload}, 0, true
	}
}

// joined returns the message for the first of the records, and for how many of
// them.
func (s *session) joined(next []entry, h *wire.Header) ([]byte, int) {
	limit := s.credit / 2 // one is under way while the next is made
	if s.cfg.MaxRate > 0 {
		// A message must not keep the link for long: others wait behind it.
		limit = min(limit, max(4<<10, int(s.cfg.MaxRate)))
	}
	return s.join.message(next, h, s.cfg.JoinReadings, limit)
}

// period returns for how long the record at a place waits to be sent together with
// others. It does not when a whole message is waiting.
func (s *session) period(now time.Time, p wire.Pos) time.Duration {
	if s.cfg.SendEvery <= 0 || behind(p, s.due) {
		return 0
	}
	if wait := s.periodAt.Sub(now); wait > 0 && s.upcoming.bytes < readAhead/2 {
		return wait
	}
	s.periodAt = now.Add(s.cfg.SendEvery)
	s.flush()
	return 0
}

// flush lets all that is in the log be sent now.
func (s *session) flush() { s.due, _ = s.log.Last() }

// retime gives an untimed frame its true times; false while they are not known.
func (s *session) retime(e *entry, boot [16]byte) bool {
	if s.cfg.Retime == nil {
		return false
	}
	offset, estimated, ok := s.cfg.Retime(boot)
	return ok && wire.Retime(e.payload, offset, estimated) == nil
}

// skip declares a frame that cannot be sent as a gap, so that it never stands in
// the way again.
func (s *session) skip(now time.Time, pos wire.Pos, reason string) (message, time.Duration, bool) {
	m, wait, ok := s.gap(now, wire.Gap{After: s.cursor, Next: wire.Pos{Epoch: pos.Epoch, Seq: pos.Seq + 1}, Reason: reason})
	if ok {
		s.counts.skipped++
		s.upcoming.took(1)
	}
	return m, wait, ok
}

func (s *session) gap(now time.Time, g wire.Gap) (message, time.Duration, bool) {
	payload, err := wire.EncodeGap(s.out[:0], &g)
	if err != nil {
		return message{}, untimedPoll, false // a record without a place: the log is broken
	}
	s.out = payload
	s.counts.gaps++
	s.sent(now, g.Taken(), len(payload))
	return message{wire.TopicFrame, payload}, 0, true
}

// schema returns the message with a schema, if the log has it.
func (s *session) schema(h wire.Hash) (message, bool) {
	s.need = wire.Hash{}
	payload, ok := s.log.Attachment(h)
	if !ok {
		return message{}, false
	}
	s.known[h] = true
	s.counts.schemas++
	s.pay(len(payload))
	return message{wire.TopicFrame, payload}, true
}

// sent notes what is on its way.
func (s *session) sent(now time.Time, taken wire.Pos, size int) {
	if len(s.flights) == 0 {
		s.progress = now
	}
	if s.counts.highest.SameLine(taken) && taken.Compare(s.counts.highest) <= 0 {
		s.counts.resent++
	} else {
		s.counts.highest = taken
	}
	s.flights = append(s.flights, flight{taken, size})
	s.inFlight += size
	s.pay(size)
	s.cursor = taken
}

// pay takes a message from what may be sent.
func (s *session) pay(size int) { s.tokens -= float64(size + overhead) }

// throttle keeps the rate: a message may be sent while no debt is left.
func (s *session) throttle(now time.Time) time.Duration {
	if s.cfg.MaxRate <= 0 {
		return 0
	}
	rate := float64(s.cfg.MaxRate)
	if elapsed := now.Sub(s.tokensAt).Seconds(); elapsed > 0 {
		s.tokens = min(s.tokens+elapsed*rate, rate/4)
		s.tokensAt = now
	}
	if s.tokens >= 0 {
		return 0
	}
	return max(time.Millisecond, time.Duration(-s.tokens/rate*float64(time.Second)))
}

// patience is how long to wait for an acknowledgement.
func (s *session) patience(now time.Time) time.Duration {
	if len(s.flights) == 0 {
		// No credit and nothing under way: ask again.
		if s.idleAt.IsZero() {
			s.idleAt = now.Add(s.jitter(s.cfg.AnswerTimeout))
		}
		if !now.Before(s.idleAt) {
			s.idleAt = time.Time{}
			s.greet(now)
			return time.Millisecond
		}
		return s.idleAt.Sub(now)
	}
	return max(time.Millisecond, s.answer-now.Sub(s.progress))
}

// idling is what to do when nothing of the log is to be sent. When what was sent stays
// unsafe for long the hub is asked: it may have lost its tail in a crash.
func (s *session) idling(now time.Time) (message, time.Duration, bool) {
	if len(s.flights) > 0 {
		return message{}, s.patience(now), false
	}
	if s.safe == s.cursor {
		s.idleAt, s.idle = time.Time{}, idleProbe
		return message{}, time.Hour, false
	}
	if s.idleAt.IsZero() {
		s.idleAt = now.Add(s.jitter(s.idle))
	}
	if wait := s.idleAt.Sub(now); wait > 0 {
		return message{}, wait, false
	}
	s.idleAt = time.Time{}
	s.idle = min(2*s.idle, maxIdleProbe)
	s.greet(now)
	return s.hello(now), 0, true
}

// rewind goes on after a place of the hub.
func (s *session) rewind(to wire.Pos) {
	s.cursor = to
	s.flights, s.inFlight = s.flights[:0], 0
	s.again = time.Time{}
	s.upcoming.drop()
}

// settle removes what the hub has got from the window.
func (s *session) settle(now time.Time, got wire.Pos) {
	n := 0
	for n < len(s.flights) && s.flights[n].pos.SameLine(got) && s.flights[n].pos.Compare(got) <= 0 {
		s.inFlight -= s.flights[n].size
		n++
	}
	if n > 0 {
		s.flights = slices.Delete(s.flights, 0, n)
	}
	if s.acked.SameLine(got) && got.Compare(s.acked) > 0 || n > 0 {
		s.acked = got
		s.progress = now
		s.answer = s.cfg.answerWithin()
		s.pause, s.again = rewindPause, time.Time{}
		s.accepted()
		s.idleAt, s.idle = time.Time{}, idleProbe
	}
}

// backlogged reports whether the hub is far behind the newest frame, so that its
// view of the last values counts as stale.
func (s *session) backlogged() bool {
	last, ok := s.log.Last()
	if s.state != streaming || !ok {
		return false
	}
	return last.Epoch != s.acked.Epoch || last.Seq > s.acked.Seq+uint64(s.cfg.BehindFrames)
}
