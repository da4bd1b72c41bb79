package e2e

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/langbiang/langbiang/pkg/edge"
)

// clockEnv makes the test binary an edge agent whose machine's clock is what the
// file that it names says. The shipped program has no such switch: it is the
// same agent, opened with another source of time.
const clockEnv = "LANGBIANG_E2E_CLOCK"

// steppedClock is the machine's clock as a test wants it.
type steppedClock struct {
	path string
	was  clockFile
}

// clockFile is what the file holds.
type clockFile struct {
	OffsetMS int64  `json:"offset_ms"` // of the system's clock against the true one
	Synced   bool   `json:"synced"`
	Boot     string `json:"boot"`    // 32 hexadecimal digits
	BootMS   int64  `json:"boot_ms"` // true time of the boot
}

func (c *steppedClock) read() clockFile {
	var f clockFile
	if b, err := os.ReadFile(c.path); err == nil && json.Unmarshal(b, &f) == nil {
		c.was = f
	}
	return c.was
}

func (c *steppedClock) Monotonic() int64 {
	return time.Now().UnixMilli() - c.was.BootMS
}

func (c *steppedClock) Wall() int64 { return time.Now().UnixMilli() + c.read().OffsetMS }

func (c *steppedClock) Synchronised() (bool, error) { return c.read().Synced, nil }

func (c *steppedClock) BootID() (id [16]byte) {
	b, err := hex.DecodeString(c.read().Boot)
	if err == nil {
		copy(id[:], b)
	}
	return id
}

// runSteppedEdge is the agent's program.
func runSteppedEdge(config, clockPath string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	plan, err := edge.Load(config, nil)
	if err != nil {
		return err
	}
	plan.Clock = &steppedClock{path: clockPath}
	a, err := edge.Open(plan, "test", slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})))
	if err != nil {
		return err
	}
	if err := a.Run(ctx); err != nil {
		return fmt.Errorf("%w (close: %w)", err, a.Close())
	}
	return a.Close()
}

// write replaces the file at once, so that nobody reads half of it.
func (f clockFile) write(path string) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
