package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The load runs, in this order. Each starts a hub with 1,000 rules.
var loads = []struct {
	name string
	args []string
}{
	{"load flat out", []string{"--edges", "50", "--series", "1000", "--rate", "0", "--step", "25ms"}},
	{"load flat out, edges with a log on disk", []string{"--edges", "50", "--series", "1000", "--rate", "0", "--step", "25ms", "--buffer"}},
	{"load at 2,000,000 samples/s", []string{"--edges", "50", "--series", "1000", "--rate", "2000000"}},
	{"load of 10,000 idle edges", []string{"--edges", "10000", "--series", "10", "--every", "10s"}},
	{"load of 10,000 idle edges of 40 series", []string{"--edges", "10000", "--series", "40", "--every", "10s"}},
	{"load with alerts", []string{"--edges", "1000", "--series", "100", "--every", "1s", "--alarm", "30s", "--drain", "168h"}},
}

// loadRuns builds hub and generator and runs them, printing their tables.
func loadRuns(duration time.Duration, found results) error {
	dir, err := os.MkdirTemp("", "benchtable-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if out, err := exec.Command("go", "build", "-o", dir+"/", "./cmd/hub", "./scripts/loadgen").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	for _, l := range loads {
		args := append([]string{"--start", filepath.Join(dir, "hub"), "--duration", duration.String()}, l.args...)
		cmd := exec.Command(filepath.Join(dir, "loadgen"), args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s%s", l.name, err, out, stderr.Bytes())
		}
		text := strings.TrimSpace(string(out))
		i := strings.LastIndexByte(text, '\n')
		if i < 0 {
			return fmt.Errorf("%s: no table in %q", l.name, text)
		}
		fmt.Printf("\n%s: loadgen %s\n", l.name, strings.Join(l.args, " "))
		for line := range strings.Lines(text[:i]) {
			fmt.Printf("  %s\n", strings.TrimRight(line, "\n"))
		}
		var tree map[string]any
		if err := json.Unmarshal([]byte(text[i+1:]), &tree); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		flatten(l.name, "", tree, found)
	}
	return nil
}

// flatten takes the numbers of a JSON object, those of objects in it as a.b.
func flatten(what, prefix string, tree map[string]any, found results) {
	for k, v := range tree {
		switch v := v.(type) {
		case float64:
			found.add(what, prefix+k, v)
		case map[string]any:
			flatten(what, prefix+k+".", v, found)
		}
	}
}
