package edge

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/buffer"
	"github.com/langbiang/langbiang/pkg/driver/drivertest"
)

// BenchmarkAgentIn64MB runs the program as it is installed in a control group of 64 MB,
// page cache included: 100 Modbus devices of 10 points at 1 Hz, a backlog on the disk
// that no hub takes (LANGBIANG_BENCH_BACKLOG says how many MB), and a broker that floods
// the agent with messages of 40 devices. It prints the largest anonymous memory and the
// largest resident memory, mapped files included, that were seen, and how many readings
// a second were written. Where no control group can be made (confined 0) the limit is
// GOMEMLIMIT alone.
func BenchmarkAgentIn64MB(b *testing.B) {
	const span = 20 * time.Second
	dir := b.TempDir()
	program := builtAgent(b, dir)
	backlog := fillLog(b, filepath.Join(dir, "data", "log"))
	field := &drivertest.Field{}
	address, broker := field.ServeTCP(b).Address, serveBroker(b)
	config := hundredDevices(b, dir, field,
		fmt.Sprintf("buffer: {max_size: 100GiB, max_age: 36500d}\nconnections:\n  - {id: c, modbus: {address: %q}}\n  - {id: m, mqtt: {url: %q}}\n", address, broker.url),
		"  - {id: \"s-{n}\", connection: m, each: {n: ["+countTo(40)+"]}, points: [{id: t, quantity: air_temperature, topic: \"flood/{n}\", path: t}]}\n")
	procs, confined := smallGroup(b, 64<<20)
	agent := exec.Command("sh", "-c", `echo $$ > "$1"; exec "$2" run --config "$3"`, "sh", procs, program, config)
	if confined == 0 {
		agent.Env = append(os.Environ(), "GOMEMLIMIT=51MiB")
	}
	var stderr bytes.Buffer
	agent.Stderr = &stderr
	if err := agent.Start(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = agent.Wait() // how it ended is told below
		close(ended)
	}()
	defer func() {
		_ = agent.Process.Kill()
		<-ended
	}()
	drivertest.Until(b, "all devices are polled", func() bool { return len(field.Requests()) > 300 })
	stop := make(chan struct{})
	var flood sync.WaitGroup
	sent := 0
	flood.Go(func() {
		payload := []byte(`{"t":21.5,"rest":"` + strings.Repeat("x", 400) + `"}`)
		for ; ; sent++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := broker.server.Publish("flood/"+strconv.Itoa(sent%40), payload, false, 0); err != nil {
				return
			}
		}
	})
	anon, resident := 0, 0
	b.ResetTimer()
	for range b.N {
		for end := time.Now().Add(span); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
			select {
			case <-ended:
				b.Fatalf("the agent ended: %v\n%s", agent.ProcessState, stderr.String())
			default:
			}
			anon = max(anon, statusOf(b, agent.Process.Pid, "RssAnon:"))
			resident = max(resident, statusOf(b, agent.Process.Pid, "VmRSS:"))
		}
	}
	b.StopTimer()
	close(stop)
	flood.Wait()
	b.ReportMetric(float64(anon)/1000, "peak_anon_MB")
	b.ReportMetric(float64(resident)/1000, "peak_resident_MB")
	b.ReportMetric(float64(backlog)/1e6, "backlog_MB")
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(confined, "confined")
	stopped := time.Now()
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	<-ended
	b.ReportMetric(time.Since(stopped).Seconds(), "stop_s")
	if agent.ProcessState.ExitCode() != 0 {
		b.Errorf("the agent ended with %v\n%s", agent.ProcessState, stderr.String())
	}
}

func countTo(n int) string {
	var s []string
	for i := range n {
		s = append(s, strconv.Itoa(i))
	}
	return strings.Join(s, ", ")
}

// fillLog makes a log of so many bytes that no hub has got.
func fillLog(b *testing.B, dir string) (size int64) {
	b.Helper()
	mb := int64(256)
	if s := os.Getenv("LANGBIANG_BENCH_BACKLOG"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		mb = n
	}
	log, err := buffer.Open(dir, buffer.Options{MaxSize: 100 << 30})
	if err != nil {
		b.Fatal(err)
	}
	if err := log.Begin(buffer.Epoch{1, 2, 3}); err != nil {
		b.Fatal(err)
	}
	payload := bytes.Repeat([]byte("a frame that nobody takes "), 77)
	for seq := uint64(1); size < mb*1e6; seq++ {
		if err := log.Append(seq, payload, time.Now().UnixMilli()); err != nil {
			b.Fatal(err)
		}
		if size += int64(len(payload)); seq%1000 == 0 {
			if err := log.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	return size
}

// smallGroup makes a control group, of either version, and returns the file that takes
// the numbers of processes; confined is 0 when that is not to be had.
func smallGroup(b *testing.B, limit int64) (procs string, confined float64) {
	b.Helper()
	for _, g := range [][2]string{{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}} {
		dir := filepath.Join(g[0], fmt.Sprintf("langbiang-bench-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, g[1]), []byte(strconv.FormatInt(limit, 10)), 0o644); err != nil {
			_ = os.Remove(dir) // it cannot be used
			continue
		}
		b.Cleanup(func() { _ = os.Remove(dir) })
		return filepath.Join(dir, "cgroup.procs"), 1
	}
	return os.DevNull, 0
}
