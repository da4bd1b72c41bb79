package buffer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// diskWritten is what this process has caused to be written to the disk.
func diskWritten(b *testing.B) int64 {
	data, err := os.ReadFile("/proc/self/io")
	must(b, err)
	var n int64
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	b.Fatal("no write_bytes")
	return 0
}

// anonymous is this process's anonymous resident memory, in bytes.
func anonymous(b *testing.B) int64 {
	n, err := anonymousOf()
	must(b, err)
	return n
}

// BenchmarkCommit is a gateway of 1,000 points at 1 Hz: a frame of 2 kB each
// second, a commit each five.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{500, 1400, 2000, 2300} {
		b.Run(fmt.Sprintf("5x%dB", size), func(b *testing.B) {
			l := open(b, b.TempDir(), Options{})
			must(b, l.Begin(tagOf(1)))
			seq := uint64(0)
			payload := payloadOf(tagOf(1), 1, size)
			before := diskWritten(b)
			for b.Loop() {
				for range 5 {
					seq++
					must(b, l.Append(seq, payload, int64(seq)*1000))
				}
				must(b, l.Commit())
			}
			b.ReportMetric(float64(diskWritten(b)-before)/float64(b.N), "written-B/commit")
			b.ReportMetric(float64(l.Stats().Bytes)/float64(seq*uint64(size)), "file-B/payload-B")
		})
	}
}

// BenchmarkBacklog opens a backlog of 10 GB and reads in it. The files are
// links to one segment, under the names that theirs would have: each is
// opened and walked as its own.
func BenchmarkBacklog(b *testing.B) {
	dir := b.TempDir()
	l := open(b, dir, Options{})
	must(b, l.Begin(tagOf(1)))
	for seq := uint64(1); l.Stats().Segments < 2; seq++ {
		must(b, l.Append(seq, payloadOf(tagOf(1), seq, 2000), int64(seq)*1000))
		if seq%250 == 0 {
			must(b, l.Commit())
		}
	}
	must(b, l.Close())
	one := segmentFiles(b, dir)[0]
	_, s, _, _ := parseName(one[strings.LastIndex(one, "/")+1:])
	const segments = 1280
	for i := range uint64(segments) {
		must(b, os.Link(one, dir+"/"+sealedName(i+1000, s)))
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			l, err := Open(dir, Options{MaxSize: 1 << 40})
			must(b, err)
			must(b, l.Close())
		}
	})
	b.Run("read", func(b *testing.B) {
		l := open(b, dir, Options{MaxSize: 1 << 40})
		runtime.GC()
		debug.FreeOSMemory()
		n, bytes, began := 0, 0, time.Now()
		var last Pos
		for b.Loop() {
			must(b, l.Read(last, 64<<10, func(r Record) error {
				n, bytes, last = n+1, bytes+len(r.Payload), r.Pos
				return nil
			}))
			if last.Seq >= s.last.seq { // the next file
				last = Pos{}
				l.mu.Lock()
				l.segs = append(l.segs[1:], l.segs[0])
				l.mu.Unlock()
			}
		}
		b.ReportMetric(float64(bytes)/1e6/time.Since(began).Seconds(), "MB/s")
		b.ReportMetric(float64(anonymous(b))/1e6, "anonymous-MB")
	})
}

// backlogEnv makes the test binary an agent's log over the folder that it names: it
// opens it, reads all of it while it goes on committing, and prints how long opening
// took and the most anonymous memory that it had.
const backlogEnv = "LANGBIANG_BUFFER_TEST_BACKLOG"

func backlogReader(dir string) error {
	runtime.GC()
	debug.FreeOSMemory()
	start := time.Now()
	l, err := Open(dir, Options{MaxSize: 1 << 40})
	if err != nil {
		return err
	}
	opened := time.Since(start)
	mine := tagOf(1<<20 + os.Getpid()) // each run of the benchmark is another start of the agent
	if err := l.Begin(mine); err != nil {
		return err
	}
	frame := make([]byte, 2000)
	peak, bytes, seq, last := int64(0), int64(0), uint64(0), Pos{}
	for n := 1; n > 0; {
		n = 0
		if err := l.Read(last, 64<<10, func(r Record) error {
			n, last, bytes = n+1, r.Pos, bytes+int64(len(r.Payload))
			return nil
		}); err != nil {
			return err
		}
		if last.Epoch == mine {
			break // it has come to what it writes itself
		}
		seq++
		if err := l.Append(seq, frame, int64(seq)); err != nil {
			return err
		}
		if seq%1000 == 0 {
			if err := l.Commit(); err != nil {
				return err
			}
		}
		if seq%50 == 0 {
			rss, err := anonymousOf()
			if err != nil {
				return err
			}
			peak = max(peak, rss)
		}
	}
	fmt.Println(opened.Microseconds(), peak, bytes, time.Since(start).Microseconds())
	return l.Close()
}

// anonymousOf is this process's anonymous resident memory, in bytes.
func anonymousOf() (n int64, err error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, "RssAnon: %d", &n); err == nil {
			return n << 10, nil
		}
	}
	return 0, errors.New("no RssAnon")
}

// BenchmarkBacklogInAProcess fills a log and lets a process of its own open and drain
// it, as an agent does after an outage. LANGBIANG_BENCH_BACKLOG is its size in MiB,
// default 512. The goals, at 10 GB: opened below 1 s, below 20 MB anonymous.
func BenchmarkBacklogInAProcess(b *testing.B) {
	size := int64(512)
	if s := os.Getenv("LANGBIANG_BENCH_BACKLOG"); s != "" {
		var err error
		size, err = strconv.ParseInt(s, 10, 64)
		must(b, err)
	}
	dir := b.TempDir()
	l := open(b, dir, Options{MaxSize: 1 << 40, MaxPending: 64 << 20})
	must(b, l.Begin(tagOf(1)))
	payload := payloadOf(tagOf(1), 1, 16<<10)
	seq := uint64(0)
	for l.Stats().Bytes < size<<20 {
		for range 400 {
			seq++
			must(b, l.Append(seq, payload, int64(seq)*1000))
		}
		must(b, l.Commit())
	}
	bytes, segments := l.Stats().Bytes, l.Stats().Segments
	must(b, l.Close())
	for b.Loop() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), backlogEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		must(b, err)
		var opened, peak, read, total float64
		_, err = fmt.Sscan(string(out), &opened, &peak, &read, &total)
		must(b, err)
		b.ReportMetric(opened/1000, "ms-to-open")
		b.ReportMetric(peak/1e6, "anonymous-MB")
		b.ReportMetric(read/total, "MB/s")
	}
	b.ReportMetric(float64(bytes)/1e9, "GB")
	b.ReportMetric(float64(segments), "segments")
}
