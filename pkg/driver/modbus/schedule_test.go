package modbus

import (
	"testing"
	"time"
)

func TestPollsOfATCPConnectionWakeTogetherAndStaySpread(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC)
	var units []*unit
	for i, d := range fleet(100, time.Second) {
		if i%10 == 0 {
			d.Interval = 5 * time.Second
		}
		units = append(units, &unit{device: d, view: viewOf(d, d.Points, d.Convert), blocks: newBlocks(d)})
	}
	newSchedule(units, together, now)
	first, slots := map[time.Time]int{}, map[time.Duration]int{}
	for _, u := range units {
		if u.due.Before(now.Add(-together)) || u.due.After(now.Add(firstWithin)) {
			t.Errorf("unit %d is polled first at %v", u.dev.Unit, u.due)
		}
		if u.grid.UnixNano()%int64(together) != 0 {
			t.Errorf("unit %d has its slots at %v", u.dev.Unit, u.grid)
		}
		first[u.due]++
		slots[u.grid.Sub(now.Truncate(together))%time.Second]++
	}
	if len(slots) != 10 {
		t.Errorf("the slots of a second are at %d times, not at 10: %v", len(slots), slots)
	}
	for at, n := range slots {
		if n > 20 {
			t.Errorf("%d polls at %v", n, at)
		}
	}
	if len(first) > 20 {
		t.Errorf("the first polls wake %d times in 2 s", len(first))
	}
}
