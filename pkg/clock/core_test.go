package clock

import (
	"math/rand/v2"
	"testing"
)

// bench is a machine in a world whose true time is known.
type bench struct {
	t       *testing.T
	truth   int64 // ms since the Unix epoch
	boot    int64 // true time of this boot
	wallOff int64 // system clock minus true time
	synced  bool
	drift   int64 // the oscillator's error in parts per million
	c       *core
	last    Time
}

const start = 1_790_000_000_000

func newBench(t *testing.T) *bench {
	b := &bench{t: t, truth: start}
	b.powerOn(-start + 86_400_000) // 2 January 1970
	return b
}

// powerOn boots with the system's clock off by wallOff.
func (b *bench) powerOn(wallOff int64) {
	b.boot, b.wallOff, b.synced = b.truth, wallOff, false
	b.restart(0)
}

// restart starts the agent anew in the same boot.
func (b *bench) restart(floor int64) {
	b.c = &core{step: defaultStep * 1000, floor: floor}
	b.last = Time{}
	b.observe()
}

func (b *bench) mono() int64 {
	up := b.truth - b.boot
	return up + up*b.drift/1_000_000 + 5000 // the kernel took 5 s before us
}

func (b *bench) observe() { b.c.observe(b.mono(), b.truth+b.wallOff, b.synced) }

// run passes time, with an observation each second and a look every 100 ms.
func (b *bench) run(ms int64) {
	b.t.Helper()
	for range ms / 100 {
		b.truth += 100
		if b.truth%1000 == 0 {
			b.observe()
		}
		b.look()
	}
}

func (b *bench) look() Time {
	b.t.Helper()
	now := b.c.now(b.mono())
	if now.Era == b.last.Era && now.Ms < b.last.Ms {
		b.t.Fatalf("time went back within era %d: %d after %d", now.Era, now.Ms, b.last.Ms)
	}
	if now.Era < b.last.Era || b.last.Trusted && !now.Trusted {
		b.t.Fatalf("%+v after %+v", now, b.last)
	}
	b.last = now
	return now
}

func (b *bench) wantTrue(within int64) {
	b.t.Helper()
	now := b.look()
	if d := now.Ms - b.truth; !now.Trusted || d > within || d < -within {
		b.t.Fatalf("%+v is %d ms off", now, now.Ms-b.truth)
	}
}

func TestSynchronisedFromTheStart(t *testing.T) {
	b := newBench(t)
	b.wallOff, b.synced = 0, true
	b.restart(0)
	b.run(10_000)
	b.wantTrue(2)
	if b.last.Era != 0 {
		t.Fatalf("era %d", b.last.Era)
	}
}

func TestBootWithoutABatteryClock(t *testing.T) {
	b := newBench(t)
	b.run(60_000)
	untimed, when := b.look(), b.truth
	if untimed.Trusted || untimed.Ms != 65_000 {
		t.Fatalf("%+v a minute after the start", untimed)
	}
	b.run(3_600_000)
	b.wallOff, b.synced = 0, true // the network is there: NTP steps the clock
	b.run(5_000)
	b.wantTrue(2)
	if b.last.Era != 1 || b.c.from < 3_660_000 || b.c.to < start {
		t.Fatalf("era %d from %d to %d", b.last.Era, b.c.from, b.c.to)
	}
	if d := untimed.Ms + floorMs(b.c.boot) - when; d < -2 || d > 2 {
		t.Fatalf("the reading from before is %d ms off", d)
	}
}

func TestTheHubsTimeIsEnough(t *testing.T) {
	b := newBench(t)
	b.run(10_000)
	b.c.observeHub(b.mono(), b.truth+300, 800) // 300 ms off, as the link's asymmetry has it
	if now := b.look(); !now.Trusted || now.Era != 1 {
		t.Fatalf("%+v", now)
	}
	b.wantTrue(301)
	b.run(10_000)
	b.c.observeHub(b.mono(), b.truth+5, 20) // a better one
	b.run(60_000)
	b.wantTrue(6)
	// A worse one changes nothing, an absurd one neither.
	b.c.observeHub(b.mono(), b.truth-1500, 4000)
	b.c.observeHub(b.mono(), 12345, 20)
	b.c.observeHub(b.mono(), b.truth+7000, 60_000)
	b.run(60_000)
	b.wantTrue(6)
	if b.last.Era != 1 {
		t.Fatalf("era %d", b.last.Era)
	}
}

func TestOneWildWordOfTheHubIsNotAStep(t *testing.T) {
	b := newBench(t)
	b.c.observeHub(b.mono(), b.truth, 20)
	b.run(5000)
	b.c.observeHub(b.mono(), b.truth+3_600_000, 20)
	b.run(5000)
	b.wantTrue(20)
	b.c.observeHub(b.mono(), b.truth, 20)
	b.run(5000)
	b.wantTrue(20)
	// Two that agree are.
	b.truth += 3_600_000 // the machine was asleep and its counter with it
	b.boot += 3_600_000
	b.c.observeHub(b.mono(), b.truth, 20)
	b.c.observeHub(b.mono(), b.truth, 30)
	b.wantTrue(20)
	if b.last.Era == 0 {
		t.Fatal("no new era")
	}
}

