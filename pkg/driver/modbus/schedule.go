package modbus

import (
	"math/rand/v2"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
)

const (
	// share is the part of its time that a bus spends on benched devices while
	// others wait: 1/20.
	share = 20
	// benchedAfter failed polls in a row a device is probed instead of polled.
	benchedAfter = 3
	probeWaitMin = 2 * time.Second
	probeWaitMax = time.Minute
	// firstWithin is the time in which every device is asked for the first time,
	// however long its interval.
	firstWithin = 2 * time.Second
	// together is the grain of the phases where requests do not share a line: ten
	// polls that are due within it are made one after another, at one waking of the
	// processor. A waking costs a small gateway more than a poll does.
	together = 100 * time.Millisecond
)

// budget is time that may be lost to what does not answer while others wait. It
// fills by 1/share of the time that passes, up to the price of three questions.
type budget struct {
	left, most time.Duration
	share      time.Duration
	at         time.Time
}

func newBudget(price time.Duration, share int, now time.Time) budget {
	return budget{left: 3 * price, most: 3 * price, share: time.Duration(share), at: now}
}

// covers reports whether the price can be paid.
func (b *budget) covers(price time.Duration, now time.Time) bool {
	b.left = min(b.most, b.left+now.Sub(b.at)/b.share)
	b.at = now
	return b.left >= price
}

func (b *budget) spend(d time.Duration) { b.left -= d }

// action is what the schedule asks of the bus.
type action uint8

const (
	actNothing action = iota
	actAsk            // put the unit's next question
	actLapse          // the unit's slot has come and it is not to be asked
	actAbandon        // the line is closed in the middle of the unit's poll
)

// unit is a device on the bus: its grid of slots, the poll in progress and its
// record.
type unit struct {
	*blocks
	device *driver.Device // as the sink knows it; blocks.dev is the view's
	view   *view
	reader reader
	ask    inquiry
	told   driver.Identity // what it said last
	doubts []bool          // by point; nil when nothing is doubted
	price  time.Duration   // of one question that is not answered
	bad    []int           // points that can never be read

	grid time.Time // slot 0; slot n is n intervals later
	due  time.Time // of the next slot

	polling     bool
	queue       []*block // what is still to be asked in this poll
	store       []*block // memory of queue
	deadline    time.Time
	readyAt     time.Time
	attempts    int  // of the first block of the queue
	good        int  // blocks answered with data
	reconnected bool // the connection was made anew for this poll already
	worst       failure

	fails     int // polls in a row
	down      bool
	last      failure // of the last poll, zero when it succeeded
	warmUntil time.Time
	budget    budget
	probeAt   time.Time
	probeWait time.Duration
	hindered  bool // this poll held others up
}

func (u *unit) benched() bool { return u.fails >= benchedAfter }

// schedule decides whose turn it is. It is pure: time is an argument, and it
// belongs to one goroutine.
type schedule struct {
	units  []*unit
	probes budget // of all benched units together
	missed func(n int)
	late   func(time.Duration)
}

// newSchedule spreads the units over their intervals, in steps of grain (0: as they
// fall). All schedules of a process wake at the same multiples of a grain.
func newSchedule(units []*unit, grain time.Duration, now time.Time) *schedule {
	if grain > 0 {
		now = now.Add(-time.Duration(now.UnixNano() % int64(grain)))
	}
	s := &schedule{units: units, missed: func(int) {}, late: func(time.Duration) {}}
	var price time.Duration
	// A unit that answers now and then may lose what would be its part of the
	// time if all were like it; on a noisy line they are.
	own := max(1, min(len(units), share))
	for i, u := range units {
		part := func(d time.Duration) time.Duration {
			p := time.Duration(float64(d) * float64(i) / float64(len(units)))
			if step := min(grain, u.dev.Interval); step > 0 {
				p -= p % step
			}
			return p
		}
		u.grid = now.Add(part(u.dev.Interval))
		u.due = now.Add(part(min(u.dev.Interval, firstWithin)))
		u.budget = newBudget(u.price, own, now)
		price = max(price, u.price)
	}
	s.probes = newBudget(price, share, now)
	return s
}

