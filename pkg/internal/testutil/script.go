package testutil

import (
	"net"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// WaitListen is the script command "waitlisten ADDRESS": it waits until a
// program listens there, for a minute at most.
func WaitListen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitlisten ADDRESS")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for {
		if c, err := net.Dial("tcp", args[0]); err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			ts.Fatalf("nothing listens at %s after a minute", args[0])
		}
	}
}
