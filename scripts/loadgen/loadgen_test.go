package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	hubpkg "github.com/langbiang/langbiang/pkg/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testHub runs a hub in this process.
func testHub(t *testing.T, rules string) *hub {
	t.Helper()
	dir := t.TempDir()
	page, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	mqtt, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "hub.yaml")
	for name, text := range map[string]string{
		config:                           fmt.Sprintf("data_dir: ./hub\nhttp: {listen: %q, auth: off}\nmqtt: {listen: %q}\nclock: {require_sync: false}\ningest: {checkpoint_every: 100ms}\nrules: [./rules.yaml]\n", page, mqtt),
		filepath.Join(dir, "rules.yaml"): rules,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := hubpkg.Load(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hubpkg.Open(plan, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return &hub{mqtt: "mqtt://" + mqtt, page: "http://" + page, pid: os.Getpid()}
}

func TestLoadIsSafeAndCounted(t *testing.T) {
	for name, o := range map[string]options{
		"flat out":              {step: 25 * time.Millisecond},
		"flat out, on disk":     {step: 25 * time.Millisecond, buffer: true},
		"at a rate":             {every: 100 * time.Millisecond},
		"alerts":                {every: 100 * time.Millisecond, alarm: 300 * time.Millisecond},
		"alerts beside a drain": {every: 100 * time.Millisecond, alarm: 300 * time.Millisecond, drain: time.Hour, drainSeries: 20},
	} {
		t.Run(name, func(t *testing.T) {
			o.edges, o.series, o.rules, o.duration, o.warmup, o.dir = 3, 40, 50, 500*time.Millisecond, 100*time.Millisecond, t.TempDir()
			if o.step == 0 {
				o.step = time.Second
			}
			lib, err := loadLibrary()
			if err != nil {
				t.Fatal(err)
			}
			s := newStation(lib, o.series, o.alarm > 0)
			r := &rig{o: o, lib: lib, station: s, hub: testHub(t, ruleFile(s, o.rules))}
			if err := r.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			res := &r.result
			if res.Unsafe != 0 || res.Refused != 0 || res.Missing != 0 {
				t.Errorf("not all of it arrived: %+v", res)
			}
			if res.SafePerSecond <= 0 || res.GotPerSecond <= 0 || res.BytesPerSample <= 0 || res.Got.N == 0 || res.Safe.P99 < res.Got.P50 {
				t.Errorf("%+v", res)
			}
			if o.alarm > 0 && (res.Alerts == nil || res.Alerts.N == 0) {
				t.Errorf("no alert came: %+v", res)
			}
			if o.drain > 0 && (res.DrainAlerts == nil || res.DrainAlerts.N == 0 || res.Drained == 0) {
				t.Errorf("the drain was not measured: %+v", res)
			}
			m, err := r.hub.metrics()
			if err != nil {
				t.Fatal(err)
			}
			stored := int64(m["langbiang_hub_ingest_readings_total"])
			if made := r.counts.made.Load(); stored < made || o.drain == 0 && stored != made {
				t.Errorf("%d samples were made, and the hub took %d", made, stored)
			}
		})
	}
}

func TestOptionsThatContradictEachOther(t *testing.T) {
	good := options{hub: "mqtt://h:1883", edges: 1, series: 2, step: time.Second}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*options){
		"no hub":                     func(o *options) { o.hub = "" },
		"two hubs":                   func(o *options) { o.start = "langbiang-hub" },
		"no edges":                   func(o *options) { o.edges = 0 },
		"two paces":                  func(o *options) { o.rate, o.every = 1, time.Second },
		"alerts of the past":         func(o *options) { o.alarm = time.Second },
		"a drain without alerts":     func(o *options) { o.every, o.drain = time.Second, time.Hour },
		"a step below a millisecond": func(o *options) { o.step = time.Microsecond },
	} {
		o := good
		change(&o)
		if o.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestReadingsOfARowLieBehindItsWatermark(t *testing.T) {
	lib, err := loadLibrary()
	if err != nil {
		t.Fatal(err)
	}
	s := newStation(lib, 333, true)
	if len(s.schema.Series) != 333 || len(s.columns) != 333 || s.probe != 332 {
		t.Fatalf("%d series, %d columns, probe %d", len(s.schema.Series), len(s.columns), s.probe)
	}
	r := newReplay(s, 1)
	different := map[float64]bool{}
	for w := int64(1000); w < 3000; w += 25 {
		row := r.next(nil, w-25, w)
		if len(row) != 333 {
			t.Fatalf("%d readings", len(row))
		}
		for _, x := range row {
			if x.Time <= w-25 || x.Time > w {
				t.Fatalf("a reading at %d, not in (%d, %d]", x.Time, w-25, w)
			}
		}
		different[row[0].Value] = true
	}
	if len(different) < 10 {
		t.Errorf("a series had %d different values in 80 rows", len(different))
	}
}
