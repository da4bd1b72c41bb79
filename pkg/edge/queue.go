package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/framelog"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// logDir is where the log stands in the data folder.
const logDir = "log"

// queueCommand looks into the log: from its files, without its lock, so that it
// may be used beside a running agent and does not disturb it.
func queueCommand() settings.Command[*Plan] {
	var asJSON bool
	var f dumpFilter
	return settings.Command[*Plan]{
		Use: "queue", Short: "look into this gateway's log of readings, also while the agent runs",
		Commands: []settings.Command[*Plan]{
			{
				Use: "status", Short: "how much it holds, how much of it the hub has safe, what is damaged or missing",
				Flags: func(fl *pflag.FlagSet) { fl.BoolVar(&asJSON, "json", false, "print it as JSON") },
				Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
					q, err := queueOf(ctx, plan)
					if err != nil {
						return err
					}
					if asJSON {
						return json.NewEncoder(c.Stdout).Encode(q)
					}
					return q.print(c.Stdout, time.Now())
				},
			},
			{
				Use: "verify", Short: "check every checksum of every file; status 1 if something is damaged",
				Run: func(_ context.Context, c settings.Call, plan *Plan) error { return verifyQueue(c.Stdout, plan) },
			},
			{
				Use: "dump", Short: "print its frames, oldest first, decoded: a JSON object per line",
				Flags: f.flags,
				Run:   func(_ context.Context, c settings.Call, plan *Plan) error { return dumpQueue(c.Stdout, plan, &f) },
			},
		},
	}
}

func openView(plan *Plan) (*buffer.View, string, error) {
	dir := filepath.Join(plan.Config.DataDir, logDir)
	v, err := buffer.OpenView(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, dir, fmt.Errorf("there is no log at %s: no agent has run with this data_dir yet", dir)
	}
	return v, dir, newer(err, plan.Config.DataDir, "")
}

// queue is how the log stands.
type queue struct {
	Dir       string     `json:"dir"`
	Running   bool       `json:"running"` // an agent works on it
	Frames    uint64     `json:"frames"`  // on the disk
	Unsafe    uint64     `json:"unsafe_frames"`
	Pending   int        `json:"pending_frames"` // in the running agent's memory
	Bytes     int64      `json:"bytes"`
	MaxBytes  int64      `json:"max_bytes"`
	Segments  int        `json:"segments"`
	Oldest    *time.Time `json:"oldest"`
	Newest    *time.Time `json:"newest"`
	First     string     `json:"first"`
	Last      string     `json:"last"`
	Safe      string     `json:"safe"` // at the last commit
	Gaps      []queueGap `json:"gaps"`
	Aside     []string   `json:"set_aside"`
	MetaError string     `json:"small_values_error,omitempty"`
	DiskError string     `json:"disk_error,omitempty"`
	GivenUp   uint64     `json:"given_up"` // by the running agent, since its start
}

// queueGap is a range of frames that the log had and cannot give.
type queueGap struct {
	After  string `json:"after"`
	Before string `json:"before"`
}

func queueOf(ctx context.Context, plan *Plan) (*queue, error) {
	v, dir, err := openView(plan)
	if err != nil {
		return nil, err
	}
	st := v.Stats()
	q := &queue{
		Dir: dir, Frames: st.Frames, Bytes: st.Bytes, MaxBytes: int64(plan.Config.Buffer.MaxSize), Segments: st.Segments,
		Oldest: instant(st.OldestTime), Newest: instant(st.NewTime),
		First: framelog.ToWire(st.Oldest).String(), Last: framelog.ToWire(st.Newest).String(), Safe: framelog.ToWire(st.Safe).String(),
		Gaps: []queueGap{}, Aside: st.Aside, MetaError: st.MetaError,
	}
	if q.Unsafe, err = v.Unsafe(); err != nil {
		return nil, err
	}
	gaps, err := v.Gaps()
	if err != nil {
		return nil, err
	}
	for _, g := range gaps {
		q.Gaps = append(q.Gaps, queueGap{framelog.ToWire(g.After).String(), framelog.ToWire(g.Next).String()})
	}
	var s status
	// An agent that may not be asked, or of another version, is none to us: the
	// files say the rest.
	if err := ask(ctx, plan.Config.DataDir, "/status", nil, &s); err == nil && s.Agent != nil {
		q.Running = true
		q.Pending, q.GivenUp, q.DiskError = s.Agent.Log.PendingFrames, s.Agent.Log.GivenUp, s.Agent.Log.DiskError
	}
	return q, nil
}

func instant(ms int64) *time.Time {
	if ms <= 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}

func (q *queue) print(w io.Writer, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, a ...any) { _, _ = fmt.Fprintf(tw, name+"\t"+format+"\n", a...) } // Flush has the error
	running := "no agent is running"
	if q.Running {
		running = "an agent is running"
	}
	line("log", "%s; %s", q.Dir, running)
	line("depth", "%s in %s, %s of %s", settings.Count(int(q.Frames), "frame"), settings.Count(q.Segments, "segment"), size(q.Bytes), size(q.MaxBytes))
	line("safe", "%d; the hub does not have %d yet", q.Frames-min(q.Unsafe, q.Frames), q.Unsafe)
	if q.Running {
		line("in memory", "%s until the next commit", settings.Count(q.Pending, "frame"))
	}
	for _, e := range []struct {
		name string
		t    *time.Time
		at   string
	}{{"oldest", q.Oldest, q.First}, {"newest", q.Newest, q.Last}} {
		if e.t != nil {
			line(e.name, "%s (%v ago), %s", e.t.Format(time.RFC3339), now.Sub(*e.t).Round(time.Second), e.at)
		}
	}
	line("gaps", "%d", len(q.Gaps))
	for _, g := range q.Gaps {
		line("", "after %s, before %s", g.After, g.Before)
	}
	line("damaged", "%s set aside", settings.Count(len(q.Aside), "file"))
	for _, f := range q.Aside {
		line("", "%s", f)
	}
	if q.MetaError != "" {
		line("small values", "%s", q.MetaError)
	}
	if q.GivenUp > 0 {
		line("given up", "%s that the hub did not have, since the agent's start", settings.Count(int(q.GivenUp), "frame"))
	}
	if q.DiskError != "" {
		line("disk", "refuses the log: %s; free space or replace the card, the agent goes on by itself", q.DiskError)
	}
	return tw.Flush()
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

