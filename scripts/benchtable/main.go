// Command benchtable runs the benchmarks of the module, one package after the
// other so that none disturbs another, then short load runs (scripts/loadgen)
// against a hub of its own, and prints the results: all of them as one table, and
// those that there is a goal for as another, with what was met. Timing depends on
// the machine, so a goal that is missed is a row and no error; the disk's fsync
// time stands at the top.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	pattern := flag.String("bench", ".", "which benchmarks; empty: none")
	benchtime := flag.String("benchtime", "1s", "time or count for each")
	load := flag.Duration("load", 10*time.Second, "duration of each load run; 0: none")
	flag.Parse()
	if err := run(*pattern, *benchtime, *load); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

func run(pattern, benchtime string, load time.Duration) error {
	fsync, err := fsyncTimes()
	if err != nil {
		return err
	}
	machine := fmt.Sprintf("%s/%s, %d CPUs, fsync of 4 kB here: median %v, worst %v of %d",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), fsync[len(fsync)/2].Round(time.Microsecond), fsync[len(fsync)-1].Round(time.Microsecond), len(fsync))
	fmt.Printf("%s\n\n", machine)
	found := results{}
	// One that fails costs its own rows; the others are printed all the same.
	var failed error
	if pattern != "" {
		failed = benchmarks(pattern, benchtime, found)
	}
	if load > 0 {
		failed = errors.Join(failed, loadRuns(load, found))
	}
	fmt.Printf("\nGoals (%s)\n\n", machine)
	return errors.Join(failed, found.print(os.Stdout))
}

// results are the numbers by what was run (package below pkg/ and benchmark, or
// load run) and unit.
type results map[string]map[string]float64

func (r results) add(what, unit string, v float64) {
	if r[what] == nil {
		r[what] = map[string]float64{}
	}
	r[what][unit] = v
}

// procs is what go test appends to the names of benchmarks.
var procs = regexp.MustCompile(`-\d+$`)

func benchmarks(pattern, benchtime string, found results) (failed error) {
	out, err := exec.Command("go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./...").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for pkg := range strings.FieldsSeq(string(out)) {
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", pattern, "-benchtime", benchtime, "-benchmem", "-timeout", "30m", pkg)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w\n%s%s", pkg, err, stdout.Bytes(), stderr.Bytes()))
		}
		title := false
		lines := bufio.NewScanner(&stdout)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
				continue
			}
			if !title {
				_, _ = fmt.Fprintf(w, "%s\n", pkg)
				title = true
			}
			name := strings.TrimPrefix(fields[0], "Benchmark")
			_, short, _ := strings.Cut(pkg, "/pkg/")
			var numbers []string
			for i := 2; i+1 < len(fields); i += 2 {
				numbers = append(numbers, fields[i]+" "+fields[i+1])
				if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
					found.add(short+" "+procs.ReplaceAllString(name, ""), fields[i+1], v)
				}
			}
			_, _ = fmt.Fprintf(w, "  %s\t%s\n", name, strings.Join(numbers, "\t"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return failed
}

// fsyncTimes are what small durable writes cost on the disk of the working
// folder, ascending: what every commit and checkpoint pays.
func fsyncTimes() ([]time.Duration, error) {
	f, err := os.CreateTemp(".", ".fsync-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	var times []time.Duration
	block := make([]byte, 4096)
	for range 51 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times, nil
}