// next returns whose turn it is and what to do, or the time until which there
// is nothing to do. open says whether the line is open.
func (s *schedule) next(now time.Time, open bool) (*unit, action, time.Time) {
	var best *unit
	wake := now.Add(time.Hour)
	for _, u := range s.units {
		if !u.polling {
			if u.due.After(now) {
				wake = earlier(wake, u.due)
				continue
			}
			if !open || !s.mayAsk(u, now) {
				return u, actLapse, now
			}
			s.begin(u, now)
		}
		switch {
		case !open:
			return u, actAbandon, now
		case u.readyAt.After(now):
			wake = earlier(wake, u.readyAt)
		case best == nil || u.deadline.Before(best.deadline):
			best = u
		}
	}
	if best != nil {
		return best, actAsk, now
	}
	return nil, actNothing, wake
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// mayAsk reports whether the unit's slot may be used, as far as its record goes.
func (s *schedule) mayAsk(u *unit, now time.Time) bool {
	if !u.benched() {
		return u.budget.covers(u.price, now) || s.slack(u, now) >= u.price
	}
	if now.Before(u.probeAt) {
		return false
	}
	if s.slack(u, now) >= u.price {
		return true
	}
	return u.budget.covers(u.price, now) && s.probes.covers(u.price, now)
}

// slack returns for how long nobody else needs the bus. Benched units need it
// for nothing.
func (s *schedule) slack(u *unit, now time.Time) time.Duration {
	free := time.Hour
	for _, v := range s.units {
		switch {
		case v == u || v.benched():
		case v.polling:
			free = min(free, max(0, v.readyAt.Sub(now)))
		default:
			free = min(free, max(0, v.due.Sub(now)))
		}
	}
	return free
}

// begin opens a poll of the unit: what is due at its slot stands in the queue
// then.
func (s *schedule) begin(u *unit, now time.Time) {
	s.late(now.Sub(u.due))
	slot := s.advance(u, now, !u.down)
	u.view.begin()
	if u.ask.open {
		u.ask.begin(u, slot)
	} else {
		u.fill(slot)
	}
	u.polling, u.attempts, u.good, u.reconnected, u.hindered = true, 0, 0, false, false
	u.worst = failure{}
	u.deadline = u.due
}

// lapse passes over the unit's slot. It returns the blocks that were due.
func (s *schedule) lapse(u *unit, now time.Time) []*block {
	slot := s.advance(u, now, false)
	u.view.begin()
	u.fill(slot)
	return u.queue
}

func (u *unit) fill(slot int64) {
	u.store = u.blocks.due(slot, u.store[:0])
	u.queue = u.store
}

// advance moves the unit on to the first slot after now and returns the number
// of the one before it. Slots that lie between are given up.
func (s *schedule) advance(u *unit, now time.Time, count bool) int64 {
	iv := u.dev.Interval
	if n := int(now.Sub(u.due) / iv); n > 0 && count {
		s.missed(n)
	}
	since := now.Sub(u.grid)
	slot := int64(since / iv)
	if since < 0 {
		slot = -1 // the first poll may come before the grid begins
	}
	u.due = u.grid.Add(time.Duration(slot+1) * iv)
	return slot
}

// mayRetry reports whether a failed question may be put again within this poll.
// The neighbours that wait are served first.
func (s *schedule) mayRetry(u *unit, now time.Time) bool {
	return !u.benched() && (u.budget.covers(u.price, now) || s.slack(u, now) >= u.price)
}

// retry puts the unit's question back into the queue, behind those who are due.
func (s *schedule) retry(u *unit, now time.Time, wait time.Duration) {
	u.attempts++
	u.readyAt = now.Add(wait)
	u.deadline = now.Add(u.dev.Interval)
}

// charge makes the unit pay for the time by which a failed question, begun at
// start, held others up.
func (s *schedule) charge(u *unit, start, now time.Time) {
	lost := now.Sub(start) - s.slack(u, start)
	if lost <= 0 {
		return
	}
	u.budget.spend(lost)
	if u.benched() {
		s.probes.spend(lost)
	}
	if lost > u.price/10 {
		u.hindered = true
	}
}

// finish closes the poll and notes its outcome: the zero failure is success.
func (s *schedule) finish(u *unit, f failure, now time.Time) {
	u.polling, u.queue, u.last = false, nil, f
	if !f.failed() {
		if u.benched() {
			s.revive(u, now)
		}
		u.fails, u.probeWait = 0, 0
		return
	}
	if f.lost {
		return // that is the line's fault
	}
	u.fails++
	if u.benched() && u.hindered {
		u.probeWait = min(max(2*u.probeWait, probeWaitMin), probeWaitMax)
		u.probeAt = now.Add(u.probeWait - time.Duration(rand.Int64N(int64(u.probeWait/10))))
	} else {
		u.probeAt = now
	}
}

// revive lets the other benched units be probed soon: what brought this one
// back, a cable or the power, may have brought them back too.
func (s *schedule) revive(u *unit, now time.Time) {
	s.probes.covers(0, now)
	s.probes.left = s.probes.most
	for _, v := range s.units {
		if v.benched() {
			v.probeAt, v.probeWait = now, 0
			v.budget.covers(0, now)
			v.budget.left = max(v.budget.left, v.price)
		}
	}
	u.budget.left = max(u.budget.left, u.price)
}
