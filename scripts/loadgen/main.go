// Command loadgen drives a hub as many edges would, with the edges' own encoder,
// log, uplink and acknowledgement code, and says what the hub made of it.
//
//	loadgen --hub mqtt://127.0.0.1:1883 --page http://127.0.0.1:8080 --edges 50 --series 1000 --rate 0 --step 25ms --duration 30s
//	loadgen --start bin/langbiang-hub --rules 1000 ...      the same, with a hub of its own
//	loadgen ... --edges 10000 --series 40 --every 10s       many edges that say little
//	loadgen ... --edges 1000 --series 100 --every 1s --alarm 10s [--drain 168h]
//
// Rate 0 is flat out: event time advances by step with each frame, from far
// enough back that it stays behind the clock, and each edge has a bounded number
// of bytes that are not safe. Otherwise edges cut a frame every so often, with the
// present time. Values are real measurements (scripts/fieldsim/traces).
//
// A sample counts as safe when the edge's uplink has been told so. Times are
// taken from the append to the edge's log. With --alarm a probe on each edge raises
// an alert that often, and the time from the append of its frame to the event on
// the hub's alert stream is taken; with --drain this is measured twice, the second
// time while one more edge sends a backlog of that age.
//
// The output is a table and, as the last line, the same as JSON.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type options struct {
	hub, page, start string
	pid              int
	dir              string
	edges, series    int
	rules            int
	rate             float64
	every, step      time.Duration
	duration, warmup time.Duration
	buffer           bool
	alarm, drain     time.Duration
	drainSeries      int
	cpuProfile       string
	heapProfile      string
}

func main() {
	var o options
	flag.StringVar(&o.hub, "hub", "", "where the hub takes edges: mqtt://host:1883")
	flag.StringVar(&o.page, "page", "http://127.0.0.1:8080", "the hub's page, for its metrics and alerts")
	flag.IntVar(&o.pid, "hub-pid", 0, "process id of the hub when it runs on this machine, for its exact CPU time and peak memory")
	flag.StringVar(&o.start, "start", "", "program of a hub to start, instead of --hub")
	flag.StringVar(&o.dir, "dir", "", "folder for what the hub and the edges write; a temporary one when empty")
	flag.IntVar(&o.edges, "edges", 50, "edges")
	flag.IntVar(&o.series, "series", 1000, "series of each edge")
	flag.IntVar(&o.rules, "rules", 1000, "rules of a hub that is started here")
	flag.Float64Var(&o.rate, "rate", 0, "samples per second of all edges; 0: as fast as the hub takes them")
	flag.DurationVar(&o.every, "every", 0, "time between two frames of an edge, instead of --rate")
	flag.DurationVar(&o.step, "step", 25*time.Millisecond, "event time of a frame at rate 0")
	flag.DurationVar(&o.duration, "duration", 30*time.Second, "of the measurement")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "time before it, with all edges connected")
	flag.BoolVar(&o.buffer, "buffer", false, "edges keep their log on disk, as gateways do, and not in memory")
	flag.DurationVar(&o.alarm, "alarm", 0, "time between two alerts of each edge; needs --rate or --every")
	flag.DurationVar(&o.drain, "drain", 0, "measure alerts a second time while one more edge sends a backlog of this age")
	flag.IntVar(&o.drainSeries, "drain-series", 1000, "series of that edge, a reading a second each")
	flag.StringVar(&o.cpuProfile, "cpuprofile", "", "file for the hub's CPU profile of the measurement")
	flag.StringVar(&o.heapProfile, "heapprofile", "", "file for the hub's heap profile at its end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func (o *options) check() error {
	switch {
	case (o.hub == "") == (o.start == ""):
		return errors.New("give either --hub, or --start")
	case o.edges < 1 || o.series < 2:
		return errors.New("at least one edge and two series are needed")
	case o.rate > 0 && o.every > 0:
		return errors.New("give either --rate, or --every")
	case o.step < time.Millisecond:
		return errors.New("--step is in whole milliseconds, 1 at least")
	}
	if o.rate > 0 {
		o.every = time.Duration(float64(o.edges*o.series) / o.rate * float64(time.Second))
	}
	if o.every == 0 && o.alarm > 0 {
		return errors.New("--alarm needs --rate or --every: alerts of the past have no latency")
	}
	if o.drain > 0 && o.alarm == 0 {
		return errors.New("--drain needs --alarm")
	}
	return nil
}

func run(ctx context.Context, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	lib, err := loadLibrary()
	if err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "loadgen-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(o.dir) }()
	}
	s := newStation(lib, o.series, o.alarm > 0)
	h := &hub{mqtt: o.hub, page: o.page, pid: o.pid}
	if o.start != "" {
		if h, err = startHub(ctx, o.start, o.dir, ruleFile(s, o.rules), o.cpuProfile+o.heapProfile != ""); err != nil {
			return err
		}
		defer h.stop()
	}
	r := &rig{o: o, lib: lib, station: s, hub: h, result: result{Edges: o.edges, Series: o.series, Rules: o.rules, Buffer: o.buffer}}
	if err := r.run(ctx); err != nil {
		return err
	}
	return r.result.print(os.Stdout)
}
