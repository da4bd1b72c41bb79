package e2e

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/langbiang/langbiang/pkg/internal/powercut"
)

// TestAgentGoesOnWhileItsDiskRefuses lets the disk under a running agent be full,
// broken and read-only, and lets the agent start on such a disk: it reads its
// devices, the hub gets its newest readings and is told, and all of it ends by
// itself.
func TestAgentGoesOnWhileItsDiskRefuses(t *testing.T) {
	w := newWorld(t, 1)
	s := w.stations[0]
	w.stations = w.stations[:1]
	data, backing := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "backing")
	for _, dir := range []string{data, backing} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	disk, err := powercut.Mount(backing, data)
	if errors.Is(err, powercut.ErrUnsupported) {
		t.Logf("no disk can be made to refuse here: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.agent != nil {
			s.agent.kill()
		}
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	w.startField()
	w.startHub()
	s.start()
	began := time.Now()
	more := func(what string, n uint64) {
		t.Helper()
		defer func() { t.Logf("%5.1f s: frames go on: %s", time.Since(began).Seconds(), what) }()
		var was edgeState
		w.eventually(time.Minute, "the hub knows the edge: "+what, func() (ok bool) { was, ok = w.state(s.id); return ok && was.Sequence > 0 })
		w.eventually(time.Minute, "frames go on: "+what, func() bool {
			now, ok := w.state(s.id)
			return ok && (now.Epoch == was.Epoch && now.Sequence >= was.Sequence+n || now.Epoch != was.Epoch && now.Sequence >= n)
		})
	}
	more("at first", 5)
	refuses := regexp.MustCompile(`(?m)^langbiang_edge_buffer_disk_refuses (\d)`)
	shown := func(what, status, detail, metric string) {
		t.Helper()
		defer func() { t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }()
		w.eventually(time.Minute, what, func() bool {
			e, ok := w.state(s.id)
			resp, err := w.toField.Get("http://" + s.http + "/metrics")
			if !ok || err != nil {
				return false
			}
			defer func() { _ = resp.Body.Close() }()
			b, err := io.ReadAll(resp.Body)
			m := refuses.FindSubmatch(b)
			return err == nil && e.Status == status && strings.Contains(e.Detail, detail) && m != nil && string(m[1]) == metric
		})
	}
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EROFS} {
		s.facts.harmed = true // on a full disk safe segments make room
		disk.Fail(errno)
		shown("the hub sees: "+errno.Error(), "disk", errno.Error(), "1")
		more("while the disk says: "+errno.Error(), 10)
		disk.Fail(0)
		shown("the hub sees that it is over: "+errno.Error(), "ok", "", "0")

		if errno == syscall.EIO {
			continue // a start on a broken disk is like one on a full one
		}
		s.kill()
		disk.Fail(errno)
		s.start()
		shown("a start on a disk that says: "+errno.Error(), "disk", errno.Error(), "1")
		more("after a start on a disk that says: "+errno.Error(), 10)
		s.agent.kill() // and once more, without the counter of starts
		s.start()
		more("after another start on a disk that says: "+errno.Error(), 10)
		disk.Fail(0)
		shown("the hub sees that it is over after a start: "+errno.Error(), "ok", "", "0")
	}
	gaps := w.settle()
	w.judge(s, gaps[s.id])
	w.hub.stop()
	w.field.stop()
}
