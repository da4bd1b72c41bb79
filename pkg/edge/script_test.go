package edge

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/langbiang/langbiang/pkg/driver/drivertest"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

var updateScripts = flag.Bool("update", false, "write the expected output of the scripts anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"langbiang-edge": func() {
			os.Exit(Main(context.Background(), "v0.0.0-test", os.Args[1:], os.Stdout, os.Stderr))
		},
		bareLoop: runBareLoop,
	})
}

// The scripts in testdata/script are what people type, and what they read.
func TestCommandLine(t *testing.T) {
	field := drivertest.Field{}
	field.Load(144, shippedFixture(t, "ecowitt/ws90", "1.0.1").Registers())
	field.Holding(3, 500, 23, 1, 2, 90, 655, 0xFF9C, 553, 12, 30, 1005, 0, 1200, 12, 4)
	field.Holding(7, 5000, 1)
	bus := field.ServeTCP(t).Address
	broker := serveBroker(t)
	broker.publish(shippedFixture(t, "airgradient/open-air", "fw-3.1.3").Messages...)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *updateScripts,
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"ADDR1", "ADDR2", "ADDR3"} {
				e.Setenv(name, testutil.FreeAddress(t))
			}
			e.Setenv("BUS", bus)
			e.Setenv("BROKER", broker.url)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"waitlisten": testutil.WaitListen, "waitfile": testutil.WaitFile, "writelog": writeLog, "damage": damage},
	})
}
