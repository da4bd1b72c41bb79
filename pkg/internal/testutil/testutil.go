// Package testutil holds the few things that tests of several packages share.
package testutil

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// Eventually polls cond every few milliseconds until it holds, and fails the
// test with what when it has not after limit. It is for conditions of other
// processes and sockets, which nothing in this process can signal; the limit
// only bounds a failure.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %s", limit, what)
		case <-tick.C:
		}
	}
}

// FreeAddress returns a loopback address for a program that must be told where to
// listen. Until the test ends nobody else is given it: not another test that calls
// FreeAddress, in whatever process, and not who asks the system for any port, since
// it lies below the range from which the system takes those.
func FreeAddress(t testing.TB) string {
	t.Helper()
	first, end := 10_000, 32_768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &end) // as it was when it holds no number
	}
	if end < first+1_000 {
		first, end = 1_024, max(end, 2_048)
	}
	for range 1_000 {
		port := first + rand.IntN(end-first)
		claim, err := net.Listen("unix", fmt.Sprintf("@langbiang-test-%d", port)) // a name without a file; it goes with its process
		if err != nil {
			continue
		}
		a := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp", a); err == nil && l.Close() == nil {
			t.Cleanup(func() { _ = claim.Close() })
			return a
		}
		_ = claim.Close() // somebody listens there
	}
	t.Fatal("no free port")
	return ""
}
