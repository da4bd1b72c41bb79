package camera

import (
	"context"
	"log/slog"
	"math"
	"net/url"
	"sync"
	"time"

	"github.com/langbiang/langbiang/pkg/driver"
	"github.com/langbiang/langbiang/pkg/profile"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// firstWithin is the time in which every camera is asked for the first time,
// however long its interval.
const firstWithin = 2 * time.Second

type cameras struct {
	id      string
	cfg     *Config
	devices []*driver.Device
	env     driver.Env
	logger  *slog.Logger
	metrics *metrics
	room    chan struct{} // a place for each stream or picture at a time
}

func newDriver(id string, cfg *Config, devices []*driver.Device, env driver.Env) *cameras {
	logger := env.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &cameras{id: id, cfg: cfg, devices: devices, env: env, logger: logger, metrics: newMetrics(id), room: make(chan struct{}, cfg.Parallel)}
}

// Run implements [driver.Driver].
func (c *cameras) Run(ctx context.Context) error {
	if err := c.metrics.Register(c.env.Metrics, c.metrics.requests, c.metrics.errors); err != nil {
		return err
	}
	defer c.metrics.Unregister()
	var wg sync.WaitGroup
	for i, d := range c.devices {
		one := newCamera(c, d)
		// Spread over the interval, and the first time over a short while.
		part := func(d time.Duration) time.Duration {
			return time.Duration(float64(d) * float64(i) / float64(len(c.devices)))
		}
		wg.Go(func() { one.run(ctx, part(min(d.Interval, firstWithin)), part(d.Interval)) })
	}
	wg.Wait()
	return nil
}

// camera is one device. It belongs to its goroutine.
type camera struct {
	*cameras
	dev            *driver.Device
	rtsp, snapshot *url.URL // nil when there is none
	still          still
	next           []int64 // by point: the first slot at which it is due again
	rtspBad        bool    // so far as was reported
	pictureBad     bool
	failing        failure // as it was logged

	samples []driver.Sample
}

func newCamera(c *cameras, d *driver.Device) *camera {
	one := &camera{cameras: c, dev: d, next: make([]int64, len(d.Points))}
	if s := d.Camera.RTSP; s != "" {
		one.rtsp, _ = address(s, schemesRTSP) // checked by New
	}
	if s := d.Camera.Snapshot; s != "" {
		one.snapshot, _ = address(s, schemesSnapshot)
	}
	return one
}

// run asks the camera at each of its slots. A slot that begins while an earlier
// one is at work is given up.
func (c *camera) run(ctx context.Context, first, phase time.Duration) {
	begin := time.Now()
	t := time.NewTimer(first)
	defer t.Stop()
	for slot := int64(0); ; slot++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		c.poll(ctx, slot)
		since := time.Since(begin.Add(phase))
		n := int64(since/c.dev.Interval) + 1
		if since < 0 {
			n = 0
		}
		t.Reset(time.Until(begin.Add(phase + time.Duration(n)*c.dev.Interval)))
	}
}

// every returns at which slots of the device the point is due: each, every
// second, ...
func (c *camera) every(pt *profile.Point) int64 { return max(1, int64(pt.Interval/c.dev.Interval)) }

// due returns the points of the stream, or of the snapshot, whose slot has come,
// by what they measure.
func (c *camera) due(slot int64, stream bool) map[string][]int {
	out := map[string][]int{}
	for i := range c.dev.Points {
		if pt := &c.dev.Points[i]; pt.OfStream() == stream && slot >= c.next[i] {
			out[pt.Camera] = append(out[pt.Camera], i)
		}
	}
	return out
}

// poll asks the camera once and hands over what came of it.
func (c *camera) poll(ctx context.Context, slot int64) {
	l, err := c.cfg.login()
	rf, pf := failure{}, failure{}
	if err != nil {
		rf = failure{telemetry.ReasonConfiguration, err.Error()}
		pf = rf
	}
	if c.rtsp != nil {
		rf = c.ask(ctx, slot, true, &c.rtspBad, rf, func(due map[string][]int) failure { return c.askStream(ctx, l, due) })
	}
	if c.snapshot != nil && ctx.Err() == nil {
		pf = c.ask(ctx, slot, false, &c.pictureBad, pf, func(due map[string][]int) failure { return c.askPicture(ctx, l, due) })
	}
	if ctx.Err() != nil {
		return
	}
	down := rf
	if c.rtsp == nil || c.snapshot != nil && !pf.failed() {
		down = pf
	}
	c.env.Sink.Status(c.dev, !down.failed(), down.reason, down.text)
	worst := rf
	if !worst.failed() {
		worst = pf
	}
	if worst != c.failing && worst.failed() && !down.failed() {
		c.logger.Warn("camera answers in part", "device", c.dev.ID, "reason", worst.text)
	}
	c.failing = worst
}

