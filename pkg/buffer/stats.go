package buffer

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats is a snapshot of the log's state.
type Stats struct {
	Bytes          int64         // bytes of the segments on the disk
	MaxBytes       int64         // Options.MaxSize
	Frames         uint64        // frames on the disk and in memory
	UnsafeFrames   uint64        // of these, above the safe cursor (about, where frames are missing)
	PendingFrames  int           // frames in memory, not yet committed
	PendingBytes   int64         // their bytes
	OldestTime     int64         // log time of the oldest frame with a known one, ms; 0 if there is none
	UnsafeTime     int64         // about that of the oldest unsafe frame, ms; 0 if there is none, or it is not known
	Segments       int           // segment files
	CorruptFiles   int           // files named .corrupt in the folder
	Corrupt        int           // files set aside since Open
	LostFrames     uint64        // frames lost with them, as far as known
	Evicted        uint64        // segments evicted since Open
	GivenUp        uint64        // unsafe frames evicted, or dropped from memory, since Open
	Commits        uint64        // successful commits since Open
	CommitFailures uint64        // failed ones
	CommitTime     time.Duration // that commits took since Open, failed ones included
	DiskError      string        // what the last commit failed with; "" if it succeeded
}

// Stats returns a snapshot. It touches no disk.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.MaxBytes = l.opt.MaxSize
	s.Segments = len(l.segs)
	for _, seg := range l.segs {
		s.Bytes += seg.size
		s.Frames += seg.sum.frames
		unsafe := unsafeAbout(seg.sum, l.safe)
		if s.UnsafeFrames += unsafe; unsafe > 0 && s.UnsafeTime == 0 && seg.sum.tmin > 0 {
			// As if frames stood evenly in it.
			s.UnsafeTime = seg.sum.tmax - int64(float64(seg.sum.tmax-seg.sum.tmin)*float64(unsafe)/float64(seg.sum.frames))
		}
		if s.OldestTime == 0 {
			s.OldestTime = seg.sum.tmin
		}
	}
	for i := range l.pending {
		if l.safe.less(l.pending[i].pos) {
			s.UnsafeFrames++
			if s.UnsafeTime == 0 {
				s.UnsafeTime = max(0, l.pending[i].t)
			}
		}
		if s.OldestTime == 0 {
			s.OldestTime = max(0, l.pending[i].t)
		}
	}
	s.Frames += uint64(len(l.pending))
	s.PendingFrames, s.PendingBytes = len(l.pending), l.pendingBytes
	return s
}

type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(Stats) float64
}

// collector exports Stats.
type collector struct {
	log     *Log
	metrics []metric
}

func newCollector(l *Log) *collector {
	c := &collector{log: l}
	add := func(kind prometheus.ValueType, name, help string, of func(Stats) float64) {
		c.metrics = append(c.metrics, metric{prometheus.NewDesc("langbiang_edge_buffer_"+name, help, nil, nil), kind, of})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "bytes", "Bytes of the log on the disk.", func(s Stats) float64 { return float64(s.Bytes) })
	add(gauge, "max_bytes", "Bytes that the log may take.", func(s Stats) float64 { return float64(s.MaxBytes) })
	add(gauge, "frames", "Frames in the log.", func(s Stats) float64 { return float64(s.Frames) })
	add(gauge, "unsafe_frames", "Frames that the hub does not hold durably yet.", func(s Stats) float64 { return float64(s.UnsafeFrames) })
	add(gauge, "pending_frames", "Frames in memory, not committed yet.", func(s Stats) float64 { return float64(s.PendingFrames) })
	add(gauge, "pending_bytes", "Bytes of the frames in memory.", func(s Stats) float64 { return float64(s.PendingBytes) })
	add(gauge, "oldest_timestamp_seconds", "Log time of the oldest frame.", func(s Stats) float64 { return float64(s.OldestTime) / 1000 })
	add(gauge, "oldest_unsafe_timestamp_seconds", "About the log time of the oldest frame that the hub does not hold durably yet; 0 when there is none.", func(s Stats) float64 { return float64(s.UnsafeTime) / 1000 })
	add(gauge, "segments", "Segment files.", func(s Stats) float64 { return float64(s.Segments) })
	add(gauge, "corrupt_files", "Files set aside as corrupt.", func(s Stats) float64 { return float64(s.CorruptFiles) })
	add(gauge, "disk_refuses", "1 while the disk refuses the log.", func(s Stats) float64 {
		if s.DiskError != "" {
			return 1
		}
		return 0
	})
	add(counter, "lost_frames_total", "Frames lost with corrupt segments.", func(s Stats) float64 { return float64(s.LostFrames) })
	add(counter, "evicted_segments_total", "Segments evicted.", func(s Stats) float64 { return float64(s.Evicted) })
	add(counter, "given_up_frames_total", "Frames given up that the hub did not have.", func(s Stats) float64 { return float64(s.GivenUp) })
	add(counter, "commits_total", "Commits that succeeded.", func(s Stats) float64 { return float64(s.Commits) })
	add(counter, "commit_seconds_total", "Time that commits took, fsync included.", func(s Stats) float64 { return s.CommitTime.Seconds() })
	add(counter, "commit_failures_total", "Commits that the disk refused.", func(s Stats) float64 { return float64(s.CommitFailures) })
	return c
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.log.Stats()
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(s))
	}
}

func (l *Log) register() error {
	if l.opt.Metrics == nil {
		return nil
	}
	c := newCollector(l)
	if err := l.opt.Metrics.Register(c); err != nil {
		return fmt.Errorf("the log's metrics: %w", err)
	}
	l.collector = c
	return nil
}
