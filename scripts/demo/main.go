// Command demo is what `make run` starts: a hub, the simulated field, and one
// edge agent for each of three sites of Lâm Đồng. It prints a line for each
// thing it started, then every alert as it comes, and stops all of them on
// Ctrl-C. What they write stands in data/demo, their logs in data/demo/log; a
// second run goes on with the same data.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/langbiang/langbiang/pkg/alert/feed"
)

func main() {
	os.Exit(run())
}

type options struct {
	bin, configs, data, hub string
}

func run() int {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	flag.StringVar(&o.configs, "configs", "configs/demo", "folder of the demonstration's configuration")
	flag.StringVar(&o.data, "data", "data/demo", "folder of its data")
	flag.StringVar(&o.hub, "hub", "127.0.0.1:8080", "address of the hub's page, as in hub.yaml")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

// part is one program of the demonstration.
type part struct {
	name, what string
	args       []string
	cmd        *exec.Cmd
	log        string
	done       chan struct{}
	err        error
}

func demo(ctx context.Context, o options) error {
	if err := os.MkdirAll(filepath.Join(o.data, "log"), 0o755); err != nil {
		return err
	}
	parts := []*part{
		{name: "hub", what: "stores readings, judges rules, serves page and API at http://" + o.hub, args: []string{"langbiang-hub", "run", "--config", filepath.Join(o.configs, "hub.yaml")}},
		{name: "field", what: "simulated devices: Modbus TCP, Modbus RTU on pseudo-terminals, MQTT sensors and cameras", args: []string{"fieldsim", "--pty", filepath.Join(o.data, "ttyBUS1"), "--pty", filepath.Join(o.data, "ttyBUS2"), "--pty", filepath.Join(o.data, "ttyBUS3")}},
		{name: "edge lac-duong-01", what: "agent at xã Lạc Dương", args: []string{"langbiang-edge", "run", "--config", filepath.Join(o.configs, "edge-lac-duong.yaml")}},
		{name: "edge lang-biang-01", what: "agent at phường Lang Biang - Đà Lạt", args: []string{"langbiang-edge", "run", "--config", filepath.Join(o.configs, "edge-lang-biang.yaml")}},
		{name: "edge dam-rong-01", what: "agent at xã Đam Rông 4", args: []string{"langbiang-edge", "run", "--config", filepath.Join(o.configs, "edge-dam-rong.yaml")}},
	}
	began := time.Now()
	died := make(chan *part, len(parts))
	var started []*part
	defer func() { stopAll(started) }()
	for _, p := range parts {
		if err := p.start(o, died); err != nil {
			return err
		}
		started = append(started, p)
		fmt.Printf("started  %-19s %s (log: %s)\n", p.name, p.what, p.log)
		if p.name == "hub" {
			if err := ready(ctx, "http://"+o.hub, p); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\n  page: http://%s/    alerts: curl -N http://%s/api/v1/alerts/stream    stop: Ctrl-C\n\n", o.hub, o.hub)
	followCtx, cancel := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		follow(followCtx, "http://"+o.hub, began)
	}()
	defer func() { cancel(); <-followed }()
	select {
	case <-ctx.Done():
		fmt.Println("\nstopping")
		return nil
	case p := <-died:
		return fmt.Errorf("%s ended by itself (%w); the end of %s:\n%s", p.name, p.err, p.log, tail(p.log))
	}
}

// start begins the program in a process group of its own, so that Ctrl-C in the
// terminal reaches us alone and the order of stopping is ours.
func (p *part) start(o options, died chan<- *part) error {
	p.log = filepath.Join(o.data, "log", strings.ReplaceAll(p.name, " ", "-")+".log")
	f, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // the child has its own descriptor
	p.cmd = exec.Command(filepath.Join(o.bin, p.args[0]), p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w (build it with make build)", p.name, err)
	}
	p.done = make(chan struct{})
	go func() {
		p.err = p.cmd.Wait()
		if p.err == nil {
			p.err = errors.New("exit status 0")
		}
		close(p.done)
		died <- p
	}()
	return nil
}

// stopAll ends the programs in the order field, edges, hub, so that each can
// still hand over what it has.
func stopAll(parts []*part) {
	for i := len(parts) - 1; i >= 0; i-- {
		p := parts[i]
		_ = p.cmd.Process.Signal(os.Interrupt) // one that has ended needs no signal
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
			fmt.Fprintf(os.Stderr, "%s did not stop within 10 s; killed\n", p.name)
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
}

func ready(ctx context.Context, base string, p *part) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("the hub did not start (%w); the end of %s:\n%s", p.err, p.log, tail(p.log))
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("the hub is not ready after 60 s; see %s", p.log)
		}
	}
}

// follow prints the alert stream until ctx ends.
func follow(ctx context.Context, base string, began time.Time) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/alerts/stream", http.NoBody)
	if err != nil {
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var event feed.Event
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			continue
		}
		e, ok, err := event.Entry()
		if err != nil || !ok {
			continue
		}
		fmt.Printf("%6.1fs  %-16s %-9s %s\n", time.Since(began).Seconds(), e.Kind, e.Alert.Severity, e.Alert.Message.VI)
	}
}

func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	const most = 2000
	if st, err := f.Stat(); err == nil && st.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
