package edge

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
)

// BenchmarkAgentOfAHundredDevices runs the program as it is installed: 100 Modbus
// devices of 10 points at 1 Hz, logged durably, no hub. It prints the processor
// time in percent of a core, the anonymous memory, and the allocations per poll.
// The goals are 1 % and 20 MB, and 16 MB of program as the Makefile builds it. Beside it run bare loops of the same requests, which
// do nothing with the answers: bare_spread_% wakes for each of them, bare_burst_%
// for ten at a time, as the agent does.
func BenchmarkAgentOfAHundredDevices(b *testing.B) {
	const span = 20 * time.Second
	dir := b.TempDir()
	program := builtAgent(b, dir)
	field := &drivertest.Field{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	metrics := ln.Addr().String()
	_ = ln.Close()
	address := field.ServeTCP(b).Address
	config := hundredDevices(b, dir, field, fmt.Sprintf("http: {listen: %q}\nconnections:\n  - {id: c, modbus: {address: %q}}\n", metrics, address))
	var stderr bytes.Buffer
	agent := exec.Command(program, "run", "--config", config)
	agent.Stderr = &stderr
	if err := agent.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	}()
	drivertest.Until(b, "all devices are polled", func() bool { return len(field.Requests()) > 300 })
	<-time.After(5 * time.Second) // the log's first segment, the first collections
	for range b.N {
		cpu, allocs, polls := cpuOf(b, agent.Process.Pid), mallocs(b, metrics), len(field.Requests())
		start := time.Now()
		<-time.After(span)
		took := time.Since(start)
		polls = len(field.Requests()) - polls
		b.ReportMetric(100*(cpuOf(b, agent.Process.Pid)-cpu).Seconds()/took.Seconds(), "cpu_%")
		b.ReportMetric((mallocs(b, metrics)-allocs)/float64(polls), "allocs/poll")
		b.ReportMetric(float64(statusOf(b, agent.Process.Pid, "RssAnon:"))/1000, "anon_MB")
		b.ReportMetric(float64(polls)/took.Seconds(), "polls/s")
	}
	_ = agent.Process.Kill()
	if st, err := os.Stat(program); err == nil {
		b.ReportMetric(float64(st.Size())/1e6, "program_MB")
	}
	b.ReportMetric(bare(b, address, 1, span/2), "bare_spread_%")
	b.ReportMetric(bare(b, address, 10, span/2), "bare_burst_%")
	if stderr.Len() > 0 {
		b.Log(stderr.String())
	}
}

// builtAgent builds the program as the Makefile does.
func builtAgent(b *testing.B, dir string) string {
	b.Helper()
	program := filepath.Join(dir, "langbiang-edge")
	flags, err := os.ReadFile("../../scripts/package/edge-flags")
	if err != nil {
		b.Fatal(err)
	}
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", program}, strings.Fields(string(flags))...)
	build := exec.Command("go", append(args, "../../cmd/edge")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return program
}

// hundredDevices writes edge.yaml of 100 devices on connection c, and gives the field
// what they hold. more stands before the devices, and goes on with them.
func hundredDevices(b *testing.B, dir string, field *drivertest.Field, before string, more ...string) (config string) {
	b.Helper()
	var yaml strings.Builder
	yaml.WriteString("edge: {id: bench}\ndata_dir: ./data\nhub: {url: mqtt://127.0.0.1:1}\nclock: {trust: always}\nlog: {level: error}\n" + before + "devices:\n")
	for unit := 1; unit <= 100; unit++ {
		field.Holding(unit, 0, make([]uint16, 10)...)
		fmt.Fprintf(&yaml, "  - id: d%d\n    connection: c\n    unit: %d\n    interval: 1s\n    points:\n", unit, unit)
		for p := range 10 {
			fmt.Fprintf(&yaml, "      - {id: p%d, quantity: air_temperature, holding: %d}\n", p, p)
		}
	}
	for _, s := range more {
		yaml.WriteString(s)
	}
	config = filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(config, []byte(yaml.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return config
}

// bare is the processor time, in percent of a core, of a program that asks 100
// times a second for ten registers, so many at a time, and nothing else.
func bare(b *testing.B, address string, burst int, span time.Duration) float64 {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(b.TempDir(), bareLoop)
	if err := os.Symlink(self, name); err != nil {
		b.Fatal(err)
	}
	out, err := exec.Command(name, address, strconv.Itoa(burst), span.String()).Output()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	x, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return x
}

// cpuOf is the processor time of a process.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	ticks := 0
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// statusOf is a line of /proc/PID/status, in kB.
func statusOf(b *testing.B, pid int, key string) int {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), key)
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// mallocs is how often the agent has allocated.
func mallocs(b *testing.B, addr string) float64 {
	b.Helper()
	resp, err := http.Get("http://" + addr + "/metrics") //nolint:noctx // of a benchmark
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "\ngo_memstats_mallocs_total ")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(line, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
