package hub

import (
	"strings"
	"testing"
	"time"
)

func TestAlertsThatOutliveTheirReadingsAreSaid(t *testing.T) {
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	for _, c := range []struct {
		alert    time.Time
		readings int64
		said     bool
	}{
		{ago(300), ago(400).UnixMilli(), false},
		{ago(400), ago(399).UnixMilli(), false}, // the first day of both
		{ago(400), ago(30).UnixMilli(), true},
		{ago(400), 0, false}, // a store elsewhere does not say
		{now.Add(-time.Hour), now.UnixMilli(), false},
	} {
		note := retentionNote(c.alert, c.readings, now)
		if (note != "") != c.said || c.said && !strings.Contains(note, "reaches back to 2025-10-23, the readings to 2026-10-28") {
			t.Errorf("alerts since %v, readings since %d: %q", c.alert, c.readings, note)
		}
	}
	if lasting(400*day) != "400d" || lasting(36*time.Hour) != "36h0m0s" {
		t.Errorf("%s %s", lasting(400*day), lasting(36*time.Hour))
	}
}
