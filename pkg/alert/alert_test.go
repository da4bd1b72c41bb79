package alert

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestIDNamesTheEpisode(t *testing.T) {
	id := NewID("pm25-high", "v1", SeriesKey("e1", "air-01", "pm2_5"), 1000)
	if id != NewID("pm25-high", "v1", "e1/air-01/pm2_5", 1000) || len(id) != 24 || strings.ToLower(id) != id {
		t.Errorf("id %q", id)
	}
	for _, other := range []string{
		NewID("pm25-high2", "v1", "e1/air-01/pm2_5", 1000), NewID("pm25-high", "v2", "e1/air-01/pm2_5", 1000),
		NewID("pm25-high", "v1", "e2/air-01/pm2_5", 1000), NewID("pm25-high", "v1", "e1/air-01/pm2_5", 1001),
		NewID("pm25-highv1", "", "e1/air-01/pm2_5", 1000),
	} {
		if other == id {
			t.Error("another episode has the same id")
		}
	}
}

func TestKeyTellsTransitionsApart(t *testing.T) {
	base := Transition{Kind: Raised, Time: time.UnixMilli(5), Alert: Alert{ID: "a", Severity: Warning, Value: 1}}
	same := base
	same.Alert.Value, same.Alert.Message.EN = 2, "other words"
	if base.Key() != same.Key() {
		t.Error("value or message is part of the key")
	}
	for _, change := range []func(*Transition){
		func(t *Transition) { t.Kind = Ended },
		func(t *Transition) { t.Time = time.UnixMilli(6) },
		func(t *Transition) { t.Alert.ID = "b" },
		func(t *Transition) { t.Alert.Severity = Critical },
	} {
		other := base
		if change(&other); other.Key() == base.Key() {
			t.Errorf("the key %s stands for two", base.Key())
		}
	}
}

func TestSeverityInJSON(t *testing.T) {
	for s := Info; s <= Emergency; s++ {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Severity
		if err := json.Unmarshal(b, &back); err != nil || back != s {
			t.Errorf("%s: %v %v", b, back, err)
		}
	}
	var s Severity
	if err := json.Unmarshal([]byte(`"bad"`), &s); err == nil || !strings.Contains(err.Error(), "warning") {
		t.Errorf("error %v", err)
	}
	if Severity(9).String() == "" {
		t.Error("an unknown severity has no name")
	}
}

func TestAlertKeepsEveryFieldInJSON(t *testing.T) {
	b, err := json.Marshal(Alert{Labels: map[string]string{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(`id sequence rule rule_version severity state acknowledged shelved_until suppressed chattering
		provisional start end updated recorded site edge device point quantity labels onset value peak limit message test`) {
		if !strings.Contains(string(b), `"`+name+`":`) {
			t.Errorf("%s is missing", name)
		}
	}
}
