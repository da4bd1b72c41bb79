package testutil

import (
	"net"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptWait bounds what a script waits for.
const scriptWait = time.Minute

// WaitListen is the script command "waitlisten ADDRESS": it waits until a
// program listens there, for a minute at most.
func WaitListen(ts *testscript.TestScript, neg bool, args []string) {
	waitFor(ts, neg, args, "waitlisten ADDRESS", "nothing listens at", func(address string) bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
}

// WaitFile is the script command "waitfile PATH": it waits until there is such a file,
// for a minute at most.
func WaitFile(ts *testscript.TestScript, neg bool, args []string) {
	waitFor(ts, neg, args, "waitfile PATH", "there is no", func(path string) bool {
		_, err := os.Stat(ts.MkAbs(path))
		return err == nil
	})
}

func waitFor(ts *testscript.TestScript, neg bool, args []string, usage, missing string, there func(string) bool) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: %s", usage)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(scriptWait)
	for !there(args[0]) {
		select {
		case <-tick.C:
		case <-limit:
			ts.Fatalf("%s %s after %v", missing, args[0], scriptWait)
		}
	}
}
