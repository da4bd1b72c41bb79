package edge

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/langbiang/langbiang/pkg/framelog"
)

// memoryMeta are the small values of a log; a failing disk refuses them.
type memoryMeta struct {
	values map[string][]byte
	err    error
}

func (m *memoryMeta) Meta(key string) ([]byte, bool) {
	v, ok := m.values[key]
	return v, ok
}

func (m *memoryMeta) SetMeta(key string, value []byte) error {
	if m.err != nil {
		return m.err
	}
	m.values[key] = value
	return nil
}

// machine is a gateway whose clock is true only once it has been told. True time
// goes on while it is off.
type machine struct {
	t     *testing.T
	meta  *memoryMeta
	now   int64 // true time
	boot  byte
	began int64 // true time at which this boot began
	told  bool
	end   framelog.End
	boots *bootTimes
}

func (m *machine) BootID() [16]byte { return [16]byte{m.boot} }

func (m *machine) OffsetOfBoot() (int64, bool) { return m.began, m.told }

// start starts the agent.
func (m *machine) start() {
	m.t.Helper()
	var err error
	if m.boots, err = newBootTimes(m.meta, m, m.end); err != nil {
		m.t.Fatal(err)
	}
}

// switchOn boots the machine, off milliseconds after power went.
func (m *machine) switchOn(off int64) {
	m.t.Helper()
	m.now += off
	m.boot++
	m.began, m.told = m.now, false
	m.start()
}

// record writes a frame d milliseconds later, untimed while the clock is not known.
func (m *machine) record(d int64) {
	m.now += d
	if m.told {
		m.end = framelog.End{Watermark: m.now}
		return
	}
	m.end = framelog.End{Boot: m.BootID(), Untimed: m.now - m.began}
}

// learn lets the clock be known.
func (m *machine) learn() {
	m.t.Helper()
	m.told = true
	if err := m.boots.settle(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) want(boot byte, offset int64, estimated bool) {
	m.t.Helper()
	got, guess, err := m.boots.offset([16]byte{boot})
	if err != nil || got != offset || guess != estimated {
		m.t.Fatalf("boot %d began at %d (estimated %v), %v; want %d (%v)", boot, got, guess, err, offset, estimated)
	}
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, meta: &memoryMeta{values: map[string][]byte{}}, now: 1_000_000}
}

func TestReadingsFromBeforeTheClockWasKnownGetTheirTrueTime(t *testing.T) {
	m := newMachine(t)
	m.switchOn(0)
	m.record(5000)
	if _, _, err := m.boots.offset([16]byte{1}); !errors.Is(err, errTimeUnknown) {
		t.Fatalf("nobody knows yet, got %v", err)
	}
	m.start() // the agent restarts within the boot
	m.record(1000)
	m.learn()
	m.want(1, 1_000_000, false)
}

func TestABootThatLostPowerEndsWhereTheNextBegins(t *testing.T) {
	m := newMachine(t)
	m.switchOn(0)
	m.record(60_000) // true times 1,000,000 to 1,060,000; nobody will know
	m.switchOn(3000)
	m.record(10_000)
	m.learn()
	m.want(2, 1_063_000, false)
	m.want(1, 1_003_000, true) // its last frame at 1,063,000: 3 s late, the time without power
}

func TestSeveralBootsThatLostPowerKeepTheirOrder(t *testing.T) {
	m := newMachine(t)
	m.switchOn(0)
	m.record(60_000)
	m.switchOn(0)
	m.record(20_000)
	m.switchOn(0)
	m.record(5000)
	m.learn()
	m.want(3, 1_080_000, false)
	m.want(2, 1_060_000, true)
	m.want(1, 1_000_000, true)
}

func TestAnEstimateIsDecidedOnceEvenIfTheHubIsAwayAndPowerGoesAgain(t *testing.T) {
	m := newMachine(t)
	m.switchOn(0)
	m.record(60_000)
	m.switchOn(1000)
	m.learn() // by the time server; the hub is not there, nothing was asked for
	m.record(5000)
	m.switchOn(3_600_000)
	m.record(1000)
	m.learn()
	m.want(1, 1_001_000, true) // by the boot after it, not by this one an hour later
	m.start()
	m.want(1, 1_001_000, true)
}

func TestABootWhoseTimeWasKnownKeepsItThoughPowerWentBeforeTheHubWasThere(t *testing.T) {
	m := newMachine(t)
	m.switchOn(0)
	m.record(60_000)
	m.learn()
	m.record(5000)
	m.switchOn(3_600_000)
	m.learn()
	m.want(1, 1_000_000, false)
}

func TestAnOffsetIsNotUsedBeforeItIsOnDisk(t *testing.T) {
	m := newMachine(t)
	m.switchOn(0)
	m.record(60_000)
	m.switchOn(1000)
	m.told = true
	m.meta.err = errors.New("no space left on device")
	for _, boot := range []byte{1, 2} {
		if _, _, err := m.boots.offset([16]byte{boot}); err == nil {
			t.Fatalf("boot %d has an offset that a restart would not know", boot)
		}
	}
	if m.boots.settle() == nil {
		t.Fatal("the refusal is not told")
	}
	m.meta.err = nil
	m.want(1, 1_001_000, true)
}

// Whatever the order of boots, cuts, restarts and of the moments at which the
// clock becomes known: no two boots overlap, true times are true, and an offset
// that was given out once stays.
func TestBootsInAnyOrderNeverOverlapAndNeverChange(t *testing.T) {
	for seed := range uint64(2000) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			m := newMachine(t)
			type life struct{ began, ended int64 } // ended: in the boot's own time
			truth := map[byte]life{}
			given := map[byte]int64{}
			check := func() {
				for boot, l := range truth {
					if l.ended == 0 {
						continue // it wrote nothing untimed
					}
					got, guess, err := m.boots.offset([16]byte{boot})
					if err != nil {
						continue
					}
					if old, ok := given[boot]; ok && old != got {
						t.Fatalf("boot %d moved from %d to %d", boot, old, got)
					}
					given[boot] = got
					if !guess && got != l.began || guess && got < l.began {
						t.Fatalf("boot %d began at %d, not at %d (estimated %v)", boot, l.began, got, guess)
					}
				}
				for a, at := range maps.All(given) {
					if next, ok := given[a+1]; ok && at+truth[a].ended > next {
						t.Fatalf("boot %d ends at %d, in boot %d which begins at %d", a, at+truth[a].ended, a+1, next)
					}
				}
			}
			m.switchOn(0)
			truth[1] = life{began: m.now}
			for range 40 {
				switch rnd.IntN(6) {
				case 0:
					m.switchOn(rnd.Int64N(100_000))
					truth[m.boot] = life{began: m.now}
				case 1:
					m.start()
				case 2:
					m.learn()
				case 3:
					check()
				default:
					m.record(1 + rnd.Int64N(10_000))
					if !m.told {
						truth[m.boot] = life{m.began, m.now - m.began}
					}
				}
			}
			m.learn()
			check()
		})
	}
}
