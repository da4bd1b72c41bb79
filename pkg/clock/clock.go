package clock

import (
	"context"
	"sync"
	"time"
)

// Time is a moment of log time.
type Time struct {
	// Ms is milliseconds since the Unix epoch if Trusted. If not, it is
	// milliseconds since this boot: add OffsetOfBoot once that is known.
	Ms      int64
	Trusted bool
	// Era goes up with every step. Times of different eras have no order.
	Era uint32
}

// Options are the clock's settings.
type Options struct {
	// TrustAlways takes the system's clock for synchronised whatever the
	// kernel says: for machines whose time comes another way. It must still
	// show 2020 or later.
	TrustAlways bool
	// Step is the smallest correction that opens a new era; default 2 s.
	Step time.Duration
	// Floor is the last trusted log time of the run before, in ms, or 0. A
	// start that is less than Step behind it goes on from it.
	Floor int64
}

// Source is what the clock reads. Its methods are called one at a time.
type Source interface {
	// Monotonic is milliseconds since boot, with the time suspended. Nothing
	// sets it.
	Monotonic() int64
	// Wall is the system's clock, in milliseconds since the Unix epoch.
	Wall() int64
	// Synchronised says whether the kernel holds the system's clock for
	// synchronised.
	Synchronised() (bool, error)
	// BootID names this boot; it is read once.
	BootID() [16]byte
}

// Clock is log time. It is safe for concurrent use.
type Clock struct {
	src    Source
	always bool
	boot   [16]byte

	mu   sync.Mutex
	core core
}

// New makes a clock and looks at the source once: on a synchronised system
// it is trusted from the start, in era 0.
func New(s Source, o Options) *Clock {
	if o.Step <= 0 {
		o.Step = defaultStep * time.Millisecond
	}
	c := &Clock{src: s, always: o.TrustAlways, boot: s.BootID()}
	c.core = core{step: offset(o.Step.Microseconds()), floor: o.Floor}
	c.Observe()
	return c
}

// Now is the log time. Within an era it never goes backward; two calls may
// give the same millisecond.
func (c *Clock) Now() Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.now(c.src.Monotonic())
}

// BootID names this boot. Untrusted times mean something only within it.
func (c *Clock) BootID() [16]byte { return c.boot }

// Observe looks at the system's clock. Call it about once a second, or let
// Run do so. If the kernel cannot be asked, the clock counts as not
// synchronised.
func (c *Clock) Observe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	synced := c.always
	if !synced {
		ok, err := c.src.Synchronised()
		synced = ok && err == nil
	}
	// The time since boot on both sides of the system's clock: if the
	// process was held up in between, the pair says nothing.
	before := c.src.Monotonic()
	wall := c.src.Wall()
	after := c.src.Monotonic()
	if after-before > 50 {
		c.core.advance(after)
		return
	}
	c.core.observe(before+(after-before)/2, wall, synced)
}

// Run calls Observe every second until ctx ends; it returns nil.
func (c *Clock) Run(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			c.Observe()
		}
	}
}

// ObserveHub is told how far the hub's clock is ahead of this machine's
// system clock (Source.Wall), in ms, and the round trip in ms over which that
// was found out. ObserveHubTime is easier to call.
func (c *Clock) ObserveHub(offset, rtt int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.observeHub(c.src.Monotonic(), c.src.Wall()+offset, rtt)
}

// ObserveHubTime is told what the hub's clock showed when it sent an answer
// that has just arrived, in ms since the Unix epoch, and the ms between the
// question and the answer.
func (c *Clock) ObserveHubTime(hub, rtt int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.observeHub(c.src.Monotonic(), hub+rtt/2, rtt)
}

// OffsetOfBoot is what must be added to the untrusted times of this boot to
// make them true, in ms; ok is false while the clock is not trusted. It stays
// what it was when the clock became trusted, until a step. Keep it with the
// boot's id: a later run in the same boot may find it needs it.
func (c *Clock) OffsetOfBoot() (offset int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return floorMs(c.core.boot), c.core.trusted
}

// LastStep is the number of the present era and the log times before and
// after the step that opened it; of era 0 it is all zeros.
func (c *Clock) LastStep() (era uint32, from, to int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.era, c.core.from, c.core.to
}
