package clock

import (
	"os"
	"strings"
	"testing"
)

// note takes a reading each minute and remembers when it truly was.
type note struct{ ms, truth int64 }

func (b *bench) notes(minutes int) (ns []note) {
	b.t.Helper()
	for range minutes {
		b.run(60_000)
		ns = append(ns, note{b.look().Ms, b.truth})
	}
	return ns
}

// wantNoted fails unless the offset of this boot makes the notes true.
func (b *bench) wantNoted(ns []note) {
	b.t.Helper()
	for _, n := range ns {
		if d := n.ms + floorMs(b.c.boot) - n.truth; d < -2 || d > 2 {
			b.t.Fatalf("a reading from before is %d ms off", d)
		}
	}
}

// sync is NTP, or the hub, putting the system's clock right.
func (b *bench) sync() {
	b.t.Helper()
	b.wallOff, b.synced = 0, true
	b.run(5000)
	b.wantTrue(2)
}

// scenarios are the rows of the table of docs/time.md, as far as the clock goes.
// What becomes of the frames is in pkg/edge: boots_test.go and collector_test.go.
var scenarios = map[string]func(b *bench){
	"boot in 1970, network after an hour": func(b *bench) {
		ns := b.notes(60)
		b.sync()
		b.wantNoted(ns)
	},
	"boot, the agent restarts, then the network": func(b *bench) {
		ns := b.notes(10)
		b.restart(0)
		ns = append(ns, b.notes(10)...)
		b.sync()
		b.wantNoted(ns)
	},
	"boot, power cut, boot, then the network": func(b *bench) {
		b.notes(10)
		b.truth += 3_600_000
		b.powerOn(-start + 86_400_000)
		ns := b.notes(10)
		b.sync()
		b.wantNoted(ns)
	},
	"the clock is right from the start": func(b *bench) {
		b.wallOff, b.synced = 0, true
		b.restart(0)
		b.run(60_000)
		b.wantTrue(2)
		if b.last.Era != 0 {
			b.t.Fatalf("era %d", b.last.Era)
		}
	},
	"the clock was a year ahead, and trusted, then put right": func(b *bench) {
		const year = 365 * 86_400_000
		b.wallOff, b.synced = year, true
		b.restart(0)
		b.run(60_000)
		era, ahead := b.last.Era, b.look()
		if !ahead.Trusted || ahead.Ms < b.truth+year-1000 {
			b.t.Fatalf("%+v", ahead)
		}
		b.sync()
		if b.last.Era != era+1 {
			b.t.Fatalf("era %d after %d", b.last.Era, era)
		}
	},
	"the machine sleeps": func(b *bench) {
		b.wallOff, b.synced = 0, true
		b.restart(0)
		b.run(60_000)
		era := b.last.Era
		b.truth += 8 * 3_600_000 // the time since the boot goes on asleep
		b.observe()
		b.wantTrue(2)
		if b.last.Era != era {
			b.t.Fatalf("sleep opened era %d", b.last.Era)
		}
	},
	"a virtual machine is paused or restored": func(b *bench) {
		b.wallOff, b.synced = 0, true
		b.restart(0)
		b.run(60_000)
		era := b.last.Era
		b.truth, b.boot, b.wallOff = b.truth+600_000, b.boot+600_000, -600_000 // nothing in it has moved
		b.run(5000)
		b.sync()
		if b.last.Era != era+1 {
			b.t.Fatalf("era %d after %d", b.last.Era, era)
		}
	},
}

func TestTheTableOfTheDocumentationHolds(t *testing.T) {
	data, err := os.ReadFile("../../docs/time.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(data), "| what happens | what the readings get |\n")
	if !found {
		t.Fatal("the table is gone")
	}
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			break
		}
		name := strings.TrimSpace(cells[1])
		if strings.HasPrefix(name, "---") {
			continue
		}
		rows++
		scenario := scenarios[name]
		if scenario == nil {
			t.Errorf("no scenario for %q", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			scenario(b)
		})
	}
	if rows != len(scenarios) {
		t.Errorf("%d rows, %d scenarios", rows, len(scenarios))
	}
}