func TestSmallCorrectionsAreSlewed(t *testing.T) {
	for _, by := range []int64{-1500, -200, 200, 1500} {
		b := newBench(t)
		b.wallOff, b.synced = 0, true
		b.run(5000)
		era := b.last.Era
		b.wallOff = by // the system's clock was stepped a little
		before := b.look()
		b.truth += 1000
		b.observe()
		after := b.look()
		if d := after.Ms - before.Ms; d < 985 || d > 1015 {
			t.Fatalf("step by %d: a second took %d ms", by, d)
		}
		b.run(160_000)
		if d := b.look().Ms - (b.truth + by); d < -2 || d > 2 {
			t.Fatalf("step by %d: still %d ms off", by, d)
		}
		if b.last.Era != era {
			t.Fatalf("step by %d opened an era", by)
		}
	}
}

func TestALargeStepOpensAnEra(t *testing.T) {
	for _, by := range []int64{-315_360_000_000, -3_600_000, -2100, 2100, 3_600_000, 315_360_000_000} {
		b := newBench(t)
		b.wallOff, b.synced = -by, true // trusted, and wrong
		if start-by < earliest {
			continue
		}
		b.restart(0)
		b.run(5000)
		from := b.look()
		b.wallOff = 0
		b.run(2000)
		b.wantTrue(2)
		if b.last.Era != from.Era+1 || b.c.from < from.Ms || b.c.to-b.c.from-by > 2000 || b.c.to-b.c.from-by < -2000 {
			t.Fatalf("step by %d: era %d, from %d to %d", by, b.last.Era, b.c.from, b.c.to)
		}
	}
}

func TestTrustOutlivesItsSource(t *testing.T) {
	b := newBench(t)
	b.drift = 50
	b.wallOff, b.synced = 0, true
	b.run(10_000)
	era := b.last.Era
	b.synced = false
	b.wallOff = -1_000_000_000 // whoever set it: it is not believed any more
	b.run(3_600_000)
	b.wantTrue(250)
	b.wallOff, b.synced = 0, true
	b.run(60_000)
	b.wantTrue(2)
	if b.last.Era != era {
		t.Fatalf("an hour of drift opened era %d", b.last.Era)
	}
}

func TestAClockBefore2020IsNeverBelieved(t *testing.T) {
	b := newBench(t)
	b.synced = true // so says the kernel
	b.run(10_000)
	if b.look().Trusted {
		t.Fatal("1970 was believed")
	}
}

func TestARestartGoesOnFromItsFloor(t *testing.T) {
	b := newBench(t)
	b.wallOff, b.synced = 0, true
	b.restart(0)
	b.run(5000)
	floor := b.last.Ms
	b.wallOff = -1000 // set back a little while the agent was down
	b.restart(floor)
	if now := b.look(); now.Ms < floor || now.Era != 0 {
		t.Fatalf("%+v below the floor %d", now, floor)
	}
	b.run(120_000)
	if d := b.look().Ms - (b.truth - 1000); d > 2 {
		t.Fatalf("%d ms off", d)
	}
	b.wallOff = -60_000 // set back far
	b.restart(b.last.Ms)
	if d := b.look().Ms - (b.truth - 60_000); d > 2 {
		t.Fatalf("a far floor held it %d ms ahead", d)
	}
}

// TestAnyOrder lets whatever can happen happen in any order, and checks what
// must hold always: order within an era (look), the truth soon after a
// synchronisation, and the truth of untimed readings once their boot's
// offset is known.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 9))
		b := newBench(t)
		b.drift = r.Int64N(200) - 100
		type reading struct{ ms, truth int64 }
		var untimed []reading
		for range 60 {
			switch r.IntN(9) {
			case 0:
				b.synced, b.wallOff = true, r.Int64N(40)-20
				b.run(2000)
			case 1:
				b.synced = false
			case 2:
				if !b.synced {
					b.wallOff = r.Int64N(1<<42) - 1<<41
				}
			case 3:
				rtt := r.Int64N(3000)
				b.c.observeHub(b.mono(), b.truth+r.Int64N(rtt+1)-rtt/2, rtt)
			case 4:
				b.powerOn(r.Int64N(1<<42) - 1<<41)
				untimed = nil
			case 5:
				b.restart(b.last.Ms * int64(r.IntN(2)))
				untimed = nil
			default:
				b.run(r.Int64N(30_000))
			}
			now := b.look()
			if !now.Trusted {
				untimed = append(untimed, reading{now.Ms, b.truth})
				continue
			}
			// Hub words are good to half a round trip; drift adds little.
			if d := now.Ms - b.truth; d < -4200 || d > 4200 {
				t.Fatalf("seed %d: trusted and %d ms off", seed, d)
			}
			for _, u := range untimed {
				if d := u.ms + floorMs(b.c.boot) - u.truth; d < -4200 || d > 4200 {
					t.Fatalf("seed %d: an untimed reading is %d ms off", seed, d)
				}
			}
		}
		b.synced, b.wallOff = true, 0
		b.run(500_000)
		b.wantTrue(3)
	}
}
