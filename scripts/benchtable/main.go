// Command benchtable runs the benchmarks of the module, one package after the
// other so that none disturbs another, and prints their results as one table.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	pattern := flag.String("bench", ".", "which benchmarks")
	benchtime := flag.String("benchtime", "1s", "time or count for each")
	flag.Parse()
	if err := run(*pattern, *benchtime); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

func run(pattern, benchtime string) error {
	out, err := exec.Command("go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./...").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	fsync, err := fsyncTime()
	if err != nil {
		return err
	}
	fmt.Printf("%s/%s, %d CPUs, fsync of 4 kB here: %v (median of 21)\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), fsync.Round(time.Microsecond))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for pkg := range strings.FieldsSeq(string(out)) {
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", pattern, "-benchtime", benchtime, "-benchmem", "-timeout", "30m", pkg)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s%s", pkg, err, stdout.Bytes(), stderr.Bytes())
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
			var results []string
			for i := 2; i+1 < len(fields); i += 2 {
				results = append(results, fields[i]+" "+fields[i+1])
			}
			_, _ = fmt.Fprintf(w, "  %s\t%s\n", strings.TrimPrefix(fields[0], "Benchmark"), strings.Join(results, "\t"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// fsyncTime is what one small durable write costs on the disk of the working
// folder: what every commit and checkpoint pays.
func fsyncTime() (time.Duration, error) {
	f, err := os.CreateTemp(".", ".fsync-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	var times []time.Duration
	block := make([]byte, 4096)
	for range 21 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
