package buffer

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
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
	data, err := os.ReadFile("/proc/self/status")
	must(b, err)
	var n int64
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, "RssAnon: %d", &n); err == nil {
			return n << 10
		}
	}
	b.Fatal("no RssAnon")
	return 0
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
