package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hub is the hub that is driven. Its numbers come from /proc when its process id
// is known, from its /metrics otherwise.
type hub struct {
	mqtt, page string
	pid        int
	cmd        *exec.Cmd     // nil: not ours
	exited     chan struct{} // closed when it has ended
	err        error         // why, once it has
	log        string
}

// startHub starts the program with a folder, free ports and the rules, and
// returns once it is ready.
func startHub(ctx context.Context, program, dir, rules string, pprof bool) (*hub, error) {
	page, err := freeAddress()
	if err != nil {
		return nil, err
	}
	mqtt, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("data_dir: ./hub\nhttp: {listen: %q, auth: off, pprof: %v}\nmqtt: {listen: %q}\nclock: {require_sync: false}\nrules: [./rules.yaml]\n", page, pprof, mqtt)
	for name, text := range map[string]string{"hub.yaml": config, "rules.yaml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	h := &hub{mqtt: "mqtt://" + mqtt, page: "http://" + page, exited: make(chan struct{}), log: filepath.Join(dir, "hub.log")}
	log, err := os.Create(h.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	h.cmd = exec.Command(program, "run", "--config", filepath.Join(dir, "hub.yaml"))
	h.cmd.Stdout, h.cmd.Stderr = log, log
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	h.pid = h.cmd.Process.Pid
	go func() {
		h.err = h.cmd.Wait()
		close(h.exited)
	}()
	for {
		if resp, err := http.Get(h.page + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return h, nil
			}
		}
		select {
		case <-h.exited:
			text, _ := os.ReadFile(h.log)
			return nil, fmt.Errorf("the hub ended: %w\n%s", h.err, text)
		case <-ctx.Done():
			h.stop()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends a hub that was started here, and waits for it.
func (h *hub) stop() {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-h.exited:
	case <-time.After(time.Minute):
		_ = h.cmd.Process.Kill()
		<-h.exited
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// usage is what a process has used.
type usage struct {
	cpu             time.Duration
	rss, peak       int64 // bytes: now, and the most so far; peak is 0 when unknown
	anonymous       int64 // part of rss that is no file; 0 when unknown
	frames, dropped float64
}

// usage reads the hub's numbers.
func (h *hub) usage() (u usage, err error) {
	metrics, err := h.metrics()
	if err != nil {
		return u, err
	}
	u.frames = metrics["langbiang_hub_ingest_frames_total"]
	u.dropped = metrics["langbiang_hub_ingest_dropped_total"] + metrics["langbiang_hub_bus_dropped_total"]
	if h.pid != 0 {
		p, err := processUsage(h.pid)
		p.frames, p.dropped = u.frames, u.dropped
		return p, err
	}
	u.cpu = time.Duration(metrics["process_cpu_seconds_total"] * float64(time.Second))
	u.rss = int64(metrics["process_resident_memory_bytes"])
	return u, nil
}

// metrics returns the hub's metrics that have no labels.
func (h *hub) metrics() (map[string]float64, error) {
	resp, err := http.Get(h.page + "/metrics")
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	out := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out, lines.Err()
}

// profile saves one of the hub's profiles to a file.
func (h *hub) profile(what, file string) error {
	resp, err := http.Get(h.page + "/debug/pprof/" + what)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile %s: %s; set http.pprof: true", what, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// clockTick is the unit of /proc/PID/stat, the same on every Linux.
const clockTick = 10 * time.Millisecond

// processUsage reads /proc.
func processUsage(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return u, fmt.Errorf("/proc/%d/stat: %q", pid, stat)
	}
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		var to *int64
		switch {
		case strings.HasPrefix(line, "VmHWM:"):
			to = &u.peak
		case strings.HasPrefix(line, "VmRSS:"):
			to = &u.rss
		case strings.HasPrefix(line, "RssAnon:"):
			to = &u.anonymous
		default:
			continue
		}
		if _, err := fmt.Sscanf(strings.Fields(line)[1], "%d", to); err != nil {
			return u, err
		}
		*to <<= 10
	}
	return u, nil
}
