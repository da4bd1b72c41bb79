package promapi

import (
	"context"
	"strings"
	"testing"
	"time"

	promtsdb "github.com/prometheus/prometheus/tsdb"

	"github.com/prometheus/prometheus/model/labels"
)

func TestCheckNamesThePlace(t *testing.T) {
	for query, want := range map[string]struct {
		offset int
		says   string
	}{
		"air_temperature > 5":                    {0, ""},
		"2":                                      {0, ""},
		"sum by (site) (air_temperature":         {30, "unclosed left parenthesis"},
		"air_temperature{site='1'} +* 2":         {27, "unexpected <op:*>"},
		"rate(air_temperature[5m]":               {24, "unclosed left parenthesis"},
		"air_temperature[5m]":                    {0, "the result is a range vector; an instant vector or a scalar can be judged"},
		`"text"`:                                 {0, "the result is a string"},
		"nothing_of_the_kind(air_temperature)":   {0, "unknown function"},
		"sum(air_temperature) + avg(rain_total)": {0, ""},
	} {
		offset, err := Check(query)
		switch {
		case want.says == "" && err != nil:
			t.Errorf("%s: %v", query, err)
		case want.says != "" && (err == nil || offset != want.offset || !strings.Contains(err.Error(), want.says)):
			t.Errorf("%s: at %d: %v", query, offset, err)
		}
	}
}

func TestRulesAreEvaluatedWithoutLateReadings(t *testing.T) {
	db, err := promtsdb.Open(t.TempDir(), nil, nil, promtsdb.DefaultOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	app := db.Appender(context.Background())
	for late, v := range map[string]float64{"": 1, "1": 100} {
		if _, err := app.Append(0, labels.FromStrings("__name__", "pm2_5", "site", "24848", "late", late), t0*1000, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	e := NewEvaluator(db, nil)
	at := time.Unix(t0+60, 0)
	for query, want := range map[string]float64{
		"sum(pm2_5)":                    1,
		"sum(pm2_5{site='24848'})":      1,
		`sum(pm2_5{late=~".*"})`:        101,
		"max_over_time(pm2_5[5m]) + 0":  1,
		"sum(avg_over_time(pm2_5[5m]))": 1,
		"time()":                        float64(t0 + 60),
	} {
		got, err := e.Evaluate(t.Context(), query, at, 10)
		if err != nil || len(got) != 1 || got[0].Value != want {
			t.Errorf("%s: %v %v, want %v", query, got, err, want)
		}
	}
	got, err := e.Evaluate(t.Context(), "pm2_5", at, 10)
	if err != nil || len(got) != 1 || got[0].Labels.Get("site") != "24848" || got[0].Labels.Get("__name__") != "" || len(got[0].Labels) != 1 {
		t.Errorf("got %v %v", got, err)
	}
}

func TestAnEvaluationIsBounded(t *testing.T) {
	e := NewEvaluator(filled(t), nil)
	at := time.Unix(t0+600, 0)
	if got, err := e.Evaluate(t.Context(), "air_temperature", at, 2); err != nil || len(got) != 2 {
		t.Errorf("got %v %v", got, err)
	}
	if _, err := e.Evaluate(t.Context(), "air_temperature", at, 1); err == nil || !strings.Contains(err.Error(), "2 series, at most 1") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Evaluate(ctx, "air_temperature", at, 2); err == nil {
		t.Error("an evaluation went on after its end")
	}
}
