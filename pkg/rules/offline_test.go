package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
)

var plan = OfflinePlan{
	Warning: 5 * time.Minute, Critical: time.Hour,
	Sleepers: []Sleepers{{Edges: []string{"solar-*"}, Awake: []string{"06:00-18:00"}}},
}

// hubClock is a hub that looks every second.
type hubClock struct {
	*recorder
	o    *Offline
	now  time.Time
	seen map[string]time.Time
}

func newHubClock(t *testing.T, now time.Time, active []alert.Alert) *hubClock {
	t.Helper()
	h := &hubClock{recorder: &recorder{}, now: now, seen: map[string]time.Time{}}
	o, err := NewOffline(plan, testEnv(), active, now, h.emit)
	if err != nil {
		t.Fatal(err)
	}
	h.o = o
	return h
}

// run lets time pass, while the edges of the list are heard.
func (h *hubClock) run(d time.Duration, heard ...string) {
	for end := h.now.Add(d); h.now.Before(end); {
		h.now = h.now.Add(10 * time.Second)
		for _, e := range heard {
			h.seen[e] = h.now
		}
		var list []Seen
		for _, e := range []string{"gate-1", "solar-1"} {
			list = append(list, Seen{Edge: e, Site: "24848", Last: h.seen[e]})
		}
		h.o.Look(h.now, list)
	}
}

func TestAnEdgeThatIsNotHeardIsOfflineByTheHubsClock(t *testing.T) {
	noon := time.Date(2026, 1, 5, 5, 0, 0, 0, time.UTC)
	h := newHubClock(t, noon, nil)
	h.run(10*time.Minute, "gate-1", "solar-1")
	h.expect(t)
	h.run(70*time.Minute, "solar-1")
	if len(h.all) != 2 || h.all[0].Alert.Edge != "gate-1" || h.all[0].Alert.Site != "24848" || h.all[0].Alert.Labels["judged_by"] != "hub clock" ||
		!strings.Contains(h.all[0].Alert.Message.EN, "Gateway gate-1 at Lac Duong has been offline for 5 min") ||
		!h.all[0].Time.Equal(noon.Add(15*time.Minute)) || h.all[1].Alert.Severity != alert.Critical {
		t.Errorf("got %+v", h.all)
	}
	h.all = nil
	h.run(time.Minute, "gate-1", "solar-1")
	if len(h.all) != 1 || h.all[0].Kind != alert.Ended {
		t.Errorf("got %+v", h.all)
	}
}

func TestAnEdgeThatSleepsByAPlanIsMissedWhenItShouldBeAwakeOnly(t *testing.T) {
	evening := time.Date(2026, 1, 5, 10, 50, 0, 0, time.UTC) // 17:50 there
	h := newHubClock(t, evening, nil)
	h.run(9*time.Minute, "gate-1", "solar-1")
	h.run(12*time.Hour, "gate-1") // to 05:59
	h.expect(t)
	h.run(10*time.Minute, "gate-1")
	if len(h.all) != 1 || h.all[0].Alert.Edge != "solar-1" || h.all[0].Time.UTC().Format(time.TimeOnly) != "23:05:00" {
		t.Errorf("got %+v", h.all)
	}
}

func TestARestartOfTheHubKeepsTheAlertAndRaisesNoOther(t *testing.T) {
	noon := time.Date(2026, 1, 5, 5, 0, 0, 0, time.UTC)
	h := newHubClock(t, noon, nil)
	h.run(time.Minute, "gate-1", "solar-1")
	h.run(10*time.Minute, "solar-1")
	if len(h.all) != 1 {
		t.Fatalf("got %+v", h.all)
	}
	old := h.all[0]
	again := newHubClock(t, h.now.Add(time.Hour), []alert.Alert{old.Alert})
	if len(again.all) == 0 || again.all[0].Key() != old.Key() {
		t.Fatalf("got %+v, want %s again", again.all, old.Key())
	}
	again.all = nil
	again.run(4 * time.Minute) // nobody has been heard since the start
	again.expect(t)
	again.run(20*time.Second, "gate-1", "solar-1")
	if len(again.all) != 1 || again.all[0].Kind != alert.Ended || again.all[0].Alert.ID != old.Alert.ID {
		t.Errorf("got %+v", again.all)
	}
}