// ask does one of the two things there are to ask. When it begins to fail all
// its points are bad at once; when it recovers all are read at once.
func (c *camera) ask(ctx context.Context, slot int64, stream bool, bad *bool, f failure, do func(map[string][]int) failure) failure {
	due := c.due(slot, stream)
	c.samples = c.samples[:0]
	if !f.failed() && (len(due) > 0 || stream) {
		c.metrics.requests.Inc()
		f = do(due)
	}
	if ctx.Err() != nil {
		return f
	}
	if f.failed() {
		c.metrics.failed(f.reason)
		if !*bad {
			c.forget(stream)
			due = c.due(slot, stream)
		}
		c.samples = c.samples[:0]
		for _, points := range due {
			c.put(points, "", f)
		}
	}
	if *bad && !f.failed() {
		defer c.forget(stream) // read all at the next slot
	}
	*bad = f.failed()
	for _, points := range due {
		for _, p := range points {
			c.next[p] = slot + c.every(&c.dev.Points[p])
		}
	}
	if len(c.samples) > 0 {
		c.env.Sink.Put(c.dev, time.Time{}, c.samples)
	}
	return f
}

// forget makes all points of the stream, or of the snapshot, due.
func (c *camera) forget(stream bool) {
	for i := range c.dev.Points {
		if c.dev.Points[i].OfStream() == stream {
			c.next[i] = 0
		}
	}
}

// put adds a sample for each of the points; v is a number or a text.
func (c *camera) put(points []int, v any, f failure) {
	for _, p := range points {
		if f.failed() {
			c.samples = append(c.samples, driver.Sample{Point: p, Quality: telemetry.BadQuality(f.reason)})
			continue
		}
		value, text, q := profile.Value(&c.dev.Points[p], c.dev.Convert[p], v)
		c.samples = append(c.samples, driver.Sample{Point: p, Value: value, Text: text, Quality: q})
	}
}

// enter waits for a place among those that take streams and pictures.
func (c *camera) enter(ctx context.Context) bool {
	select {
	case c.room <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *camera) leave() { <-c.room }

func (c *camera) askStream(ctx context.Context, l login, due map[string][]int) failure {
	rates := len(due[profile.CameraFrameRate])+len(due[profile.CameraBitRate]) > 0
	sample := time.Duration(0)
	if rates {
		if !c.enter(ctx) {
			return failure{}
		}
		defer c.leave()
		sample = c.cfg.Sample
	}
	s, f, sf := probeRTSP(ctx, c.cfg, c.rtsp, l, sample)
	if f.failed() {
		return f
	}
	c.put(due[profile.CameraAnswerTime], round(s.answer.Seconds(), 4), failure{})
	c.put(due[profile.CameraCodec], s.codec, failure{})
	if rates {
		c.put(due[profile.CameraFrameRate], round(s.frameRate, 2), sf)
		c.put(due[profile.CameraBitRate], round(s.bitRate, 0), sf)
		if sf.failed() {
			c.metrics.failed(sf.reason)
		}
	}
	return failure{}
}

func round(x float64, decimals int) float64 {
	p := math.Pow10(decimals)
	return math.Round(x*p) / p
}

func (c *camera) askPicture(ctx context.Context, l login, due map[string][]int) failure {
	if !c.enter(ctx) {
		return failure{}
	}
	defer c.leave()
	s, f := fetch(ctx, c.cfg, c.snapshot, l)
	if f.failed() {
		return f
	}
	c.put(due[profile.CameraPictureSize], float64(len(s.jpeg)), failure{})
	if s.aged {
		c.put(due[profile.CameraPictureAge], s.age.Seconds(), failure{})
	} else {
		c.put(due[profile.CameraPictureAge], 0.0, failure{reason: telemetry.ReasonMissing})
	}
	if len(due[profile.CameraDark])+len(due[profile.CameraFrozen]) == 0 {
		return failure{}
	}
	t, err := thumbOf(s.jpeg)
	if err != nil {
		f := failuref(telemetry.ReasonMalformed, "%s: %v", c.snapshot.Host, err)
		c.put(due[profile.CameraDark], 0.0, f)
		c.put(due[profile.CameraFrozen], 0.0, f)
		if c.failing != f {
			c.logger.Warn("picture cannot be looked at", "device", c.dev.ID, "reason", f.text)
			c.failing = f
		}
		return failure{}
	}
	c.put(due[profile.CameraDark], t.dark(), failure{})
	c.put(due[profile.CameraFrozen], c.still.frozen(t, time.Now(), c.cfg.FrozenAfter), failure{})
	return failure{}
}
