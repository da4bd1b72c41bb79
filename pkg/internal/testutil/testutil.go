// Package testutil holds the few things that tests of several packages share.
package testutil

import (
	"net"
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

// FreeAddress returns a loopback address whose port was free a moment ago.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return a
}
