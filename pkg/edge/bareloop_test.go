package edge

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// bareLoop is a command of the test program: ADDRESS BURST SPAN.
const bareLoop = "bareloop"

func runBareLoop() {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	burst, err := strconv.Atoi(os.Args[2])
	fail(err)
	span, err := time.ParseDuration(os.Args[3])
	fail(err)
	c, err := net.Dial("tcp", os.Args[1])
	fail(err)
	spent := func() time.Duration {
		var r syscall.Rusage
		fail(syscall.Getrusage(syscall.RUSAGE_SELF, &r))
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	request, answer := []byte{0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 10}, make([]byte, 29)
	start, before := time.Now(), spent()
	for next := start; time.Since(start) < span; {
		for range burst {
			_, err := c.Write(request)
			fail(err)
			_, err = io.ReadFull(c, answer)
			fail(err)
		}
		next = next.Add(time.Duration(burst) * 10 * time.Millisecond)
		<-time.After(time.Until(next))
	}
	fmt.Println(100 * (spent() - before).Seconds() / time.Since(start).Seconds())
	os.Exit(0)
}
