package settings

import (
	"bufio"
	"log/slog"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// memoryShare of what the control group allows is what Go may use; the rest is for
// stacks of threads, mapped files that are being written, and the kernel's buffers.
const memoryShare = 0.8

// LimitMemory lets the collector work harder before the process reaches the memory
// limit of its control group (MemoryMax= of a unit, the limit of a container), instead
// of being killed there. GOMEMLIMIT in the environment goes before.
func LimitMemory(logger *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
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

// cgroupLimit is the smallest memory.max on the way from the process's own group (of
// version 2) to the top; MaxInt64 when there is none.
func cgroupLimit(self, root string) int64 {
	limit := int64(math.MaxInt64)
	f, err := os.Open(self)
	if err != nil {
		return limit
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		group, ok := strings.CutPrefix(lines.Text(), "0::")
		if !ok {
			continue
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			if data, err := os.ReadFile(filepath.Join(root, group, "memory.max")); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 {
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
