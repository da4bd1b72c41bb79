package settings

import (
	"bufio"
	"log/slog"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
)

// memoryShare of what the control group allows is what Go may use; the rest is for
// stacks of threads, mapped files that are being written, and the kernel's buffers.
const memoryShare = 0.8

// LimitMemory lets the collector work harder before the process reaches the memory
// limit of its control group (MemoryMax= of a unit, the limit of a container), instead
// of being killed there. GOMEMLIMIT in the environment goes before, and then configured,
// the memory_limit of the configuration in bytes, unless it is 0.
func LimitMemory(configured int64, logger *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if configured > 0 {
		debug.SetMemoryLimit(configured)
		return
	}
	limit := cgroupLimit("/proc/self/cgroup", "/sys/fs/cgroup")
	if limit == math.MaxInt64 {
		return
	}
	share := int64(float64(limit) * memoryShare)
	debug.SetMemoryLimit(share)
	logger.Debug("memory limited", "group", limit, "go", share)
}

// Memory is what Go holds of the machine's memory, and its soft limit, in bytes; limit
// is 0 when there is none.
func Memory() (held, limit int64) {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	if limit = debug.SetMemoryLimit(-1); limit == math.MaxInt64 {
		limit = 0
	}
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64()), limit
}

// noLimit and more are how version 1 of control groups says that there is none.
const noLimit = 1 << 62

// cgroupLimit is the smallest limit on the way from the process's own group to the top,
// of either version of control groups; MaxInt64 when there is none.
func cgroupLimit(self, root string) int64 {
	limit := int64(math.MaxInt64)
	f, err := os.Open(self)
	if err != nil {
		return limit
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		group, file := "", ""
		if of := strings.SplitN(lines.Text(), ":", 3); len(of) == 3 && of[1] == "" {
			group, file = of[2], "memory.max"
		} else if len(of) == 3 && slices.Contains(strings.Split(of[1], ","), "memory") {
			group, file = "/memory"+path.Clean("/"+of[2]), "memory.limit_in_bytes" // version 1
		} else {
			continue
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			if data, err := os.ReadFile(filepath.Join(root, group, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 && n < noLimit {
					limit = min(limit, n)
				}
			}
			if group == "/" {
				break
			}
		}
	}
	return limit
}