// verifyQueue names everything that is damaged.
func verifyQueue(w io.Writer, plan *Plan) error {
	v, dir, err := openView(plan)
	if err != nil {
		return err
	}
	bad, segments, frames := 0, 0, uint64(0)
	err = v.Verify(func(r buffer.SegmentReport) error {
		segments++
		frames += r.Readable
		if r.Err == nil {
			return nil
		}
		bad++
		_, err := fmt.Fprintf(w, "%s: damaged: %s; %s of it can be read, after %s, up to %s\n", r.File,
			strings.TrimPrefix(r.Err.Error(), "corrupt: "), settings.Count(int(r.Readable), "frame"), framelog.ToWire(r.First), framelog.ToWire(r.Last))
		return err
	})
	if err != nil {
		return err
	}
	st := v.Stats()
	for _, f := range st.Aside {
		if _, err := fmt.Fprintf(w, "%s: was set aside by an agent; what could be read of it is in the log\n", f); err != nil {
			return err
		}
	}
	if st.MetaError != "" {
		bad++
		if _, err := fmt.Fprintf(w, "small values: damaged: %s; the agent sets the file aside at its next start and takes the other of the two\n", st.MetaError); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%s of the log %s; the agent sets them aside when it reaches them, saves what can be read, and declares the rest to the hub", settings.Count(bad, "damaged file"), dir)
	}
	_, err = fmt.Fprintf(w, "%s: fine: %s, %s, every checksum holds\n", dir, settings.Count(segments, "segment"), settings.Count(int(frames), "frame"))
	return err
}

// dumpFilter says what to print.
type dumpFilter struct {
	device, point string
	since, until  timeFlag
	unsafe        bool
}

func (f *dumpFilter) flags(fl *pflag.FlagSet) {
	fl.StringVar(&f.device, "device", "", "readings of this device only")
	fl.StringVar(&f.point, "point", "", "readings of this point only")
	fl.Var(&f.since, "since", "readings from then on: 2026-11-27T18:00:00Z, or 2h for two hours ago")
	fl.Var(&f.until, "until", "readings before then")
	fl.BoolVar(&f.unsafe, "unsafe", false, "frames only that the hub did not have safe at the last commit")
}

// timeFlag is a moment, or a duration before now.
type timeFlag struct{ ms int64 }

func (t *timeFlag) String() string { return "" }
func (t *timeFlag) Type() string   { return "time" }
func (t *timeFlag) Set(s string) error {
	if d, err := time.ParseDuration(s); err == nil {
		t.ms = time.Now().Add(-d).UnixMilli()
		return nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return errors.New("write 2026-11-27T18:00:00Z, or 2h for two hours ago")
	}
	t.ms = at.UnixMilli()
	return nil
}

// dumpedFrame is a line of the dump. Times are log time; of untimed frames they
// count from the boot.
type dumpedFrame struct {
	Missing  *queueGap       `json:"missing,omitempty"` // frames that are missing before this one
	Epoch    string          `json:"epoch"`
	Start    uint32          `json:"start"`
	Seq      uint64          `json:"seq"`
	Era      uint32          `json:"era"`
	Untimed  bool            `json:"untimed,omitempty"`
	From     int64           `json:"from_ms"` // the watermark before, exclusive
	To       int64           `json:"to_ms"`   // the watermark
	Marks    []dumpedMark    `json:"marks,omitempty"`
	Readings []dumpedReading `json:"readings"`
	Error    string          `json:"error,omitempty"` // why it cannot be decoded
}

type dumpedMark struct {
	Kind uint8 `json:"kind"`
	From int64 `json:"from_ms"`
	To   int64 `json:"to_ms"`
}

type dumpedReading struct {
	Device  string   `json:"device"`
	Point   string   `json:"point"`
	Time    string   `json:"time,omitempty"`
	MS      int64    `json:"ms"`
	Value   *float64 `json:"value,omitempty"` // absent when bad or text
	Text    string   `json:"text,omitempty"`
	Unit    string   `json:"unit,omitempty"`
	Quality string   `json:"quality"`
	Late    bool     `json:"late,omitempty"`
}

func dumpQueue(w io.Writer, plan *Plan, f *dumpFilter) error {
	v, _, err := openView(plan)
	if err != nil {
		return err
	}
	safe := framelog.ToWire(v.Stats().Safe)
	d := &dumper{view: v, filter: f, schemas: map[wire.Hash]*telemetry.Schema{}, dec: wire.NewDecoder()}
	out := json.NewEncoder(w)
	return v.Read(func(r buffer.Record) error {
		pos := framelog.ToWire(r.Pos)
		if f.unsafe && pos.SameLine(safe) && pos.Compare(safe) <= 0 {
			return nil
		}
		line, ok := d.frame(r, pos)
		if !ok {
			return nil
		}
		return out.Encode(line)
	})
}
